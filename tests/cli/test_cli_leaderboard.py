"""The leaderboard: every format shows the same numbers, and no row mixes what is unlike."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from kept import measurements

from selbench.tables import FORMATS


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return where to keep one store that the tests of the formats share."""
    return tmp_path_factory.mktemp("finished") / "runs"


@pytest.fixture
def store(finished, selbench, tiny_study, few_conditions):
    """Return a store with the results of one study."""
    if not finished.exists():
        assert selbench("run", tiny_study, "--suite", "corruptions", "--store", finished).code == 0
    return finished


@pytest.mark.parametrize("name", ["table", *FORMATS])
def test_every_format_shows_every_alpha_and_is_the_same_twice(name, selbench, store):
    first = selbench("leaderboard", "--store", store, "--format", name)
    assert first.code == 0
    assert "tiny" in first.out
    assert selbench("leaderboard", "--store", store, "--format", name) == first


def test_formats_hold_the_same_numbers(selbench, store, tmp_path):
    def shown(name):
        return selbench("leaderboard", "tiny", "--store", store, "--format", name).out

    (tmp_path / "board.csv").write_text(shown("csv"))
    table = pd.read_csv("board.csv")
    rows = json.loads(shown("json"))[0]["rows"]
    assert list(table["alpha"]) == [row["alpha"] for row in rows] == [0, 1]
    for name in ("clean", "corrupted", "mce", "selectivity"):
        assert list(table[name]) == pytest.approx([row[name] for row in rows])
        digits = 3 if name == "selectivity" else 1
        factor = 1 if name == "selectivity" else 100
        for value in table[name]:
            for text in (shown("md"), shown("latex"), shown("table")):
                assert f"{value * factor:.{digits}f}" in text


def test_leaderboard_is_over_the_tidy_measurements(selbench, store):
    rows = json.loads(selbench("leaderboard", "--store", store, "--format", "json").out)[0]["rows"]
    accuracy = measurements(store).query("metric == 'accuracy' and alpha == 1")
    clean = accuracy.query("suite == 'clean'")["value"]
    corrupted = accuracy.query("suite == 'corruptions'").groupby("condition")["value"].mean()
    assert rows[1]["clean"] == pytest.approx(clean.item())
    assert rows[1]["corrupted"] == pytest.approx(corrupted.mean())


# One table never mixes what is unlike.


def board(selbench):
    return {
        row["subject"]: row
        for row in json.loads(selbench("leaderboard", "--format", "json").out)[0]["rows"]
    }


def test_a_study_changed_without_changing_its_weights_is_evaluated_anew(selbench, tiny_study, edit):
    before = selbench("run", tiny_study).out
    edit(tiny_study, "width = 4", 'width = 4, shortcut = "A"')  # the default, said aloud
    assert selbench("run", tiny_study).out == before


def test_the_same_weights_brought_and_trained_have_a_row_each(selbench, tiny_study, shared_home):
    selbench("run", tiny_study, "--alpha", "0")
    (weights,) = set(measurements()["weights"])
    manifests = shared_home.glob("weights/*/manifest.json")
    trained = next(path for path in manifests if json.loads(path.read_text())["weights"] == weights)
    checkpoint = trained.with_name("weights.safetensors")
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    rows = board(selbench)
    assert set(rows) == {"0", str(checkpoint)}
    assert rows["0"]["clean"] == rows[str(checkpoint)]["clean"]


def test_two_checkpoints_of_one_file_name_have_a_row_each(selbench, tiny_study, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    for folder, factor in (("a", 1), ("b", -1)):
        Path(folder).mkdir()
        torch.save({name: factor * tensor for name, tensor in state.items()}, f"{folder}/same.pth")
    words = ["--checkpoint", "a/same.pth", "--checkpoint", "b/same.pth"]
    assert selbench("run", tiny_study, *words).code == 0
    assert set(board(selbench)) == {"a/same.pth", "b/same.pth"}


def test_a_checkpoint_that_changed_takes_the_place_of_what_it_was(selbench, tiny_study, checkpoint):
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: -tensor for name, tensor in state.items()}, checkpoint)
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    assert board(selbench)[str(checkpoint)]["networks"] == 1
    assert len(set(measurements()["weights"])) == 2
