"""One file adds a component: a corruption, attack, model, analysis, data set, figure or column.

Each is a package of its own, and is shown without another edit by `list`, the run, tables, the
report's glossary, figures and claims.
"""

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from selbench.figures import FIGURES

pytestmark = pytest.mark.long(7)

COMPONENTS = {
    "whiten": '''\
from corruptions.registry import corruption

@corruption("noise", {32: (0.1, 0.2, 0.3, 0.4, 0.5)}, extra=True)
def whiten(images, share):
    """Mix the image with white."""
    return images + share * (1 - images)
''',
    "signs": '''\
from selbench.attacks.gradient import fgsm
from selbench.attacks.norms import NORMS
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.suites import SUITES, Attack, Passes

def step(network, images, labels, examples):
    return fgsm(network, images, labels, (4 / 255,), NORMS["linf"])

@SUITES
def signs(setting):
    """One signed step."""
    return [Attack("signs", "signs-linf", (4.0,), step, Passes(1, 1), group="linf")]

METRICS(Metric("signs", "signs", "accuracy after one signed step", "signs", RowFilter(("signs",)),
               table="attacks"))
''',
    "slim": '''\
from torch import nn
from selbench.models import MODELS

@MODELS
def slim(classes: int, width: int = 4) -> nn.Module:
    """One convolution."""
    return nn.Sequential(nn.Conv2d(3, width, 5, 4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(49 * width, classes))
''',
    "weights": '''\
from selbench.metrics import METRICS, NUMBER, Metric, RowFilter
from selbench.store import Measurement
from selbench.suites import SUITES, Analysis, Passes

def measure(model, split, classes):
    norm = sum(float(each.square().sum()) for each in model.parameters()) ** 0.5
    return [Measurement("weight_norm", norm, len(split))]

@SUITES
def weights(setting):
    """The norm of a network's weights."""
    return [Analysis("weights", "clean", measure, Passes())]

METRICS(Metric("weight_norm", "weight norm", "norm of all weights", "weights",
               RowFilter(("weights",), "weight_norm"), unit=NUMBER, better=-1, bounds=(0, 1e9)))
''',
    "stripes": '''\
import torch
from selbench.datasets import DATASETS, Dataset
from selbench.datasets.dataset import make_split

@DATASETS
def stripes(root, progress):
    """Stripes of three orientations in noise."""
    def split(count, seed):
        noise = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        across = (torch.arange(32) % 8 < 4).float().expand(32, 32)
        kinds = torch.stack([across, across.T, (across + across.T) / 2])
        images = kinds[labels][:, None].expand(-1, 3, -1, -1)
        images = 0.7 * images + 0.3 * torch.rand(images.shape, generator=noise)
        return make_split((255 * images).byte(), labels)
    return Dataset("stripes", ("down", "across", "both"), split(48, 0), split(24, 1))
''',
    "norms": '''\
import matplotlib.pyplot as plt
from selbench.figures import FIGURES

@FIGURES
def weight_norms(rows, study):
    """Weight norms of all networks."""
    figure, axes = plt.subplots()
    norms = rows[rows["metric"] == "weight_norm"]
    axes.plot(norms["alpha"], norms["value"], "o")
    return figure
''',
    "certainty": """\
from selbench.metrics import METRICS, Metric, RowFilter

METRICS(Metric("certainty", "certainty", "how sure networks are of clean images", "clean",
               RowFilter(("clean",), "confidence"), better=0))
""",
}
STUDY = """\
alphas = [-1, 0, 1]
seeds = [0]
suites = ["clean", "corruptions-extra", "signs", "weights"]
dataset = { name = "stripes", validation = 6 }
model = { name = "slim", options = { width = 5 } }
recipe = { epochs = 1, batch_size = 14, learning_rate = 0.1, precision = "float32" }
"""
CLAIMS = """\
[[claim]]
id = "grow"
sentence = "Selectivity changes the norm of weights."
source = "a guess"
sure = "ours"

[[claim.tests]]
kind = "trend"
reading = { suite = "weights", metric = "weight_norm" }
between = [-1, 1]
direction = "up"

[[claim.tests]]
kind = "trend"
reading = { suite = "signs" }
between = [-1, 1]
direction = "up"

[[claim.tests]]
kind = "trend"
reading = { suite = "corruptions-extra", conditions = ["whiten"] }
between = [-1, 1]
direction = "up"
"""
HEADINGS = ("signs %", "weight norm", "certainty %")


@pytest.fixture
def ran(installed, selbench):
    """Install every component, run a study of them, and return what the run printed."""
    for name, source in COMPONENTS.items():
        installed(name, source)
    Path("mine.toml").write_text(STUDY)
    ended = selbench("run", "mine.toml", "--corruption", "whiten")
    assert ended.code == 0, ended.err
    return ended.out


def test_one_file_adds_each_component_everywhere(ran, selbench, monkeypatch):
    listed = {line.split()[0] for line in selbench("list").out.splitlines() if line[:1] == " "}
    assert {*COMPONENTS, "weight-norms", "weight_norm"} - {"norms"} <= listed

    assert all(heading in ran for heading in HEADINGS)
    asked = ("--columns", "whiten,signs,weight_norm,certainty", "--sort", "weight_norm")
    table = pd.read_csv(StringIO(selbench("leaderboard", *asked, "--format", "csv").out))
    assert table[["whiten", "signs", "weight_norm", "certainty"]].notna().all(axis=None)
    assert table["weight_norm"].is_monotonic_increasing  # less is better

    Path("mine-claims.toml").write_text(CLAIMS)
    ended = selbench("claims", "--claims", "mine-claims.toml", "--format", "json")
    assert ended.code == 0, ended.err
    (verdict,) = json.loads(ended.out)[0]["verdicts"]
    assert verdict["verdict"] != "not tested", verdict["reason"]
    assert len(verdict["effects"]) == 2 * 3  # on each side of alpha = 0

    told = selbench("run", "mine.toml", "--corruption", "whiten", "--seed", "7", "--dry-run").out
    assert "not known" not in told

    names = ("weight-norms", "tradeoff")  # all of them take long to draw
    drawn = {name: FIGURES[name] for name in names}
    monkeypatch.setattr("selbench.report.drawings.FIGURES", drawn)
    assert selbench("report", "-o", "site").code == 0
    pages = "".join(path.read_text() for path in Path("site").rglob("*.html"))
    assert all(heading in pages for heading in HEADINGS)
    assert "accuracy after one signed step" in pages
    assert "Weight norms of all networks" in pages
