"""Leaderboards as lines of text: what stands in which table, and how numbers are written."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.api.typing import NAType

from selbench.leaderboard.columns import ATTACKS, COLUMNS, FAMILIES, MASKING, MEDIANS, Column
from selbench.leaderboard.explained import MECHANISM
from selbench.leaderboard.table import Groups, Leaderboard
from selbench.study import exactly

RANK = "rank"
ROOM = 8  # for names, beside all of the main columns on 80
Lines = list[list[str]]  # of a table, its headings first


def tables(board: Leaderboard, narrow: bool = False) -> dict[str, Lines]:
    """Return the tables of a leaderboard by their titles: more of them where it is `narrow`."""
    if board.groups:
        groups = board.groups
    elif board.columns:
        groups = {"": {name: COLUMNS[name] for name in board.columns}}
    else:
        groups = _groups(board, narrow)
    attacked = [title for title, columns in groups.items() if {*ATTACKS, *MEDIANS} & set(columns)]
    return {
        title: _lines(board.table, columns, flagged=title in attacked[-1:])
        for title, columns in groups.items()
        if columns
    }


def one_line(text: str) -> str:
    """Return text without what breaks a line or steers a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def _groups(board: Leaderboard, narrow: bool) -> Groups:
    """Return the tables of a leaderboard: the columns that have numbers, by their titles."""
    others = (*FAMILIES, *ATTACKS, *MEDIANS, *MECHANISM)
    shown = [name for name in COLUMNS if not COLUMNS[name].asked or name == board.sort]
    main, explained = [name for name in shown if name not in others], list(MECHANISM)
    if narrow:
        long = max(map(len, board.table["subject"]), default=0) > ROOM
        aside = ["selectivity", "null"] if long else []
        names = {
            "": [name for name in main if name not in aside],
            "selectivity": aside,
            "accuracy by family": [*FAMILIES],
            "attacks": [*ATTACKS],
            "smallest perturbations": [*MEDIANS],
            "dimensionality": explained[:3],
            "gradients and elasticity": explained[3:],
        }
    else:
        names = {"": [*main, *FAMILIES], "attacks": [*ATTACKS, *MEDIANS], "mechanism": explained}
    return {
        title: {name: COLUMNS[name] for name in part if board.table[name].notna().any()}
        for title, part in names.items()
    }


def _lines(table: pd.DataFrame, columns: Mapping[str, Column], flagged: bool) -> Lines:
    """Return a table; `flagged` has the flags of masked gradients, if there are any, beside it."""
    flagged = flagged and bool(table[MASKING].notna().any())
    first = [*([RANK] if RANK in table else []), _noun(table), "n"]
    heads = [*first, *(column.heading for column in columns.values())]
    lines = [[*heads, *(["masking flags"] if flagged else [])]]
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
    return "alpha" if len(alphas) and own.all() else "network"


def _rank(value: int | NAType) -> str:
    return "-" if isinstance(value, NAType) else str(value)


def quantity(row: pd.Series, name: str, column: Column) -> str:
    """Write a quantity for people: "97.1 ± 0.4"; "-" where it is missing.

    Where only some of a row's networks have it, how many follows: "97.1 ± 0.4 (n = 2)".
    """
    value, interval = row[name] * column.factor, row[f"{name}_interval"] * column.factor
    if np.isnan(value):
        return "-"
    text = f"{value:.{column.decimals}f}"
    if not np.isnan(interval) and column.interval:
        text = f"{text} ± {interval:.{column.decimals}f}"
    n = row.get(f"{name}_n", row["networks"])
    return text if n == row["networks"] else f"{text} (n = {n})"
