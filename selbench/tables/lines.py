"""Leaderboards as lines of text: the columns of each table, and the format of numbers."""

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
NETWORK = "network"  # the heading of rows that are not only alphas
FLAGS = "masking flags"  # the heading
Lines = list[list[str]]  # of a table, headings first


def tables(board: Leaderboard, narrow: bool = False) -> dict[str, Lines]:
    """Return the tables of a leaderboard by title; more of them if `narrow`."""
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
    """Return text in one line, escaped for terminals."""
    return printable(" ".join(text.splitlines()))


def _groups(board: Leaderboard, narrow: bool) -> Groups:
    """Return the columns with numbers of a leaderboard, by title of their table."""
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
    """Return the columns of these tables, in order."""
    columns = [column for table in names for column in shown.values() if column.table == table]
    return {column.name: column for column in sorted(columns, key=lambda each: _place(each, names))}


def _place(column: Metric, tables: Sequence[str]) -> tuple[int, int]:
    return tables.index(column.table), column.place


def _lines(table: pd.DataFrame, columns: Mapping[str, Metric], flagged: bool) -> Lines:
    """Return the lines of a table; `flagged` adds the flags of masked gradients, if any."""
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
    """Return the heading of rows: for alphas, networks of several studies, or users' networks."""
    alphas = table["alpha"].dropna()
    is_alpha = table.loc[alphas.index, "subject"].str.split(n=1).str[0] == alphas.map(exactly)
    return "alpha" if len(alphas) and is_alpha.all() else NETWORK


def _rank(value: int | NAType) -> str:
    return "-" if isinstance(value, NAType) else str(value)


def quantity(row: pd.Series, name: str, column: Metric) -> str:
    """Return a quantity as printed: "97.1 ± 0.4"; "-" if it is missing.

    If only some networks of a row have it, their number follows: "97.1 ± 0.4 (n = 2)". An index
    over only some activations is marked: "0.412*". A bound is the lower end of a range: "31.2 to
    44.8".
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
