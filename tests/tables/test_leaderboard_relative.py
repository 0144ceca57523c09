"""mCE and relative mCE: the definitions by hand, and what they are relative to."""

import json
import math

import pandas as pd
import pytest
from studies import CONDITIONS, write_study

from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS
from selbench.tables.ranking import arranged
from selbench.tables.relative import Reference, divided_by_reference, relative_errors

# Of ten images, right: clean, then severities 1 and 2 of each corruption.
RIGHT = {"clean": (9,), "gaussian_noise": (8, 6), "fog": (7, 3)}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def row(board, subject):
    return board.table.set_index("subject").loc[subject]


def by_hand(alpha, reference, beyond):
    """Sum errors over severities, divide them, and only then average over corruptions."""

    def amount(name, network):
        clean = (1 - (RIGHT["clean"][0] - network) / 10) if beyond else 0
        return sum(1 - (right - network) / 10 - clean for right in RIGHT[name])

    ratios = [amount(name, alpha) / amount(name, reference) for name in ("gaussian_noise", "fog")]
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize(("name", "alpha"), [(None, 0), ("alpha=0", 0), ("alpha=2", 2)])
@pytest.mark.sample
def test_numbers_are_those_of_the_definitions(root, name, alpha):
    """Hendrycks & Dietterich, 2019, section 4.1: CE and relative CE."""
    store = write_study(root, alphas=(0, 1, 2), seeds=(0,))
    board = leaderboard(store, reference=name)
    for column, beyond in (("mce", False), ("relative_mce", True)):
        for own in (0, 1, 2):
            assert row(board, str(own))[column] == pytest.approx(by_hand(own, alpha, beyond))
        assert row(board, str(alpha))[column] == pytest.approx(1)


def test_severities_are_summed_before_they_are_divided():
    errors = pd.DataFrame({"a": [0.5], "b": [0.25]}, index=["fog"])  # mean over severities
    networks = pd.DataFrame({"study": "s", "name": ["a", "b"], "seed": [0, 0]}, index=["a", "b"])
    found = divided_by_reference(Reference("a", ("a",), True), errors, networks)
    assert found.loc["fog"].to_dict() == {"a": 1, "b": 0.5}


def test_a_reference_of_seeds_is_compared_seed_by_seed(root):
    store = write_study(root, alphas=(0, 1), seeds=(0, 1))
    one = row(leaderboard(store, reference="alpha=1"), "1")
    assert (one["mce"], one["mce_interval"]) == (pytest.approx(1), pytest.approx(0))
    assert one["relative_mce_n"] == 2


def test_a_brought_network_can_be_the_reference(root):
    store = write_study(root, alphas=(0, 1), brought=["mine.th"])
    board = leaderboard(store, reference="mine.th")
    assert row(board, "mine.th")["mce"] == pytest.approx(1)
    # mine.th has as many errors as alpha 0 with seed 0; seed 1 has one more of every ten images.
    seeds = [by_hand(0, 0, False), by_hand(1, 0, False)]
    assert row(board, "0")["mce"] == pytest.approx(sum(seeds) / 2)
    assert "mCE relative to mine.th." in board.caption


def test_a_network_without_a_seed_is_compared_with_the_mean_over_the_references(root):
    board = leaderboard(write_study(root, brought=["mine.th"]))
    noise, fog = 0.3 / 0.35, 0.5 / 0.55
    assert row(board, "mine.th")["mce"] == pytest.approx((noise + fog) / 2)


def test_without_alpha_0_there_is_no_mce_and_the_way_to_some_is_said(root):
    board = leaderboard(write_study(root, alphas=(1, 2)))
    assert board.table[["mce", "relative_mce"]].isna().all(axis=None)
    assert "mCE" not in board.caption
    message = "study has no numbers for the column mce, which needs a reference .* with --reference"
    with pytest.raises(SelbenchError, match=message):
        arranged(board, ["mce"])
    named = leaderboard(StudyStore(root, "study"), reference="alpha=2")
    assert row(named, "2")["mce"] == pytest.approx(1)


def test_an_unknown_reference_is_refused(root):
    store = write_study(root, brought=["mine.th"])
    with pytest.raises(SelbenchError, match=r"^unknown reference 'alpha=3'; did you mean 'alpha="):
        leaderboard(store, reference="alpha=3")
    with pytest.raises(SelbenchError, match=r"known are alpha=0, alpha=1, mine\.th$"):
        leaderboard(store, reference="x")


