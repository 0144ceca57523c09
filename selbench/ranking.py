"""Leaderboards with chosen columns, in an order that says no more than their intervals allow."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from selbench.errors import SelbenchError, unknown
from selbench.leaderboard import COLUMNS, Leaderboard

RANK = "rank"


def arranged(
    board: Leaderboard, columns: Sequence[str] | None = None, sort: str | None = None
) -> Leaderboard:
    """Return a leaderboard with the chosen columns, best rows first.

    With `sort`, a column "rank" says how many rows are surely better, plus one: rows whose 95 %
    intervals overlap share what the data cannot tell apart. A row without an interval (one
    network) is surely worse than none. Where neither more nor less of a quantity is better, the
    largest come first.

    Args:
        board: as derived.
        columns: names of `COLUMNS`; None for all.
        sort: the column to sort by; None for the order of the alphas.

    Raises:
        SelbenchError: for an unknown column, and for one that the study has no numbers for.
    """
    table = board.table
    columns = tuple(dict.fromkeys(columns or ()))
    for name in [*columns, *([sort] if sort else [])]:
        if name not in COLUMNS:
            raise unknown("column", name, COLUMNS)
        if table[name].isna().all():
            raise SelbenchError(
                f"the study {board.study} has no numbers for the column {name}; `selbench list` "
                "shows the suites that make some"
            )
    if sort:
        sign = COLUMNS[sort].better or 1
        order = (-sign * table[sort]).argsort(kind="stable")  # missing ones last
        table = table.iloc[order].reset_index(drop=True)
        table.insert(1, RANK, _ranks(sign * table[sort], table[f"{sort}_interval"]))
    if columns:
        shown = [part for name in columns for part in (name, f"{name}_interval")]
        facts = [name for name in ("study", RANK, "subject", "alpha", "networks") if name in table]
        table = table[[*facts, *shown]]
    return replace(board, table=table, columns=columns)


def _ranks(values: pd.Series, halves: pd.Series) -> pd.Series:
    """Return one more than the number of rows that lie wholly above each; NaN where missing."""
    low, high = values - halves, values + halves
    above = [(low > own).sum() for own in high]
    return pd.Series(above, values.index).add(1).where(values.notna()).astype("Int64")
