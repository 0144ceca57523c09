"""The leaderboard as a page shows it: text to read, and numbers to sort by."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from selbench.metrics import Metric
from selbench.tables import MASKING, Leaderboard, columns_of
from selbench.tables.lines import quantity

MANY = 10  # columns, from which on those that are not `USUAL` are hidden at first
USUAL = (
    *("selectivity", "clean", "mca", "mce", "ratio", "fgsm", "pgd_linf", "pgd_l2"),
    *("autoattack_linf", "autoattack_l2"),
)


PageOf = Callable[[str, str], str]


@dataclass(frozen=True)
class Heading:
    """A column's heading, what it means ("" where that is plain), and whether it shows at first."""

    text: str
    meaning: str = ""
    usual: bool = True


@dataclass(frozen=True)
class Entry:
    """A cell's text, what it is sorted by ("" last or first), and the page that it leads to."""

    text: str
    order: str = ""
    page: str = ""


@dataclass(frozen=True)
class Board:
    """A table to sort and to filter."""

    headings: list[Heading]
    lines: list[list[Entry]]


def _no_page(study: str, row: str) -> str:
    return ""


def to_boards(board: Leaderboard, page_of: PageOf = _no_page) -> dict[str, Board]:
    """Return a leaderboard's tables by their titles; one with all its quantities has no title.

    Quantities without a number are left out, and those that are shown only where asked for. The
    first entry of a row leads to `page_of` its study and its name.
    """
    if board.groups:
        groups = board.groups.items()
        return {title: _board(board.table, columns, page_of) for title, columns in groups}
    known = columns_of(board.table)
    shown = {name: column for name, column in known.items() if not column.asked}
    return {"": _board(board.table, shown, page_of, board.withheld)}


def _board(
    table: pd.DataFrame,
    columns: Mapping[str, Metric],
    page_of: PageOf,
    withheld: Collection[str] = (),
) -> Board:
    shown = table.columns[table.notna().any()].union([*withheld])
    names = [name for name in columns if name in table and name in shown]
    flagged = MASKING in table and bool(table[MASKING].notna().any())
    headings = [Heading(_whose(table)), Heading("n", "networks, one per seed")]
    few = len(names) < MANY
    headings += [
        Heading(columns[name].heading, columns[name].meaning, few or name in USUAL)
        for name in names
    ]
    headings += [Heading("masking flags", "signs that gradients mislead")] if flagged else []
    lines = []
    for _, row in table.iterrows():
        alpha = "" if pd.isna(row["alpha"]) else repr(float(row["alpha"]))
        count = str(row["networks"])
        page = page_of(str(row["study"]), str(row["subject"]))
        line = [Entry(str(row["subject"]), alpha, page), Entry(count, count)]
        line += [_entry(row, name, columns[name]) for name in names]
        line += [Entry(row[MASKING] or "-", row[MASKING] or "")] if flagged else []
        lines.append(line)
    return Board(headings, lines)


def _whose(table: pd.DataFrame) -> str:
    """Name the first column by what rows are of."""
    trained = table["alpha"].notna()
    return "alpha" if trained.all() else "alpha or network" if trained.any() else "network"


def _entry(row: pd.Series, name: str, column: Metric) -> Entry:
    value = row[name] * column.unit.factor
    return Entry(quantity(row, name, column), "" if pd.isna(value) else repr(float(value)))
