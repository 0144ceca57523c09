"""Every piece of every suite measures the same on another device, and seldom waits for it."""

import inspect
from collections import Counter
from dataclasses import replace

import pytest
import torch
from stand_in import DEVICE
from torch import nn

from selbench._engine.ray_worker import Written
from selbench._kit.crew import map_in_turn
from selbench._kit.progress import quiet
from selbench._kit.randomness import seeded
from selbench.attacks.autoattack import autoattack
from selbench.datasets.dataset import make_split
from selbench.networks.network import Network
from selbench.study import MechanismSpec, ProbabilitySpec, SmoothingSpec
from selbench.suites import SUITES, HeldOut, Setting, collect
from selbench.suites.bench import Bench

LAYERS = 6
QUICK = {"dimensionality-clean", "selectivity-clean", "attacks-fgsm-linf", "stability-images"}
ROUGH = {"selectivity-axes"}  # products of stacked matrices round differently
# foolbox takes no tensors of the stand-in
OTHERS = ("attacks-strong-noise-l2", "attacks-strong-deepfool-l2")
PIXELS = torch.randint(256, (12, 3, 16, 16), generator=seeded("gpu", 0)).to(torch.uint8)
SPLIT = make_split(PIXELS, torch.arange(12) % 3)
SETTING = Setting(
    16,
    16,
    32,
    corruptions=("contrast",),
    mechanism=MechanismSpec(estimator="exact"),  # the stand-in supports no forward mode
    smoothing=SmoothingSpec(draws=20),
    probability=ProbabilitySpec(error=0.5, confidence=0.5, method="interval"),
    seeds=2,
    validation=HeldOut("", len(SPLIT), lambda seed: SPLIT),
)
WORK = {
    f"{each.suite}-{each.name}" + (f"-{each.level:g}" if each.level else ""): each
    for changed in ({}, {"in_files": True}, {"draws": 2})
    for each in collect(tuple(SUITES), replace(SETTING, **changed))
    if not each.reads_outcomes and not f"{each.suite}-{each.name}".startswith(OTHERS)
}


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
        for _ in range(LAYERS - 1):
            layers += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
        end = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3)]
    return nn.Sequential(*layers, *end).eval().requires_grad_(False)


def roughly(result):
    rows = [replace(row, value=pytest.approx(row.value)) for row in result.measurements]
    return replace(result, measurements=rows)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # layers that this network leaves constant
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[] if each in QUICK else pytest.mark.soak) for each in sorted(WORK)],
)
def test_work_measures_the_same_and_seldom_waits(gpu, name, monkeypatch):
    for option, number in (("queries", 20), ("iterations", 5)):
        monkeypatch.setitem(inspect.unwrap(autoattack).__kwdefaults__, option, number)
    calls, work = Counter(), WORK[name]

    def done(device):
        sink = Written()
        with gpu.uncounted():
            networks = {str(seed): network(seed).to(device) for seed in range(2)}
            images = SPLIT.to(device)
        given = [Network(w, float(w), 0, "", "", w, network) for w in networks]
        tasks = [t for t in work.tasks(given, SPLIT, None) if t.network.name == "0"]
        for each in networks.values():
            each.register_forward_pre_hook(lambda *_: calls.update([device]))
        gpu.waits.clear()
        gpu.operators = 0
        Bench(networks, images, 3, None, 0, sink, quiet, map_in_turn).do(tasks)
        assert not sink.failed
        return sink.results

    expected, found = done(torch.device("cpu")), done(DEVICE)
    if name in ROUGH:
        found = [(list(map(roughly, results)), outcomes) for results, outcomes in found]
    assert found == expected != []
    waits, passes = sum(gpu.waits.values()), calls[DEVICE]
    print(f"{name}: {waits} waits, {passes} passes, {gpu.operators} operators")  # noqa: T201
    # AutoAttack's searches may end early, and FAB waits more often. Images that have fallen are
    # rounded to 8 bits at every level.
    often, seldom = (2, 8) if "autoattack" in name else (1, 4)
    seldom = 10 if name.endswith("uint8") else seldom
    rare = seldom * len(work.levels) if work.is_attack else 20 * LAYERS
    assert waits <= often * passes + rare
    assert gpu.operators <= 200 * passes + 2000 * LAYERS
