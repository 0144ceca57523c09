"""Leaderboards on terminals of several widths."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from studies import write_study

from selbench.store import StudyStore
from selbench.tables import leaderboard
from selbench.tables.fitting import fitting, shortened
from selbench.tables.formats import to_table

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def board():
    return leaderboard(StudyStore(RESULTS, "cifar10-jpeg-methods"))


def printed(board, width):
    console = Console(width=width, record=True, file=StringIO())
    console.print(to_table(board, width))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tables_fit_and_break_no_number_over_two_lines(board, width):
    lines = printed(board, width)
    assert max(map(len, lines)) <= width
    rows = [row for _, rows in fitting(board, width) for row in rows]
    texts = [" ".join(line.split()) for line in lines]
    assert all(" ".join(row) in texts for row in rows)


def test_wider_terminals_have_fewer_tables_of_the_same_columns(board):
    def columns(width):
        return [name for _, lines in fitting(board, width) for name in lines[0][2:]]

    assert len(fitting(board, 200)) < len(fitting(board, 80))
    assert sorted(columns(200)) == sorted(columns(80))


def test_long_names_lose_their_middle_and_stay_apart():
    names = ["runs/first/very-long-name-0.pth", "runs/first/very-long-name-1.pth", "short"]
    assert shortened(names, 13) == ["runs/f…-0.pth", "runs/f…-1.pth", "short"]
    ends = ["a0/same-long-name.pth", "a1/same-long-name.pth"]
    assert shortened(ends, 11) == ["a0/sa…e.pth", "a1/sa…e.pth"]
    same = ["begin-x-the-same-end", "begin-y-the-same-end"]
    assert shortened(same, 9) == same  # no nine characters tell them apart


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_a_long_name_is_cut_only_as_far_as_the_widest_table_needs(tmp_path, width):
    name = f"runs/{'x' * 120}/epoch-200.pth"
    board = leaderboard(write_study(tmp_path, alphas=(), brought=[name, "short"]))
    lines = printed(board, width)
    rules = [len(line.strip()) for line in lines if "──" in line]
    assert max(rules) == width
    (cut,) = {lines[1][0] for _, lines in fitting(board, width)}
    begin, end = cut.split("…")
    assert (name[: len(begin)], name[-len(end) :]) == (begin, end)


def test_a_name_with_room_for_it_is_not_cut(tmp_path):
    name = "a-name-of-more-than-a-third-of-a-line"
    board = leaderboard(write_study(tmp_path, alphas=(), brought=[name]))
    assert {lines[1][0] for _, lines in fitting(board, 80)} == {name}


def test_a_table_without_room_goes_on_below(board):
    made = fitting(board, 40)
    assert "accuracy by family, continued" in [title for title, _ in made]
    assert all(lines[0][:2] == ["alpha", "n"] for _, lines in made)
