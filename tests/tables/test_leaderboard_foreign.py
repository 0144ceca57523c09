"""Published networks beside those of a store: their numbers, intervals, ranks, and what is said."""

import math

import pandas as pd
import pytest
from studies import CONDITIONS, write_study

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS
from selbench.tables.published import ALEXNET, BENCHMARKS, PREFIX, half_widths_of, published
from selbench.tables.ranking import arranged

PLACES = [PREFIX + name for name in BENCHMARKS]
USUAL = [name for name, corruption in CORRUPTIONS.items() if not corruption.extra]


def test_every_network_has_every_cell():
    for place, networks in zip(PLACES, (23, 13, 12), strict=True):
        rows = published(place)
        cells = rows.groupby("subject")[["condition", "level"]].nunique()
        assert len(cells) == networks
        assert (cells == [15, 5]).all(axis=None)
        assert len(rows) == 75 * networks
        assert rows["value"].between(0, 1).all()
        assert set(rows["condition"]) == set(USUAL) == set(ALEXNET)


def test_known_numbers_of_published_networks():
    board = leaderboard([], places=["published:cifar10-c"])
    table = board.table.set_index("subject")
    assert len(table) == 23
    # RobustBench's leaderboard of corruptions shows 73.46 and 92.78 %
    assert table["mca"]["Standard"] == pytest.approx(0.7346, abs=5e-5)
    assert table["mca"]["Diffenderfer2021Winning_LRR_CARD_Deck"] == pytest.approx(0.9278, abs=1e-4)
    assert table["mce"].isna().all()
    assert table["clean"].isna().all()
    for render in FORMATS.values():
        assert "Diffenderfer2021Winning" in render([board])


def test_imagenet_is_relative_to_alexnets_published_errors():
    board = leaderboard([], places=["published:imagenet-c"])
    mce = board.table.set_index("subject")["mce"]
    assert mce["Standard_R50"] == pytest.approx(0.767, abs=5e-3)  # 76.7 %, arXiv:1903.12261
    assert mce["AlexNet"] == pytest.approx(1, abs=2e-3)  # RobustBench took 5,000 of 50,000 images
    assert "mCE relative to AlexNet, as published (arXiv:1903.12261)" in board.caption
    other = leaderboard([], places=["published:imagenet-c"], reference="AlexNet")
    assert other.table.set_index("subject")["mce"]["AlexNet"] == 1


def test_a_store_is_ranked_among_them(tmp_path):
    conditions = {("clean", "clean", None): ("", 9)}
    conditions |= {("corruptions", name, level): ("noise", 8) for name in USUAL for level in (1, 2)}
    store = write_study(tmp_path, "mine", (), brought=["a.th"], conditions=conditions)
    board = arranged(leaderboard([store], places=["published:cifar10-c"]), sort="mca")
    table = board.table.set_index("subject")
    assert table["mca"]["a.th"] == pytest.approx(0.8)
    own = published("published:cifar10-c")
    easy = own[own["level"] <= 2].groupby("subject")["value"].mean()  # what both have
    assert table["mca"]["Standard"] == pytest.approx(easy["Standard"])
    assert (table["rank"]["a.th"], table["rank"]["Standard"]) == (1, 20)  # 10 images say little
    assert list(table["mca"]) == sorted(table["mca"], reverse=True)
    assert "a rank beside them says little: " in board.caption
    assert " is not cifar10" in board.caption
    assert "count as they come: mine: a.th; " in board.caption  # confidences are missing


def test_alphas_keep_their_names_and_reference(tmp_path):
    store = write_study(tmp_path, "mine")
    board = leaderboard([store], places=["published:cifar10-c"], only=["fog"])
    names = list(board.table["subject"])
    assert names[:2] == ["alpha=0", "alpha=1"]
    assert "mCE relative to alpha = 0 of the same seed" in board.caption
    assert board.table["mce"].notna().sum() == 25
    with pytest.raises(SelbenchError, match="published:cifar10-c does not say which images"):
        leaderboard([store], shared=True, places=["published:cifar10-c"])


def test_an_interval_covers_that_of_any_outcomes():
    rows = published("published:cifar10-c").query("subject == 'Standard' and condition == 'fog'")
    plan = {"fog": {"fog": [f"corruptions/fog/{level}" for level in range(1, 6)]}}
    half = half_widths_of(rows, plan).loc["Standard", "fog"]
    share = rows["value"].mean()
    least = 1.96 * math.sqrt(share * (1 - share) / 10_000)
    assert least < half < 1.05 * least
    perfect = half_widths_of(rows.assign(value=1.0), plan).loc["Standard", "fog"]
    assert 0 < perfect < 1e-3


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("published:cifar-c", "^unknown published benchmark 'cifar-c'; did you mean 'cifar10-c'"),
        ("published:", "^unknown published benchmark ''"),
    ],
)
def test_an_unknown_benchmark_is_refused(place, message):
    with pytest.raises(SelbenchError, match=message):
        leaderboard([], places=[place])


def test_alexnets_errors_leave_extra_corruptions_out(tmp_path):
    conditions = CONDITIONS | {("corruptions", "fog", 3): ("weather", 2)}
    store = write_study(tmp_path, "mine", (), brought=["a.th"], conditions=conditions)
    board = leaderboard(store, extra=True, reference="published:alexnet")
    errors = pd.Series({"gaussian_noise": 0.3, "fog": 0.6})
    expected = (errors / pd.Series(ALEXNET)[errors.index]).mean()
    assert board.table["mce"][0] == pytest.approx(expected)
    assert "has no published errors there: saturate" in board.caption
