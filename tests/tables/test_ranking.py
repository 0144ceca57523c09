"""Chosen columns, their order, and ranks that overlapping intervals share."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError
from selbench.suites import SUITES
from selbench.tables import Leaderboard, Remark
from selbench.tables.columns import COLUMNS
from selbench.tables.formats import FORMATS, to_table
from selbench.tables.ranking import arranged

NAN = float("nan")


def board(study="study", runs=(), **given):
    """Make a leaderboard of as many alphas as there are values; given are (value, half) pairs."""
    count = len(next(iter(given.values())))
    table = {"study": study, "subject": list(map(str, range(count))), "alpha": range(count)}
    table |= {"networks": 3, "images": 100}
    for name in COLUMNS:
        pairs = given.get(name, [(NAN, NAN)] * count)
        table[name], table[f"{name}_interval"] = zip(*pairs, strict=True)
        table[f"{name}_n"] = 3
    table = pd.DataFrame({**table, "masking": None})
    notes = {"relative_mce": "not in it: fog"}
    return Leaderboard(study, table, (Remark("a caption"),), notes=notes, runs=runs)


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
    shown = [part for name in ("mce", "clean") for part in (name, f"{name}_interval", f"{name}_n")]
    assert list(found.table) == ["study", "subject", "alpha", "networks", "images", *shown]
    assert order(found) == ["0"]


def test_without_wishes_nothing_changes():
    before = board(clean=[(0.5, 0.1), (0.9, 0.1)])
    after = arranged(before)
    assert after.table.equals(before.table)
    assert after.columns == ()


def test_unknown_and_empty_columns_are_refused():
    with pytest.raises(SelbenchError, match=r"^unknown column 'claen'; did you mean 'clean'"):
        arranged(board(clean=[(0.5, 0.1)]), ["claen"])
    message = r"^mine has no numbers for the column fgsm; make some with `selbench run a --suite "
    runs = ("selbench run a", "selbench run b")
    with pytest.raises(SelbenchError, match=message + "attacks` and `selbench run b --suite attac"):
        arranged(board("mine", runs, clean=[(0.5, 0.1)]), sort="fgsm")
    message = "^mine has no numbers for the column fgsm; `selbench list` shows the suites that make"
    with pytest.raises(SelbenchError, match=message):
        arranged(board("mine", clean=[(0.5, 0.1)]), ["fgsm"])


def test_every_column_names_a_suite_that_makes_it():
    assert [name for name, column in COLUMNS.items() if column.suite not in SUITES] == []


def test_every_corruption_has_a_column_that_is_shown_when_asked_for():
    assert set(CORRUPTIONS) < set(COLUMNS)
    numbers = {name: [(0.5, 0.1)] for name in COLUMNS}
    text = FORMATS["md"]([board(**numbers)])
    for name in (*CORRUPTIONS, "relative_mce"):
        heading = COLUMNS[name].heading
        assert f" {heading} " not in text
        assert f" {heading} " in FORMATS["md"]([arranged(board(**numbers), [name])])
    table = pd.read_csv(StringIO(FORMATS["csv"]([board(**numbers)])))
    assert {part for name in COLUMNS for part in (name, f"{name}_interval", f"{name}_n")} < set(
        table
    )


def test_headings_lead_to_names():
    for word in ("corrupted", "corr./clean", "FGSM %", "fog"):
        with pytest.raises(SelbenchError, match=r"no numbers|did you mean '(mca|ratio|fgsm)'"):
            arranged(board(clean=[(0.5, 0.1)]), [word])


def test_notes_stand_below_the_columns_they_are_about():
    numbers = {"clean": [(0.5, 0.1)], "relative_mce": [(0.5, 0.1)]}
    assert arranged(board(**numbers), ["clean"]).caption == "a caption."
    for wish in ({"columns": ["relative_mce"]}, {"sort": "relative_mce"}):
        assert arranged(board(**numbers), **wish).caption == "a caption; not in it: fog."


def test_flags_stay_beside_what_attacks_leave():
    flagged = board(clean=[(0.5, 0.1)], fgsm=[(0.4, 0.1)])
    flagged.table["masking"] = "zero gradients (1 of 3)"
    assert "zero gradients" in FORMATS["md"]([arranged(flagged, ["clean", "fgsm"])])
    assert "zero gradients" not in FORMATS["md"]([arranged(flagged, ["clean"])])


def test_how_many_networks_have_a_number_is_said_where_not_all_do():
    some = board(clean=[(0.5, 0.1)], mce=[(1.5, 0.1)])
    some.table["mce_n"] = 2
    text = FORMATS["md"]([some])
    assert "150.0 ± 10.0 (n = 2)" in text
    assert "50.0 ± 10.0 |" in text


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
    facts = ["study", "rank", "subject", "alpha", "networks", "images"]
    assert list(table) == [*facts, "clean", "clean_interval", "clean_n"]
    assert np.all(np.diff(table["clean"]) <= 0)
    assert refused("leaderboard", "--sort", "cleen") == (
        "unknown column 'cleen'; did you mean 'clean'?"
    )
