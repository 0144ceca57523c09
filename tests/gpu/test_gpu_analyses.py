"""Analyses measure the same on another device, and wait for it 20 times a layer at most."""

import pytest
import torch
from stand_in import DEVICE
from torch import nn

from selbench.datasets.dataset import make_split
from selbench.suites import Analysis, Comparison, Setting, collect

LAYERS = 6
BUDGET = 20
QUICK = {("dimensionality", "clean"), ("selectivity", "clean")}
SETTING = Setting(16, 16, 32, corruptions=("contrast",))
WORK = [
    *collect(("dimensionality", "selectivity"), SETTING),
    *collect(("jacobian", "elasticity"), Setting(16, 16, 32)),
]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
        for _ in range(LAYERS - 1):
            layers += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
        made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    return made.eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # layers that this network leaves constant
@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(
            each,
            id=f"{each.suite}-{each.name}",
            marks=[] if (each.suite, each.name) in QUICK else pytest.mark.soak,
        )
        for each in WORK
    ],
)
def test_analyses_measure_the_same_and_seldom_wait(gpu, piece):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 3, 16, 16), generator=generator).to(torch.uint8)
    split = make_split(pixels, torch.arange(12) % 3)
    made = (
        [[each.perturb(split.images, split.examples) for each in piece.conditions]]
        if isinstance(piece, Comparison)
        else []
    )
    assert isinstance(piece, Analysis | Comparison)
    expected = piece.measure(network(), split, *made, 3)
    there = [[gpu.put(each) for each in sets] for sets in made]
    with gpu.uncounted():
        elsewhere, moved = split.to(DEVICE), network().to(DEVICE)
    gpu.waits.clear()
    assert piece.measure(moved, elsewhere, *there, 3) == expected
    assert sum(gpu.waits.values()) <= BUDGET * LAYERS
