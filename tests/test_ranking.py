"""Chosen columns, their order, and ranks that overlapping intervals share."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from selbench.errors import SelbenchError
from selbench.leaderboard import COLUMNS, Leaderboard
from selbench.ranking import arranged
from selbench.tables import FORMATS, to_table

NAN = float("nan")


def board(study="study", **given):
    """Make a leaderboard of as many alphas as there are values; given are (value, half) pairs."""
    count = len(next(iter(given.values())))
    table = {"study": study, "subject": list(map(str, range(count))), "alpha": range(count)}
    table["networks"] = 3
    for name in COLUMNS:
        pairs = given.get(name, [(NAN, NAN)] * count)
        table[name], table[f"{name}_interval"] = zip(*pairs, strict=True)
    return Leaderboard(study, pd.DataFrame({**table, "masking": None}), "a caption")


def order(found):
    return list(found.table["subject"])


def ranks(found):
    return [None if pd.isna(rank) else rank for rank in found.table["rank"]]


def test_best_rows_come_first_and_overlapping_intervals_share_a_rank():
    found = arranged(board(clean=[(0.5, 0.2), (0.9, 0.1), (0.75, 0.1), (0.2, 0.01)]), sort="clean")
    assert order(found) == ["1", "2", "0", "3"]
    # 0.9 and 0.75 overlap, so do 0.75 and 0.5, but 0.9 surely beats 0.5; all beat 0.2.
    assert ranks(found) == [1, 1, 2, 4]


def test_less_is_better_where_it_is():
    found = arranged(board(mce=[(1.0, 0.0), (0.8, 0.01), (1.5, 0.01)]), sort="mce")
    assert order(found) == ["1", "0", "2"]
    assert ranks(found) == [1, 2, 3]


def test_a_network_without_an_interval_is_surely_worse_than_none():
    found = arranged(board(clean=[(0.9, 0.01), (0.1, NAN), (0.5, 0.01)]), sort="clean")
    assert order(found) == ["0", "2", "1"]
    assert ranks(found) == [1, 2, 1]


def test_missing_numbers_come_last_without_a_rank():
    found = arranged(board(clean=[(NAN, NAN), (0.5, 0.01)]), sort="clean")
    assert order(found) == ["1", "0"]
    assert ranks(found) == [1, None]


def test_equal_values_keep_the_order_of_alphas():
    assert order(arranged(board(clean=[(0.5, 0.1)] * 4), sort="clean")) == ["0", "1", "2", "3"]


def test_only_the_chosen_columns_are_left_in_their_order():
    found = arranged(board(clean=[(0.5, 0.1)], mce=[(1.0, 0.1)]), ["mce", "clean", "mce"])
    shown = ["mce", "mce_interval", "clean", "clean_interval"]
    assert list(found.table) == ["study", "subject", "alpha", "networks", *shown]
    assert order(found) == ["0"]


def test_without_wishes_nothing_changes():
    before = board(clean=[(0.5, 0.1), (0.9, 0.1)])
    after = arranged(before)
    assert after.table.equals(before.table)
    assert after.columns == ()


def test_unknown_and_empty_columns_are_refused():
    with pytest.raises(SelbenchError, match=r"^unknown column 'claen'; did you mean 'clean'"):
        arranged(board(clean=[(0.5, 0.1)]), ["claen"])
    message = (
        r"^the study mine has no numbers for the column fgsm; `selbench list` shows the suites"
    )
    with pytest.raises(SelbenchError, match=message):
        arranged(board("mine", clean=[(0.5, 0.1)]), sort="fgsm")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_what_was_chosen(name):
    found = arranged(board(clean=[(0.5, 0.1), (0.9, NAN)], mce=[(1, 0.1)] * 2), ["clean"], "clean")
    text = FORMATS[name]([found])
    assert "rank" in text
    assert "mCE" not in text
    assert "mce" not in text
    if name == "csv":
        table = pd.read_csv(StringIO(text))
        assert list(table["rank"]) == [1, 1]
    if name == "json":
        assert [row["rank"] for row in json.loads(text)[0]["rows"]] == [1, 1]


def test_the_terminal_shows_ranks():
    from rich.console import Console

    console = Console(width=80, record=True)
    console.print(to_table(arranged(board(clean=[(0.5, 0.1), (0.9, 0.01)]), sort="clean")))
    assert "rank alpha" in console.export_text()


def test_html_is_text_whatever_names_say():
    strange = board("<script>alert(1)</script>", clean=[(0.5, 0.1)])
    strange.table["subject"] = "<b>&\"'"
    text = FORMATS["html"]([strange])
    assert "<script>" not in text
    assert "<td>&lt;b&gt;&amp;&quot;&#x27;</td>" in text
    assert "<td>50.0 ± 10.0</td>" in text
    assert text.count("<section>") == text.count("</section>") == 1


def test_the_command_chooses_and_sorts(selbench, tiny_study, refused):
    selbench("run", tiny_study, "--suite", "clean")
    ended = selbench("leaderboard", "--columns", "clean", "--sort", "clean", "--format", "csv")
    table = pd.read_csv(StringIO(ended.out))
    columns = ["study", "rank", "subject", "alpha", "networks", "clean", "clean_interval"]
    assert list(table) == columns
    assert np.all(np.diff(table["clean"]) <= 0)
    assert refused("leaderboard", "--sort", "cleen") == (
        "unknown column 'cleen'; did you mean 'clean'?"
    )
