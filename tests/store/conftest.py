"""Quick networks, some of which fail, and stores that runs leave."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from counted import begin_empty
from stopped import KilledError
from torch import nn

from selbench._kit import locks as locks_module
from selbench.datasets.dataset import Dataset, make_split
from selbench.networks.network import Network
from selbench.store import StudyStore, packs

CLASSES = 5


class Linear(nn.Module):
    """A network quick enough to be run often; it raises `problem` where it has one."""

    def __init__(self, seed, problem=None):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3 * 32 * 32, generator=generator))
        self.problem = problem

    def forward(self, images):
        if self.problem is not None:
            raise self.problem
        return F.relu(images).flatten(1) @ self.weight.T


@pytest.fixture
def subject():
    """Return a function that makes a network to be tested, which may raise a problem."""

    def make(seed, problem=None):
        return Network(
            name=f"alpha=0 seed={seed}",
            alpha=0.0,
            seed=seed,
            training="t",
            architecture="linear",
            weights=f"w{seed}",
            load=lambda: Linear(seed, problem),
        )

    return make


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = make_split(pixels, torch.arange(20) % CLASSES)
    return Dataset("noise", tuple("abcde"), split, split)


@pytest.fixture
def store(tmp_path):
    return StudyStore(tmp_path / "runs", "study", {"command": ["run"]})


@pytest.fixture
def unpacked(monkeypatch):
    """Leave files of cells as runs write them, as if they were not small."""
    monkeypatch.setattr(packs, "SMALL", 0)


@pytest.fixture
def stops(monkeypatch):
    """Return a function that makes the touch with a number the last; it counts them from 0."""
    genuine = {name: getattr(Path, name) for name in ("replace", "unlink")}
    state = {"left": -1, "seen": 0}

    def touching(name):
        def touch(path, *arguments, **options):
            if (path.suffix != ".lock" and path.name[0] != ".") or name == "replace":
                state["seen"] += 1
            if 0 <= state["left"] < state["seen"]:
                raise KilledError
            return genuine[name](path, *arguments, **options)

        return touch

    for name in genuine:
        monkeypatch.setattr(Path, name, touching(name))

    def stop(at):
        state.update(left=at, seen=0)
        return state

    return stop


@pytest.fixture
def servers():
    """Begin with servers that hold nothing."""
    begin_empty()


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the watcher's own clock on by some seconds."""
    now = [0.0]
    monkeypatch.setattr(locks_module.time, "monotonic", lambda: now[0])

    def on(seconds):
        now[0] += seconds

    return on
