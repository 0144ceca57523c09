"""The leaderboard: every format shows the same numbers, and no row mixes what is unlike."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from kept import measurements

from selbench.tables.formats import FORMATS

pytestmark = pytest.mark.long(15)


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
@pytest.mark.soak
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
    texts = [shown(name) for name in ("md", "latex", "table")]
    assert list(table["alpha"]) == [row["alpha"] for row in rows] == [0, 1]
    for name in ("clean", "mca", "mce", "selectivity"):
        assert list(table[name]) == pytest.approx([row[name] for row in rows])
        digits = 3 if name == "selectivity" else 1
        factor = 1 if name == "selectivity" else 100
        for value in table[name]:
            for text in texts:
                assert f"{value * factor:.{digits}f}" in text


def test_leaderboard_is_over_the_tidy_measurements(selbench, store):
    rows = json.loads(selbench("leaderboard", "--store", store, "--format", "json").out)[0]["rows"]
    accuracy = measurements(store).query("metric == 'accuracy' and alpha == 1")
    clean = accuracy.query("suite == 'clean'")["value"]
    corrupted = accuracy.query("suite == 'corruptions'").groupby("condition")["value"].mean()
    assert rows[1]["clean"] == pytest.approx(clean.item())
    assert rows[1]["mca"] == pytest.approx(corrupted.mean())


# One table never mixes what is unlike.


def board(selbench):
    return {
        row["subject"]: row
        for row in json.loads(selbench("leaderboard", "--format", "json").out)[0]["rows"]
    }


@pytest.mark.soak
def test_a_study_changed_without_changing_its_weights_is_evaluated_anew(selbench, tiny_study, edit):
    before = selbench("run", tiny_study).out
    edit(tiny_study, "width = 4", 'width = 4, shortcut = "A"')  # the default, said aloud
    assert selbench("run", tiny_study).out == before


@pytest.mark.soak
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


@pytest.mark.soak
def test_two_checkpoints_of_one_file_name_have_a_row_each(selbench, tiny_study, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    for folder, factor in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        torch.save({name: factor * tensor for name, tensor in state.items()}, f"{folder}/same.pth")
    words = ["--checkpoint", "a/same.pth", "--checkpoint", "b/same.pth"]
    assert selbench("run", tiny_study, *words).code == 0
    assert set(board(selbench)) == {"a/same.pth", "b/same.pth"}


@pytest.mark.soak
def test_a_checkpoint_that_changed_takes_the_place_of_what_it_was(selbench, tiny_study, checkpoint):
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: 2 * tensor for name, tensor in state.items()}, checkpoint)
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    assert board(selbench)[str(checkpoint)]["networks"] == 1
    assert len(set(measurements()["weights"])) == 2


# One network, several studies, and what cannot be shown.


def test_one_network_has_an_interval_over_its_images(selbench, store):
    ended = selbench("leaderboard", "--store", store, "--format", "json")
    (content,) = json.loads(ended.out)
    assert "of one network ± 95 % interval over test images alone" in content["caption"]
    clean = measurements(store).query("suite == 'clean' and metric == 'accuracy' and alpha == 1")
    row = content["rows"][1]
    assert row["clean"] == clean["value"].item()
    assert 0 < row["clean_interval"] < 0.5
    assert row["brightness_interval"] > 0
    assert row["mce_interval"] is None


def test_a_study_and_a_brought_network_stand_side_by_side(
    selbench, store, tiny_study, few_conditions, checkpoint
):
    words = ["--suite", "corruptions", "--checkpoint", checkpoint, "--store", "foreign"]
    assert selbench("run", tiny_study, *words).code == 0
    ended = selbench("leaderboard", store / "tiny", "foreign", "--format", "json")
    (content,) = json.loads(ended.out)
    rows = {row["subject"]: row for row in content["rows"]}
    assert list(rows) == ["alpha=0", "alpha=1", str(checkpoint)]
    assert rows["alpha=0"]["mce"] == pytest.approx(1)
    assert rows[str(checkpoint)]["mce"] > 0
    assert rows["alpha=0"]["study"] == f"{store}/tiny"
    brought = selbench("leaderboard", "--store", "foreign", "--reference", checkpoint).out
    assert "mCE relative to" in brought


@pytest.fixture
def command(store):
    """Return how the study was named in the command that made the store: by its file."""
    manifest = json.loads((store / "tiny" / "manifest.json").read_text())
    return next(word for word in manifest["command"] if word.endswith("tiny.toml"))


def test_what_was_not_measured_names_the_run_that_measures_it(store, refused, command):
    assert refused("leaderboard", "--store", store, "--columns", "clean,fgsm") == (
        f"tiny has no numbers for the column fgsm; make some with `selbench run {command} --store "
        f"{store} --suite attacks`"
    )
    assert refused("leaderboard", "--store", store, "--columns", "saturate").endswith(
        "--suite corruptions-extra`"
    )
    assert refused("leaderboard", "--store", store, "--corruption", "fog").endswith(
        "with --suite corruptions-all --corruption fog"
    )
    assert refused("leaderboard", "--store", store, "--limit", "7").endswith(
        f"make them with `selbench run {command} --limit 7 --store {store}`"
    )


@pytest.mark.soak
def test_studies_of_other_images_are_refused(selbench, store, tiny_study, image_tree, refused):
    image_tree("other", classes=3, test=5)
    words = ["--data", "other", "--suite", "clean", "--alpha", "0", "--store", "elsewhere"]
    assert selbench("run", tiny_study, *words).code == 0
    sentence = refused("leaderboard", store / "tiny", "elsewhere")
    assert sentence.startswith(f"{store}/tiny and elsewhere/tiny cannot be in one table: their ")


def test_no_such_place_column_format_or_reference(store, refused):
    assert refused("leaderboard") == (
        "there are no results in runs; make some with `selbench run`, or give --store"
    )
    assert refused("leaderboard", "--store", store, "tine").endswith("did you mean 'tiny'?")
    assert refused("leaderboard", "results/tiny").startswith("there is no folder results/tiny;")
    shown = ["leaderboard", "--store", store]
    assert (
        refused(*shown, "--columns", "corrupted")
        == "unknown column 'corrupted'; did you mean 'mca'?"
    )
    assert refused(*shown, "--format", "xml").startswith("unknown format 'xml'; ")
    assert refused(*shown, "--reference", "alpha=9").startswith("unknown reference 'alpha=9'; ")


@pytest.mark.soak
def test_c_bar_has_columns_of_its_own_and_changes_no_other(selbench, tiny_study):
    def table():
        Path("board.csv").write_text(selbench("leaderboard", "tiny", "--format", "csv").out)
        return pd.read_csv("board.csv")

    words = ("run", tiny_study, "--alpha", "0", "--quiet", "--suite")
    assert selbench(*words, "corruptions", "--corruption", "brightness").code == 0
    before = table()
    assert selbench(*words, "corruptions-bar", "--corruption", "ripple,lines").code == 0
    after = table()
    pd.testing.assert_frame_equal(after[[*before]], before)
    made = {"bar", "bar_distortion", "bar_obscuring", "ripple", "lines"}
    suffixes = ("", "_interval", "_n")
    assert {*after} - {*before} == {name + suffix for name in made for suffix in suffixes}
    accuracy = measurements().query("metric == 'accuracy' and suite == 'corruptions-bar'")
    assert after["bar"].item() == pytest.approx(accuracy["value"].mean())
    assert after["ripple"].item() == after["bar_distortion"].item()
    assert "C-bar obscuring %" in selbench("leaderboard", "tiny", "--format", "md").out
    refused = selbench("leaderboard", "tiny", "--corruption", "ripple")
    assert "ripple belongs to C-bar, which mCE leaves out; show it with --columns" in refused.err
