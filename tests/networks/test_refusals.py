"""Why a network is refused: the advice is about what is wrong with it."""

import pytest
import torch
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.datasets.dataset import make_split
from selbench.networks.loading import network_of


class Linear(nn.Module):
    """One linear layer on all pixels of images of so many channels and pixels a side."""

    def __init__(self, channels=3, side=32):
        super().__init__()
        self.head = nn.Linear(channels * side * side, 3)

    def forward(self, images):
        return self.head(images.flatten(1))


class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


class Failing(Linear):
    """Raises something in its own code."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem

    def forward(self, images):
        raise self.problem


class Needing(Linear):
    def forward(self, images):
        import a_package_that_nobody_has  # noqa: F401


class Giving(Linear):
    """Returns what `make` makes of logits."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, images):
        return self.make(super().forward(images))


@pytest.fixture
def three():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = make_split(images, torch.arange(6) % 3)
    return Dataset("three", ("a", "b", "c"), split, split)


REFUSED = {
    "one channel": (Grey(), r"of 3 channels: it takes 1 .*images.mean\(1, keepdim=True\), or"),
    "one channel, flat": (Linear(1), r"cannot take images of 3 channels: it takes 1 \("),
    "four channels": (Linear(4), r"cannot take images of 3 channels: it takes 4 .*makes 4 of"),
    "another side": (Linear(side=64), r"of 32 x 32 pixels .*; say --input-size 64, which it"),
    "no known side": (Linear(side=57), r"of 32 x 32 .*; say with --input-size which side it"),
    "a package": (Needing(), r"in its own code \(ModuleNotFoundError: .*nobody_has'; test_ref"),
    "a value": (Failing(ValueError("no alpha")), r"own code \(ValueError: no alpha; test_ref"),
    "a name": (Failing(NameError("size")), r"own code \(NameError: size; test_refusals.py, line"),
    "a dict": (
        Giving(lambda y: {"a": y, "b": y}),
        r"may be logits \(a, b\); choose one with --log",
    ),
    "a dict of none": (Giving(lambda y: {"a": y.sum()}), r"a dict, .* module that returns them$"),
    "an object": (Giving(lambda y: "logits"), r"a str, .* module that returns them$"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_advice_is_about_what_is_wrong(what, three):
    network, message = REFUSED[what]
    with pytest.raises(SelbenchError, match=message) as refused:
        network_of(network, "net", three)
    assert ("input-size" in str(refused.value)) is ("side" in what)
