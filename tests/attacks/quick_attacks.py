"""The attacks that others wrote with less effort than the suite's, and what came of them."""

from functools import partial

import pytest
import torch
from networks import CLASSES, pictures

from selbench.attacks.autoattack import autoattack
from selbench.attacks.nearest import MINIMUM_NORM, hop_skip_jump, minimum_norm
from selbench.attacks.norms import NORMS
from selbench.attacks.strong import noise

EPSILONS = {"linf": (4 / 255, 12 / 255, 40 / 255), "l2": (0.1, 0.3, 1.0)}

# Every attack with less effort than the suite's: norm, and what takes network, images, labels,
# examples, epsilons.
ATTACKS = {
    **{
        f"autoattack-{norm}": (
            norm,
            partial(autoattack, norm=NORMS[norm], iterations=6, queries=60),
        )
        for norm in NORMS
    },
    **{name: (name.rpartition("-")[2], partial(minimum_norm, name=name)) for name in MINIMUM_NORM},
    "hopskipjump-l2": ("l2", partial(hop_skip_jump, steps=1)),
    **{f"noise-{norm}": (norm, partial(noise, norm=NORMS[norm])) for norm in NORMS},
}
GRADIENT_FREE = {"autoattack-linf", "autoattack-l2", "hopskipjump-l2", "noise-linf", "noise-l2"}

each_attack = pytest.mark.parametrize(("norm", "attack"), ATTACKS.values(), ids=ATTACKS)
each_norm = pytest.mark.parametrize("norm", NORMS)


def run(attack, network, batch=12, norm="linf", epsilons=None, **options):
    images, labels = pictures(batch)
    labels[::5] = (labels[::5] + 1) % CLASSES
    found = attack(
        network, images, labels, torch.arange(batch), epsilons or EPSILONS[norm], **options
    )
    return images, labels, found


def standing(found):
    return [(~each.fallen).sum().item() for each in found]


def gradient_free(found):
    return found[-1].checks["gradient_free"].double().mean().item()
