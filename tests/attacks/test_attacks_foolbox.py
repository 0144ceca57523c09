"""Attacks along gradients on a network that others trained: as foolbox's, and folded or not."""

import pytest
import torch
from networks import Linear, grey
from torch import nn

from selbench.attacks.folding import folded
from selbench.attacks.gradient import fgsm, pgd
from selbench.attacks.norms import NORMS


def test_folding_changes_no_logit_beyond_rounding(foreign, real):
    images, _ = real
    quicker = folded(foreign, images[:2])
    assert sum(isinstance(m, nn.Identity) for m in quicker.modules()) == 19
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quicker.modules())
    torch.testing.assert_close(quicker(images), foreign(images), rtol=1e-4, atol=1e-3)
    assert any(isinstance(m, nn.BatchNorm2d) for m in foreign.modules())


def test_a_network_without_batch_norm_is_left_alone():
    network = Linear()
    assert folded(network, grey(2)) is network


@pytest.mark.parametrize(
    ("ours", "attack"), [("linf", "LinfPGD"), ("l2", "L2PGD"), ("fgsm", "LinfFastGradientAttack")]
)
def test_the_same_examples_fall_as_to_foolbox(ours, attack, foreign, real):
    import foolbox

    images, labels = (part[::2] for part in real)
    epsilons = [1 / 255, 0.15] if ours == "l2" else [0.5 / 255, 1 / 255]
    options = {} if ours == "fgsm" else {"rel_stepsize": 0.25, "steps": 10, "random_start": False}
    theirs = getattr(foolbox.attacks, attack)(**options)
    wrapped = foolbox.PyTorchModel(foreign, bounds=(0, 1))
    _, _, expected = theirs(wrapped, images, labels, epsilons=epsilons)
    network = folded(foreign, images[:2])
    if ours == "fgsm":
        found = fgsm(network, images, (labels,), epsilons, NORMS["linf"])
    else:
        found = [
            pgd(network, images, (labels,), e, NORMS[ours], step=e / 4, steps=10, early=False)
            for e in epsilons
        ]
    for each, theirs_fallen in zip(found, expected, strict=True):
        assert 0 < theirs_fallen.sum() < len(images)
        assert (each.fallen != theirs_fallen).sum() <= 1