def test_a_reference_that_saw_no_corruption_is_refused(root):
    one = write_study(root, "one")
    other = write_study(root, "other", alphas=(), brought=["b.th"], drop=("corruptions",))
    message = r"^the reference b\.th was not tested under these corruptions; test it with --suite"
    with pytest.raises(SelbenchError, match=message):
        leaderboard([one, other], reference="b.th")


def test_corruptions_that_give_nothing_to_divide_by_are_left_out_and_named(root):
    harmless = {("corruptions", "brightness", 1): ("weather", 9)}
    store = write_study(root, conditions=CONDITIONS | harmless)
    board, without = leaderboard(store), leaderboard(write_study(root / "without"))
    assert row(board, "1")["relative_mce"] == pytest.approx(row(without, "1")["relative_mce"])
    assert "brightness" not in board.caption  # alpha = 0 makes errors under it
    shown = arranged(board, ["relative_mce"])
    ending = "not in relative mCE, since alpha = 0 loses nothing by them: brightness."
    assert shown.caption.endswith("; " + ending)
    assert ending in FORMATS["md"]([shown])
    sorted_by = arranged(board, sort="relative_mce")
    assert "relative mCE %" in FORMATS["md"]([sorted_by])
    assert "relative mCE" not in FORMATS["md"]([board])
    assert '"notes": {\n   "relative_mce": "not in relative mCE' in FORMATS["json"]([board])


def test_the_caption_is_about_the_columns_that_are_shown(root):
    board = leaderboard(write_study(root))
    images, corruptions, *always, relative = board.caption.removesuffix(".").split("; ")
    assert corruptions == "2 corruptions, with their severities 4 generated"
    assert relative == "mCE relative to alpha = 0 of the same seed"
    assert arranged(board).caption == arranged(board, sort="mce").caption == board.caption
    for columns, about in {
        ("mce", "clean"): [images, corruptions, *always, relative],
        ("relative_mce",): [images, corruptions, *always, relative],
        ("ratio",): [images, corruptions, *always],
        ("fog", "clean"): [images, corruptions, *always],
        ("clean",): [images, *always],
    }.items():
        assert arranged(board, columns).caption == "; ".join(about) + ".", columns


def test_where_every_corruption_is_left_out_there_is_no_ratio(root):
    easy = {
        ("clean", "clean", None): ("", 9),
        ("corruptions", "fog", 1): ("weather", 10),
        ("corruptions", "snow", 1): ("weather", 10),
    }
    board = leaderboard(write_study(root, conditions=easy, seeds=(0,)))
    assert math.isnan(row(board, "1")["mce"])
    assert math.isnan(row(board, "1")["relative_mce"])
    assert "not in mCE, since alpha = 0 makes no error: fog, snow" in board.caption


def test_without_clean_accuracy_there_is_no_relative_mce(root):
    board = leaderboard(write_study(root, drop=("clean",)))
    assert row(board, "1")["mce"] > 1
    assert board.notes == {}
    assert math.isnan(row(board, "1")["relative_mce"])


def test_the_command_takes_a_reference(root, selbench, refused):
    write_study(root)
    out = selbench(
        "leaderboard", "--reference", "alpha=1", "--columns", "mce", "--format", "md"
    ).out
    assert "| 1 | 2 | 100.0 ± 0.0 |" in out
    assert refused("leaderboard", "--reference", "alpa=1") == (
        "unknown reference 'alpa=1'; did you mean 'alpha=1'?"
    )


def test_networks_that_have_nothing_right_have_no_ratio(root):
    few = CONDITIONS | {("clean", "clean", None): ("", 3)}
    board = leaderboard(write_study(root, alphas=(0, 3), seeds=(0,), conditions=few))
    assert row(board, "0")["ratio"] == pytest.approx(0.6 / 0.3)
    assert row(board, "3")["clean"] == 0 < row(board, "3")["mca"]
    assert math.isnan(row(board, "3")["ratio"])
    (content,) = json.loads(FORMATS["json"]([board]))
    assert "Infinity" not in json.dumps(content)


def test_a_corruption_that_costs_the_reference_nothing_but_rounding_is_left_out():
    names = ["a", "b"]
    errors = pd.DataFrame([[1 - 594 / 597 + 1e-16, 0.2]], index=["brightness"], columns=names)
    networks = pd.DataFrame(
        {"study": "s", "name": ["alpha=0", "alpha=1"], "alpha": [0.0, 1.0], "seed": [0, 0]}, names
    ).assign(clean=[594 / 597, 0.9])
    found = relative_errors(errors, networks, None)
    assert found.columns["relative_mce"].isna().all()
    assert found.left_out["relative_mce"] == ["brightness"]
