"""What other installed packages add to the registries."""

import json
from io import StringIO

import pandas as pd
import pytest

from corruptions import CORRUPTIONS
from selbench.datasets import DATASETS
from selbench.models import MODELS

MODULE = '''\
"""A plugin."""
from torch import nn

from corruptions.registry import corruption
from selbench.datasets import DATASETS
from selbench.datasets.digits import digits
from selbench.models import MODELS
from selbench.suites import SUITES, Condition

assert "resnet8" in MODELS  # may look around

@MODELS
def average(classes: int) -> nn.Module:
    """Linear in the mean colour."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))

@DATASETS
def numbers(root, progress):
    """Digits under another name."""
    return digits(root, progress)

@SUITES
def inverted(setting):
    """White on black."""
    return [Condition("inverted", "inverted", lambda images, examples: 255 - images)]

@corruption("digital", {32: (1, 2, 3, 4, 5)}, extra=True)
def darken(images, stops):
    """Halve the light `stops` times."""
    return images / 2**stops
'''


MEASURING = '''\
"""A plugin with a suite and its metrics."""
from selbench.metrics import METRICS, NUMBER, Metric, RowFilter
from selbench.store import Measurement
from selbench.suites import SUITES, Analysis, Condition

def weigh(model, split, classes):
    norm = sum(float(each.square().sum()) for each in model.parameters()) ** 0.5
    return [Measurement("weight_norm", norm, len(split))]

@SUITES
def inverted(setting):
    """White on black."""
    white_on_black = Condition("inverted", "inverted", lambda images, examples: 255 - images)
    return [white_on_black, Analysis("weights", "clean", measure=weigh)]

METRICS(Metric("inverted", "inverted", "accuracy on white <i>on</i> black", "inverted",
               RowFilter(("inverted",))))
METRICS(Metric("norm", "weight norm", "norm of all parameters", "inverted",
               RowFilter(("weights",), "weight_norm", ("clean",)), unit=NUMBER, better=-1,
               bounds=(0, 1e9)))
'''
CLAIM = """\
[[claim]]
id = "mine"
sentence = "Selectivity makes weights grow."
source = "a guess"
sure = "ours"

[[claim.tests]]
kind = "difference"
reading = { suite = "weights", metric = "weight_norm" }
between = [1, 1]
direction = "up"
"""


@pytest.mark.soak
def test_a_package_adds_models_data_sets_suites_and_corruptions(installed, selbench):
    installed("adding_package", MODULE)
    listed = {line.split()[0] for line in selbench("list").out.splitlines()}
    assert {"average", "numbers", "inverted", "darken"} <= listed
    assert list(CORRUPTIONS)[-1] != "gaussian_noise"
    words = ["--dataset", "numbers", "--suite", "inverted", "--limit", "20"]
    words += ["--model", "torchvision:shufflenet_v2_x0_5", "--input-size", "32", "--suite"]
    ended = selbench("run", *words, "corruptions-extra", "--corruption", "darken")
    assert ended.code == 0, ended.err
    assert "results in runs/numbers" in ended.err


@pytest.mark.soak
def test_a_metric_of_a_package_is_shown_everywhere_and_can_be_claimed(
    installed, selbench, refused, tiny_study, tmp_path
):
    installed("measuring_package", MEASURING)
    listed = selbench("list").out
    assert "  norm               weight norm: norm of all parameters (ours)\n" in listed
    ran = selbench("run", tiny_study, "--suite", "inverted")
    assert ran.code == 0, ran.err
    assert "further measurements" in ran.out
    assert "inverted %" in ran.out
    ended = selbench(
        "leaderboard", "--columns", "inverted,norm", "--sort", "norm", "--format", "csv"
    )
    table = pd.read_csv(StringIO(ended.out))
    assert table["norm"].is_monotonic_increasing  # less is better
    assert table["norm"].gt(0).all()
    assert table["inverted"].between(0, 1).all()
    (tmp_path / "mine.toml").write_text(CLAIM)
    words = ["--claims", tmp_path / "mine.toml", "--format", "json"]
    (verdict,) = json.loads(selbench("claims", *words).out)[0]["verdicts"]
    assert verdict["verdict"] == "inconclusive"  # of one seed
    assert verdict["effect"]["value"] != 0
    (tmp_path / "mine.toml").write_text(CLAIM.replace('"weights"', '"wieghts"'))
    sentence = "unknown suite of measurements 'wieghts'; did you mean 'weights'?"
    assert sentence in refused("claims", *words)
    ended = selbench("report", "--output", tmp_path / "site")
    assert ended.code == 0, ended.err
    page = (tmp_path / "site/leaderboard.html").read_text()
    assert "weight norm" in page
    assert "accuracy on white &lt;i&gt;on&lt;/i&gt; black" in page


def test_a_registry_that_is_looked_into_imports_plugins_once(installed):
    installed("counted_package", MODULE + "\nimport builtins\nbuiltins.print('imported')\n")
    assert "average" in MODELS
    assert "numbers" in DATASETS
    assert CORRUPTIONS["darken"].extra


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_2", "ModuleNotFoundError: No module named 'no_such_module_2'"),
        ("def f(:", "SyntaxError: "),
        ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
        (
            "from selbench.models import MODELS\n@MODELS\ndef resnet8(classes): ...",
            "ValueError: two models are named 'resnet8'",
        ),
        (
            "from corruptions.registry import corruption\n"
            "@corruption('weather', {})\ndef fog(images, x): ...",
            "ValueError: two corruptions are named 'fog'",
        ),
    ],
)
def test_a_broken_plugin_is_left_out_by_name(source, reason, installed):
    installed("broken_package", source)
    with pytest.warns(RuntimeWarning, match=f"plugin more of broken_package .*{reason}.*; mend it"):
        assert "resnet8" in MODELS
    assert "resnet20" in MODELS  # and it is said once
