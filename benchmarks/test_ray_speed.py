"""The engine `ray` beside `local`: what it costs to send work to other processes."""

import os
import statistics
import sys
import time
from itertools import count

import pytest
import torch
from torch import nn

from selbench._engine import evaluate, plan
from selbench._engine.on_ray import OnRay
from selbench._kit.progress import SILENT
from selbench.datasets.dataset import Dataset, make_split
from selbench.networks.network import Network
from selbench.session import Session
from selbench.store import Measurement, Result, StudyStore
from selbench.suites import Condition, Setting, collect

CPU = torch.device("cpu")
WORKERS = 2
MOST = 1.15  # times as long as `local` takes
CELL, PLAN = 0.020, 2.0  # seconds


@pytest.fixture(scope="module")
def ray():
    """Start Ray with two workers of one CPU; starting is not timed."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'selbench[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    began = time.perf_counter()
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=WORKERS, **options)
    sys.stderr.write(f"\nRay starts in {time.perf_counter() - began:.1f} s\n")
    yield ray
    ray.shutdown()


def test_the_digits_study_takes_hardly_longer_on_ray(race, ray, tmp_path):
    """Target: at most 1.15 times the wall time of `local`, with two threads against two workers.

    Fifteen networks under one severity of each corruption, trained before.
    """
    torch.set_num_threads(WORKERS)
    session = Session.open("digits", None, None, "cpu", None, SILENT)
    subjects = session.train()
    works = collect(("corruptions",), session.setting())
    pieces = [piece for piece in works if piece.level in (None, 3)]
    stores = count()

    def run(engine):
        store = StudyStore(tmp_path / str(next(stores)), "digits")
        engine(subjects, pieces, session.dataset, store, CPU)

    assert race(lambda: run(OnRay().evaluate), lambda: run(evaluate), rounds=5) >= 1 / MOST


class Tiny(nn.Module):
    """A network that takes no time."""

    def __init__(self, seed):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 12), float(seed)))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


def tiny(seed):
    return Network(f"alpha=0 seed={seed}", 0.0, seed, "t", "tiny", f"w{seed}", lambda: Tiny(seed))


@pytest.fixture
def two_images():
    split = make_split(torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.arange(2))
    return Dataset("none", ("a", "b"), split, split)


def test_a_cell_is_scheduled_in_a_moment(ray, two_images, tmp_path):
    """Target: under 20 ms a cell, the network's and the condition's own work being nothing."""
    subjects = [tiny(seed) for seed in range(10)]
    pieces = [Condition("clean", f"number {number}") for number in range(20)]
    costs = []
    for number in range(4):
        store = StudyStore(tmp_path / str(number), "study")
        began = time.perf_counter()
        assert OnRay().evaluate(subjects, pieces, two_images, store, CPU) == 200
        costs.append((time.perf_counter() - began) / 200)
    cost = statistics.median(costs[1:])  # workers start in the first round
    sys.stderr.write(
        f"\na cell on Ray: {1000 * cost:.1f} ms of {[round(1000 * c, 1) for c in costs]}\n"
    )
    assert cost < CELL


def test_a_large_plan_is_made_in_a_moment(two_images, tmp_path):
    """Target: under 2 s for 100 networks under 95 conditions, on an empty store and a full one."""
    subjects = [tiny(seed) for seed in range(100)]
    pieces = [p for p in collect(("corruptions-all",), Setting(32, 32)) if isinstance(p, Condition)]
    pieces = [piece for piece in pieces if piece.name != "clean"]
    assert len(pieces) == 95
    store = StudyStore(tmp_path, "study")
    seconds = []
    for left in (95, 0):
        began = time.perf_counter()
        groups = plan(subjects, pieces, two_images.test, store)
        seconds.append(time.perf_counter() - began)
        assert len(groups) == left
        for group in groups:
            cells = [cell for task in group for cell in task.cells]
            store.write([Result(cell, [Measurement("accuracy", 0.5, 2)]) for cell in cells])
    sys.stderr.write(f"\nplan of 9,500 cells: {seconds[0]:.2f} s, {seconds[1]:.2f} s when done\n")
    assert max(seconds) < PLAN
