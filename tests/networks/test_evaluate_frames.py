"""What Python gives: options as arguments, frames, leaderboards, and errors that name arguments."""

import inspect
import pickle
import re
import sys
import types
from pathlib import Path
from shutil import rmtree

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn

import selbench as package
from selbench import tables
from selbench._kit.console import showing
from selbench._kit.errors import SelbenchError, naming_arguments, naming_options
from selbench.analyses.frames import Framed
from selbench.commands.run import run
from selbench.datasets import load_dataset
from selbench.evaluation import NetworkFacts
from selbench.store import StudyStore
from selbench.study import load_study
from selbench.tables import leaderboard, table

# Options of `selbench run` that evaluate has not: those of a study that is trained, of several
# networks, and of what is printed.
OF_STUDIES = {"study", "alpha", "seed", "trained", "checkpoint"}
OF_SEVERAL = {"budget", "margin", "threshold"}
PRINTED = {"format", "log", "dry_run", "quiet"}
PLURALS = {"suite": "suites", "corruption": "corruptions", "attack": "attacks"}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture
def digits(tiny_study):
    return load_dataset(load_study(str(tiny_study)).dataset)


def test_evaluate_takes_the_options_of_the_command():
    taken = {*inspect.signature(package.evaluate).parameters, *NetworkFacts.__annotations__}
    options = {PLURALS.get(name, name) for name in inspect.signature(run).parameters}
    assert options - taken == OF_STUDIES | OF_SEVERAL | PRINTED


def test_dir_names_what_there_is_before_it_is_imported():
    assert {*package.__all__, "corrupt", "__version__"} <= {*dir(package)}
    assert package.corrupt.__module__.startswith("corruptions")


def test_the_frame_has_no_empty_column_and_a_leaderboard(network, digits, few_conditions):
    found = package.evaluate(network, digits, ["clean", "corruptions"], name="mine")
    assert not any(found[name].isna().all() for name in found)
    board = found.leaderboard()
    (row,) = board.frame().to_dict("records")
    accuracy = found[found["metric"] == "accuracy"]
    assert row["subject"] == "mine"
    assert row["clean"] == accuracy.loc[accuracy["suite"] == "clean", "value"].item()
    assert "mine" in repr(board)
    assert "<table>" in board._repr_html_()
    assert accuracy.leaderboard("clean", sort="clean").columns == ("clean",)
    with pytest.raises(SelbenchError, match="unknown column 'cleam'"):
        found.leaderboard("cleam")
    assert pickle.loads(pickle.dumps(found)).equals(found)


def test_the_leaderboard_of_a_store_has_this_network_alone(network, digits):
    for name in ("first", "second"):
        with torch.no_grad():
            network[1].weight.mul_(0.5)
        found = package.evaluate(network, digits, "clean", name=name, store="runs")
        assert [*found.leaderboard().frame()["subject"]] == [name]


def test_the_leaderboard_is_of_the_measurements_and_derived_once(network, digits, monkeypatch):
    derived = []
    monkeypatch.setattr(
        table, "derived", lambda *words: derived.append(words) or tables.derived(*words)
    )
    given = {"name": "mine", "store": "runs", "limit": 20}
    found = package.evaluate(network, digits, "clean", **given)
    kept = pickle.loads(pickle.dumps(found[["value"]]))
    assert not derived
    expected = leaderboard(StudyStore(Path("runs"), digits.name)).frame()
    derived.clear()
    rmtree("runs")
    board = found.leaderboard().frame()
    found.leaderboard("clean")
    assert len(derived) == 1
    for each in (board, kept.leaderboard().frame()):
        pd.testing.assert_frame_equal(each, expected)
    assert "clean_interval" in board


REFUSED = {
    "layers": {"layers": "("},
    "columns": {"columns": "both"},
    "scale": {"scale": 7},
    "source": {"source": ""},
    "resize": {"resize": 40, "dataset": "digits"},
    "data": {"data": "here", "dataset": "digits"},
    "adversarials": {"adversarials": "none.npz", "suites": "attacks"},
    "engine": {"engine": "rey"},
    "address": {"address": "auto"},
    "logits": {"logits": "head"},
    "save_adversarials": {"save_adversarials": -1},
    "mean": {"mean": (1, 2)},
    "pixels": {"pixels": "uint16"},
    "eot": {"eot": 1},
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_arguments(name, network, digits):
    given = {"dataset": digits, "suites": "clean", **REFUSED[name]}
    with pytest.raises(SelbenchError) as refused:
        package.evaluate(network, **given)
    sentence = re.sub("`[^`]*`", "", str(refused.value))
    assert "--" not in sentence
    assert name in sentence


def test_options_of_commands_that_are_advised_stay():
    said = "--input-size 32 is odd; say --model timm:x, --layers REGEX, or `selbench run --suite a`"
    with pytest.raises(SelbenchError) as refused, naming_arguments():
        raise SelbenchError(said)
    assert str(refused.value) == (
        "input_size=32 is odd; say model=timm:x, layers=REGEX, or `selbench run --suite a`"
    )


def test_analyses_of_networks_return_frames_and_readable_lines(network):
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(12) % 3
    with_labels = ("class_selectivity", "local_elasticity", "clusterings")
    given = dict.fromkeys(with_labels, (network, images, labels))
    given |= {"perturbed_dimensionality": (network, images, images.flip(3))}
    names = [
        n for n in package.__all__ if "model" in inspect.signature(getattr(package, n)).parameters
    ]
    for name in {*names} - {"evaluate", "gradient_norms"}:  # of which tensors are asked
        found = getattr(package, name)(*given.get(name, (network, images)))
        for each in found if isinstance(found, tuple) else (found,):
            assert isinstance(each, Framed), name
            assert len(each.frame()) > 0
            assert not each.frame().isna().all().any()
            assert "tensor(" not in repr(each)
            assert len(repr(each)) < 300
    with pytest.raises(SelbenchError, match=r"the modules to look at with layers=REGEX"):
        package.dimensionality(network, images, layers="none")
    with naming_options(), pytest.raises(SelbenchError, match=r"to look at with --layers REGEX"):
        package.dimensionality(network, images, layers="none")


def test_a_frame_has_the_numbers_of_the_object(network):
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (layer,) = package.class_selectivity(network, images, torch.arange(12) % 3)
    assert layer.frame()["selectivity"].tolist() == layer.index.tolist()
    assert repr(layer).startswith(f"{layer.layer.name}: selectivity {layer.index.mean():.3f}")
    (cloud,) = package.dimensionality(network, images)
    assert cloud.frame()["components_95"].item() == cloud.components[0.95]


def test_notebooks_have_a_bar_that_needs_no_widgets(monkeypatch):
    shown = []

    class Handle:
        def update(self, what):
            shown.append(what)

    def display(what, display_id):
        shown.append(what)
        return Handle()

    fake = types.ModuleType("IPython.display")
    fake.HTML, fake.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    progress = showing(Console(force_jupyter=True))
    with progress.track("a <task>", 2) as step:
        step(2, "done")
    assert shown == [
        'a &lt;task&gt; <progress value="0" max="2"></progress> 0 of 2',
        'a &lt;task&gt; <progress value="2" max="2"></progress> 2 of 2  done',
        "",
    ]
