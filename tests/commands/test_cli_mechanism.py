"""The mechanism's suites as a user meets them: options, sets on disk, one sentence for mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from kept import measurements

ONE = ("--alpha", "0")  # of the study's two networks, where one serves
# 18 images, a network of two epochs: some layers are constant under some corruptions.
pytestmark = [
    pytest.mark.long(12),
    pytest.mark.usefixtures("few_probes"),
    pytest.mark.filterwarnings("ignore:.* is the same for all:RuntimeWarning"),
]


@pytest.fixture
def few_severities(monkeypatch):
    monkeypatch.setattr("selbench.suites.corrupted.SEVERITIES", (1, 5))
    monkeypatch.setattr("selbench.suites.representation.STEPS", 4)


@pytest.mark.usefixtures("few_severities")
def test_mechanism_runs_from_beginning_to_end_and_is_not_done_twice(selbench, tiny_study):
    words = ("run", tiny_study, *ONE, "--suite", "mechanism", "--corruption", "fog", "--limit", "9")
    ended = selbench(*words)
    assert ended.code == 0
    for title in ("tiny: dimensionality", "tiny: gradients and elasticity"):
        assert title in ended.out
    rows = measurements()
    suites = {"clean", "selectivity", "representation", "dimensionality"}
    assert set(rows["suite"]) == suites | {"gradients", "jacobian", "elasticity"}
    assert rows.loc[rows["layer"].notna(), "layer_name"].notna().all()
    assert rows.loc[rows["metric"] == "input_gradient_norm", "error"].notna().any()
    stamp = (Path("runs") / "tiny" / "manifest.json").read_bytes()
    assert selbench(*words).code == 0
    assert (Path("runs") / "tiny" / "manifest.json").read_bytes() == stamp
    assert selbench("figure", "gradients", "--output", "gradients.svg").code == 0


@pytest.mark.soak
def test_how_networks_are_looked_at_stands_in_the_rows(selbench, tiny_study, edit):
    words = ("run", tiny_study, *ONE, "--suite", "gradients", "--limit", "6")
    selbench(*words, "--estimator", "exact")
    assert set(measurements()["source"]) == {"original; exact"}
    edit(tiny_study, "[recipe]", '[mechanism]\nlayers = "layer3"\n\n[recipe]')
    selbench(*words)
    rows = measurements()
    assert set(rows["source"]) == {"original; exact", "original; layers layer3; probes"}
    chosen = rows[rows["source"].str.contains("layer3") & rows["layer"].notna()]
    assert chosen["layer_name"].str.startswith("network.layer3").all()


@pytest.mark.usefixtures("few_severities")
@pytest.mark.soak
def test_flattened_maps_are_a_suite_of_their_own(selbench, tiny_study):
    words = ("run", tiny_study, *ONE, "--suite", "dimensionality", "--corruption", "fog")
    selbench(*words)
    ended = selbench(*words, "--columns", "maps")
    assert "dim. %" in ended.out
    rows = measurements()
    assert set(rows["suite"]) == {"dimensionality", "representation", "representation-maps"}
    columns = rows[(rows["metric"] == "columns") & (rows["layer"] == 1)].set_index("source")
    assert set(columns.loc[["original"], "value"]) == {4}
    assert set(columns.loc[["original; flattened maps"], "value"]) == {4 * 32 * 32}


@pytest.mark.parametrize("layout", ["npy", "folder"])
@pytest.mark.soak
def test_corrupted_images_on_disk_are_compared_with_the_clean_ones(
    ran, selbench, tiny_study, layout
):
    selbench("corrupt", "images", "set", "--corruption", "fog,contrast", "--format", layout)
    words = (*ONE, "--suite", "dimensionality")
    ended = selbench("run", tiny_study, *words, "--source", "set")
    assert ended.code == 0, ended.err
    rows = measurements()
    stored = rows[rows["suite"].eq("representation") & rows["level"].notna()]
    assert set(stored["condition"]) == {"fog", "contrast"}
    own = stored.loc[stored["metric"] == "change_dimension_fraction_95"]
    ran(*words, "--corruption", "fog,contrast", store="made")
    made = measurements("made")
    key = ["subject", "condition", "level", "layer", "metric"]
    both = own.merge(made, on=key, suffixes=("", "_made"))
    assert len(both) == len(own)
    if layout == "npy":  # JPEG changes the images
        assert np.allclose(both["value"], both["value_made"])


@pytest.mark.soak
def test_a_set_on_disk_that_changed_is_compared_anew(selbench, tiny_study):
    selbench("corrupt", "images", "set", "--corruption", "fog", "--format", "npy")
    words = ("run", tiny_study, *ONE, "--suite", "dimensionality", "--source", "set")
    selbench(*words)
    before = changes_by_fog()
    images = np.load("set/fog.npy")
    np.save("set/fog.npy", 255 - images)
    Path("set/selbench-set.json").unlink()  # which says what was written
    assert selbench(*words).code == 0
    after = changes_by_fog()
    assert len(after) == 2 * len(before)
    assert after["data"].nunique() == 2


@pytest.mark.soak
def test_images_from_elsewhere_leave_the_comparisons_made_before(selbench, tiny_study):
    words = ("run", tiny_study, *ONE, "--suite", "dimensionality", "--corruption", "fog")
    selbench(*words)
    selbench("corrupt", "images", "set", "--corruption", "contrast")
    selbench("run", tiny_study, *ONE, "--suite", "dimensionality", "--source", "set")
    conditions = json.loads(Path("runs/tiny/manifest.json").read_text())["conditions"]
    compared = {name for name in conditions if name.startswith("representation/")}
    assert compared - {"representation/paper-pgd"} == {
        f"representation/contrast/{severity}" for severity in range(1, 6)
    }


def changes_by_fog():
    rows = measurements()
    change = rows["metric"] == "change_dimension_fraction_95"
    return rows[(rows["condition"] == "fog") & change & rows["layer"].isna()]


@pytest.mark.filterwarnings("ignore:.*labels.npy does not hold the labels of the 18 test images")
def test_other_pictures_have_no_change(selbench, refused, tiny_study):
    selbench("corrupt", "images", "set", "--corruption", "fog")
    labels = np.load("set/labels.npy")
    np.save("set/labels.npy", np.roll(labels, 1))
    Path("set/selbench-set.json").unlink()  # which says what was written
    message = refused("run", tiny_study, "--suite", "dimensionality", "--source", "set")
    assert message == (
        f"the images of fog in {Path('set').absolute()} may not be the test images in "
        "the same order, so representations cannot be compared; use --source generated"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--estimator", "guess"), "--estimator 'guess': input should be 'probes' or 'exact'"),
        (("--columns", "rows"), "--columns 'rows': input should be 'units' or 'maps'"),
        (("--layers", ""), "--layers '': string should have at least 1 character"),
        (("--layers", "("), "--layers '(': is no regular expression (missing ), unterminated sub"),
        (("--layers", "gelu"), "no module matches 'gelu'; name the modules to look at with --lay"),
    ],
)
def test_wrong_words_are_one_sentence(refused, tiny_study, words, sentence):
    assert refused("run", tiny_study, "--suite", "gradients", "-q", *words).startswith(sentence)


def test_an_unknown_key_of_a_study_gets_the_nearest(refused, tiny_study, edit):
    edit(tiny_study, "[recipe]", '[mechanism]\nlayer = "x"\n\n[recipe]')
    message = refused("run", tiny_study, "-q")
    assert "unknown key 'mechanism.layer'; did you mean 'mechanism.layers'?" in message
