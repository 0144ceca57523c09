"""Networks to bring: code, weights, and files that would run code."""

import pytest
import torch

FACTORIES = """\
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.head = nn.Linear(4 * 15 * 15, outputs)

    def forward(self, images):
        maps = torch.relu(self.conv(images))
        return self.head(maps.view(len(maps), -1))  # needs the memory's plain order


def small(num_classes=7):
    return Small(num_classes)


def five():
    return Small(5)


def three():
    return Small(3)


def probabilities():
    return nn.Sequential(Small(3), nn.Softmax(1))


def infinite():
    network = Small(3)
    nn.init.constant_(network.head.bias, float("inf"))
    return network


class Pair(nn.Module):
    def forward(self, images):
        return images, images


def pair():
    return Pair()


def maps():
    return nn.Conv2d(3, 3, 3)


def number():
    return 7


def broken():
    raise KeyError("weights")


def half():
    return Small(3).half()


class Ends(nn.Module):
    def forward(self, images):
        raise SystemExit(4)


def ends():
    return Ends()


class OnGpu(Small):
    there = True

    def _apply(self, fn, recurse=True):
        self.there = False
        return super()._apply(fn, recurse)

    def forward(self, images):
        if self.there:
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().forward(images)


def on_gpu():
    return OnGpu(3)


def meta():
    return Small(3).to("meta")


def leaves():
    raise SystemExit(3)


def picky(first):
    return Small(3)
"""


class Opener:
    """Create a file when it is unpickled."""

    def __reduce__(self):
        return open, ("opened", "w")


@pytest.fixture
def networks(tmp_path):
    """Write a file of factories; return its path."""
    path = tmp_path / "networks.py"
    path.write_text(FACTORIES)
    return path


@pytest.fixture
def evil():
    """Return a function that writes a checkpoint which creates a file when it is unpickled."""

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {}, "more": Opener()}, path)
        return path

    return write
