"""Leaderboards as lines of text: what stands in which table, and how numbers are written."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.typing import NAType

from selbench._kit.printable import printable
from selbench.metrics import Metric
from selbench.study import exactly
from selbench.tables.columns import (
    COLUMNS,
    COVERED,
    INDEX,
    MASKING,
    PARTIAL,
    TABLES,
    WIDE,
    attacked,
    columns_of,
)
from selbench.tables.table import Groups, Leaderboard

RANK = "rank"
NETWORK = "network"  # the heading of rows that are not alphas alone
FLAGS = "masking flags"  # the heading
Lines = list[list[str]]  # of a table, its headings first


def tables(board: Leaderboard, narrow: bool = False) -> dict[str, Lines]:
    """Return the tables of a leaderboard by their titles: more of them where it is `narrow`."""
    if board.groups:
        groups = board.groups
    elif board.columns:
        groups = {"": {name: COLUMNS[name] for name in board.columns}}
    else:
        groups = _groups(board, narrow)
    flagged = [title for title, columns in groups.items() if any(map(attacked, columns.values()))]
    return {
        title: _lines(board.table, columns, flagged=title in flagged[-1:])
        for title, columns in groups.items()
        if columns
    }


def one_line(text: str) -> str:
    """Return text of several lines as one, that steers no terminal."""
    return printable(" ".join(text.splitlines()))


def _groups(board: Leaderboard, narrow: bool) -> Groups:
    """Return the tables of a leaderboard: the columns that have numbers, by their titles."""
    shown = {
        name: column
        for name, column in columns_of(board.table).items()
        if (not column.asked or name == board.sort)
        and (name in board.withheld or board.table[name].notna().any())
    }
    others = [column.table for column in shown.values() if column.table not in TABLES]
    parts = {title: (title,) for title in TABLES} if narrow else WIDE
    return {
        title: _of_tables(shown, names)
        for title, names in {**parts, **{each: (each,) for each in others}}.items()
    }


def _of_tables(shown: Mapping[str, Metric], names: Sequence[str]) -> dict[str, Metric]:
    """Return the columns of these tables, one table after another."""
    own = [column for table in names for column in shown.values() if column.table == table]
    return {column.name: column for column in sorted(own, key=lambda each: _place(each, names))}


def _place(column: Metric, tables: Sequence[str]) -> tuple[int, int]:
    return tables.index(column.table), column.place


def _lines(table: pd.DataFrame, columns: Mapping[str, Metric], flagged: bool) -> Lines:
    """Return a table; `flagged` has the flags of masked gradients, if there are any, beside it."""
    flagged = flagged and bool(table[MASKING].notna().any())
    first = [*([RANK] if RANK in table else []), _noun(table), "n"]
    heads = [*first, *(column.heading for column in columns.values())]
    lines = [[*heads, *([FLAGS] if flagged else [])]]
    for _, row in table.iterrows():
        rank = [_rank(row[RANK])] if RANK in table else []
        line = [*rank, one_line(row["subject"]), str(row["networks"])]
        line += [quantity(row, name, column) for name, column in columns.items()]
        lines.append([*line, *([row[MASKING] or "-"] if flagged else [])])
    return lines


def _noun(table: pd.DataFrame) -> str:
    """Return what rows are: alphas, or networks of several studies, or brought ones alone."""
    alphas = table["alpha"].dropna()
    own = table.loc[alphas.index, "subject"] == alphas.map(exactly)
    return "alpha" if len(alphas) and own.all() else NETWORK


def _rank(value: int | NAType) -> str:
    return "-" if isinstance(value, NAType) else str(value)


def quantity(row: pd.Series, name: str, column: Metric) -> str:
    """Write a quantity for people: "97.1 ± 0.4"; "-" where it is missing.

    Where only some of a row's networks have it, how many follows: "97.1 ± 0.4 (n = 2)"; an index
    that covers a part of the activations is marked: "0.412*". A bound is the lower end of a range:
    "31.2 to 44.8".
    """
    unit = column.unit
    value, interval = row[name] * unit.factor, row[f"{name}_interval"] * unit.factor
    if np.isnan(value):
        return "-"
    text = f"{value:.{unit.decimals}f}"
    if column.most:
        same = [other for other in column.most if row[f"{other}_n"] == row[f"{name}_n"]]
        above = [row[other] for other in same if not np.isnan(row[other])]
        least = f"{min(above) * unit.factor:.{unit.decimals}f}" if above else "-"
        return f"{text} to {least}"
    if not np.isnan(interval) and not column.null_of:
        text = f"{text} ± {interval:.{unit.decimals}f}"
    if name in INDEX and row.get(COVERED):
        text += PARTIAL
    n = row.get(f"{name}_n", row["networks"])
    return text if n == row["networks"] else f"{text} (n = {n})"
