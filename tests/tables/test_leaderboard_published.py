"""The papers' own figure through the leaderboard's code reads as the protocol does."""

import pytest
from published import CLEAN, HIDDEN, published

from corruptions import CORRUPTIONS
from selbench.tables import derived
from selbench.tables.formats import FORMATS
from selbench.tables.joined import Compared, labelled
from selbench.tables.ranking import arranged


@pytest.fixture(scope="module")
def board(test_data):
    return derived(Compared("published", labelled(published(test_data), "published")))


@pytest.fixture(scope="module")
def table(board):
    return board.table.set_index("alpha")


def test_every_readable_corruption_is_there(board, table):
    readable = [name for name in CORRUPTIONS if table[name].notna().all()]
    assert len(readable) == 12
    assert len(HIDDEN) == 15 - len(readable)
    assert list(table.index) == sorted(CLEAN)
    assert "10000 test images; 12 corruptions" in board.caption


def test_negative_alpha_helps_every_readable_corruption(table):
    negative = table.loc[[alpha for alpha in CLEAN if alpha < 0]]
    for name in CORRUPTIONS:
        if table[name].notna().all():
            assert (negative[name] > table.loc[0, name]).all(), name
    assert (negative["mca"].diff().dropna() < 0).all()  # the more so, the more negative
    assert (negative["mce"] < 1).all()
    assert table["mca"].idxmax() == table["ratio"].idxmax() == -2


def test_the_loss_of_positive_alpha_vanishes_after_dividing_by_clean_accuracy(table):
    positive = table.loc[[alpha for alpha in CLEAN if alpha > 0]]
    assert (positive["mca"] < table.loc[0, "mca"]).all()
    assert (positive["mce"] > 1).all()
    change = positive["ratio"] - table.loc[0, "ratio"]
    assert change.tolist() == pytest.approx([-0.0005, 0.004, 0.005, 0.007, 0.006], abs=6e-4)
    gain = table.loc[-2, "ratio"] - table.loc[0, "ratio"]
    assert gain == pytest.approx(0.061, abs=5e-4)


def test_numbers_are_those_of_the_figure(table):
    assert table.loc[-2, "mca"] == pytest.approx(0.161, abs=5e-4)
    assert table.loc[0, "mca"] == pytest.approx(0.126, abs=5e-4)
    assert table.loc[0, "clean"] == pytest.approx(0.5157)
    assert table.loc[2, "relative_mce"] < 1 < table.loc[2, "mce"]


def test_one_network_each_has_no_interval_and_it_is_said(board):
    assert "one network each, without an interval" in board.caption
    text = FORMATS["md"]([arranged(board, ["mca", "ratio"], "ratio")])
    assert text.splitlines()[4] == "| 1 | -2 | 1 | 16.1 | 0.305 |"
