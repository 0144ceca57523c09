"""Leaderboards with chosen columns, sorted with ranks that respect intervals."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from selbench._kit.errors import SelbenchError, UnmeasuredError, unknown
from selbench.tables.columns import (
    COLUMNS,
    COVERED,
    INDEX,
    MASKING,
    attacked,
    columns_of,
)
from selbench.tables.lines import RANK
from selbench.tables.relative import RELATIVE
from selbench.tables.spoilt import FINDINGS
from selbench.tables.table import FACTS, Leaderboard


def arranged(
    board: Leaderboard, columns: Sequence[str] | None = None, sort: str | None = None
) -> Leaderboard:
    """Return a leaderboard with the chosen columns, best rows first.

    With `sort`, a column "rank" is 1 + the number of rows that are clearly better: with a 95 %
    interval completely on the better side. Rows without an interval are clearly worse than none. If
    a quantity has no better side, the largest come first. Flags of masked gradients stay next to
    the results of attacks.

    Args:
        board: the leaderboard.
        columns: names of `COLUMNS`; None for all.
        sort: the column to sort by; None for the order of alphas.

    Raises:
        SelbenchError: for an unknown column.
        UnmeasuredError: for a column without numbers; it says how to measure them.
    """
    table = board.table
    columns = tuple(dict.fromkeys(columns or ()))
    wanted = tuple(dict.fromkeys([*columns, *([sort] if sort else [])]))
    for name in wanted:
        _check(board, name)
    if sort:
        sign = COLUMNS[sort].better or 1
        order = (-sign * table[sort]).argsort(kind="stable")  # missing values last
        table = table.iloc[order].reset_index(drop=True)
        table.insert(1, RANK, _ranks(sign * table[sort], table[f"{sort}_interval"]))
    if columns:
        shown = [part for name in columns for part in (name, f"{name}_interval", f"{name}_n")]
        facts = [name for name in ("study", RANK, *FACTS[1:]) if name in table]
        flags = [MASKING] if any(attacked(COLUMNS[name]) for name in columns) else []
        flags += [COVERED] if COVERED in table and INDEX & {*columns} else []
        flags += [FINDINGS] if FINDINGS in table else []
        table = table[[*facts, *shown, *flags]]
    notes = {name: text for name, text in board.notes.items() if name in table}
    return replace(board, table=table, columns=columns, notes=notes, sort=sort or "")


def _check(board: Leaderboard, name: str) -> None:
    if name not in columns_of(board.table):
        raise _unknown(name)
    if name in board.withheld or board.table[name].notna().any():
        return
    if name in RELATIVE and board.table["mca"].notna().any():
        raise UnmeasuredError(
            f"{board.study} has no numbers for the column {name}, which needs a reference that "
            "makes errors; name a row with --reference"
        )
    way = " and ".join(f"`{run} --suite {COLUMNS[name].suite}`" for run in board.runs)
    hint = f"make some with {way}" if way else "`selbench list` shows the suites that make some"
    raise UnmeasuredError(f"{board.study} has no numbers for the column {name}; {hint}")


def _unknown(name: str) -> SelbenchError:
    """Return the error for an unknown column; headings also suggest names."""
    near = headings().get(name.removesuffix(" %").lower())
    if near:
        return SelbenchError(f"unknown column {name!r}; did you mean {near!r}?")
    return unknown("column", name, COLUMNS)


def headings() -> dict[str, str]:
    """Return the columns' names by their headings."""
    return {column.heading.removesuffix(" %").lower(): key for key, column in COLUMNS.items()}


def _ranks(values: pd.Series, halves: pd.Series) -> pd.Series:
    """Return 1 + the number of rows completely above each row; NaN if missing."""
    low, high = values - halves, values + halves
    above = [(low > top).sum() for top in high]
    return pd.Series(above, values.index).add(1).where(values.notna()).astype("Int64")
