"""Images and budgets that no attack takes."""

import pytest
import torch
from networks import Linear, grey

from selbench.attacks.gradient import fgsm, pgd, pgd_curve, pgd_grid
from selbench.attacks.masking import examine
from selbench.attacks.norms import NORMS
from selbench.attacks.strong import noise


def attack_everyhow(network, images, labels, epsilons):
    examples = torch.arange(len(images))
    options = {"step": 0.01, "steps": 2}
    return {
        "fgsm": lambda: fgsm(network, images, labels, epsilons, NORMS["linf"]),
        "pgd": lambda: pgd(network, images, labels, epsilons[-1], NORMS["linf"], **options),
        "curve": lambda: pgd_curve(
            network, images, labels, epsilons[-1], NORMS["linf"], **options
        ),
        "grid": lambda: pgd_grid(
            network, images, labels, epsilons, NORMS["linf"], steps=2, relative_step=0.25,
            restarts=0, examples=examples, key="test",
        ),
        "examine": lambda: examine(network, images, labels, examples, tuple(epsilons)),
        "noise": lambda: noise(network, images, labels, examples, epsilons, NORMS["linf"]),
    }  # fmt: skip


ATTACKS = list(attack_everyhow(None, torch.empty(0), None, [0.1]))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("value", [-0.1, 1.2, torch.nan])
def test_images_outside_of_the_unit_cube_are_refused(name, value):
    images, labels = grey(4), torch.zeros(4, dtype=torch.int64)
    images[2, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"^images must lie in \[0, 1\], got values from .* to "):
        attack_everyhow(Linear(), images, labels, [0.1])[name]()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("epsilon", [0.0, -0.1])
def test_budgets_that_are_none_are_refused(name, epsilon):
    images, labels = grey(4), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^epsilons must be above 0 and rise, got \["):
        attack_everyhow(Linear(), images, labels, [epsilon])[name]()


def test_budgets_must_rise():
    images, labels = grey(4), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"must be above 0 and rise, got \[0.2, 0.1\]$"):
        attack_everyhow(Linear(), images, labels, [0.2, 0.1])["grid"]()
