"""Rows of one network: intervals over images, where outcomes are kept, and nowhere else."""

import shutil

import numpy as np
import pytest
from studies import CONDITIONS, write_study

from selbench.statistics.intervals import crossed_interval
from selbench.store import StudyStore
from selbench.tables import leaderboard
from selbench.tables.columns import COLUMNS
from selbench.tables.formats import FORMATS
from selbench.tables.ranking import arranged

SHARED = "of one network ± 95 % interval over test images alone"
ALONE = {"mca", "clean", "noise", "weather", "gaussian_noise", "fog", "saturate", "pgd_linf"}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def row(board, subject):
    return board.table.set_index("subject").loc[subject]


def half(*rights):
    """Return the half width for conditions of which so many of ten images are right."""
    hits = [np.arange(10) < right for right in rights]
    found = crossed_interval(np.mean(hits, axis=0)[None])
    return max(found.high - found.value, found.value - found.low)


def test_columns_of_accuracies_have_an_interval_over_images(root):
    found = row(leaderboard(write_study(root, seeds=(0,))), "0")
    assert found["clean_interval"] == pytest.approx(half(9))
    assert found["fog_interval"] == pytest.approx(half(7, 3))
    assert found["mca_interval"] == pytest.approx(half(8, 6, 7, 3))
    assert found["noise_interval"] == pytest.approx(half(8, 6))
    assert found["pgd_linf_interval"] == pytest.approx(half(5, 2))
    intervals = {name for name in COLUMNS if not np.isnan(found[f"{name}_interval"])}
    assert intervals == ALONE
    assert np.isfinite(found[["mce", "ratio"]].astype(float)).all()


def test_severities_are_averaged_before_corruptions(root):
    three = {key: each for key, each in CONDITIONS.items() if key[1:] != ("fog", 2)}
    found = row(leaderboard(write_study(root, seeds=(0,), conditions=three)), "0")
    noise = (np.arange(10) < 8) / 2 + (np.arange(10) < 6) / 2
    images = (noise + (np.arange(10) < 7)) / 2
    expected = crossed_interval(images[None])
    assert found["mca"] == pytest.approx(expected.value)
    reach = max(expected.high - expected.value, expected.value - expected.low)
    assert found["mca_interval"] == pytest.approx(reach)


def test_a_network_that_is_always_right_still_has_an_interval(root):
    board = leaderboard(
        write_study(root, seeds=(0,), conditions={("clean", "clean", None): ("", 10)})
    )
    found = row(board, "0")
    assert found["clean"] == 1
    assert found["clean_interval"] == pytest.approx(half(10))
    assert found["clean_interval"] > 0.1


def test_the_caption_says_what_intervals_are_over(root):
    alone = leaderboard(write_study(root, seeds=(0,))).caption
    assert SHARED in alone
    assert "over seeds" not in alone
    mixed = leaderboard(write_study(root / "mixed", brought=["mine.th"]))
    assert f"mean over seeds ± 95 % t interval; {SHARED}" in mixed.caption
    assert SHARED not in leaderboard(write_study(root / "several")).caption


def test_several_networks_have_the_interval_over_networks_alone(root):
    with_outcomes = leaderboard(write_study(root / "a"))
    without = leaderboard(write_study(root / "b", outcomes=False))
    assert FORMATS["csv"]([with_outcomes]) == FORMATS["csv"]([without])
    assert with_outcomes.caption == without.caption


@pytest.mark.parametrize("kept", ["cells", "some", "tables"])
@pytest.mark.sample
def test_without_outcomes_nothing_is_said_of_images(root, kept):
    store = write_study(root, seeds=(0,))
    if kept == "tables":
        shutil.rmtree(store.folder / "cells")
    else:
        paths = sorted(store.folder.glob("cells/*.parquet"))
        for path in paths if kept == "cells" else paths[:1]:
            path.unlink()
    board = leaderboard(StudyStore(root, "study"))
    assert np.isnan(row(board, "0")["clean_interval"])
    assert SHARED not in board.caption
    assert "one network each, without an interval" in board.caption


@pytest.mark.soak
def test_intervals_are_those_of_the_own_study_in_a_joined_table(root):
    one = write_study(root, "one", seeds=(0,))
    other = write_study(root, "other", seeds=(0,), alphas=(2,))
    board = leaderboard([one, other])
    assert row(board, "one: alpha=0")["clean_interval"] == pytest.approx(half(9))
    assert row(board, "other: alpha=2")["clean_interval"] == pytest.approx(half(7))


def test_ranks_use_intervals_over_images(root):
    board = leaderboard(write_study(root, seeds=(0,), alphas=(0, 1, 9)))
    assert list(arranged(board, ["clean"], "clean").table["rank"]) == [1, 1, 3]


def test_one_image_has_no_interval(root):
    store = write_study(root, seeds=(0,), images=1)
    assert np.isnan(row(leaderboard(store), "0")["clean_interval"])
