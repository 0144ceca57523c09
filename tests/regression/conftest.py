"""A model's file, a small suite of corruptions, and baselines made of bits."""

import numpy as np
import pytest
import torch

from selbench.models import build_model
from selbench.regression.baseline import (
    Baseline,
    RecordedNetwork,
    facts,
    read_baseline,
    write_baseline,
)
from selbench.study import ModelSpec

MOMENTS = ((0.3, 0.3, 0.3), (0.3, 0.3, 0.3))
SPEC = ModelSpec(name="resnet8", options={"width": 4})


@pytest.fixture
def network():
    """Return a function that builds an untrained network."""

    def build(seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build_model(SPEC, 3, MOMENTS).eval()

    return build


@pytest.fixture
def checkpoint(network, tmp_path):
    """Return a function that writes an untrained network's weights."""

    def write(seed=0, name=None):
        path = tmp_path / (name or f"net{seed}.pt")
        torch.save(network(seed).state_dict(), path)
        return path

    return write


@pytest.fixture
def made():
    """Return a function that makes a baseline of bits."""

    def make(conditions, **others):
        first = next(iter(conditions.values()))
        known = dict.fromkeys(conditions, ("generated", 1, ""))
        networks = tuple(
            RecordedNetwork(name=f"seed={n}", weights=str(n)) for n in range(len(first))
        )
        values = {
            "selbench": "0.1.0",
            "torch": "2.11",
            "study": "tiny",
            "subject": "alpha=0",
            "model": {"name": "resnet8"},
            "training": "",
            "dataset": "digits",
            "data": "abc",
            "test": first.shape[1],
            "examples": first.shape[1],
            "suites": ("corruptions",),
            "networks": networks,
            "conditions": facts(conditions, known, first.shape[1]),
        }
        return Baseline(**(values | others))

    return make


@pytest.fixture
def perfect():
    """Return a function that makes a written baseline recognise everything."""

    def rewrite(path):
        old = read_baseline(path)
        right = {name: np.ones_like(bits) for name, bits in old.correct().items()}
        known = {n: (c.source, c.version, c.data) for n, c in old.conditions.items()}
        conditions = facts(right, known, old.examples)
        write_baseline(old.model_copy(update={"conditions": conditions}), path)

    return rewrite
