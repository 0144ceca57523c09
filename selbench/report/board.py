"""The leaderboard as a page shows it: text to read, and numbers to sort by."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from selbench.leaderboard import COLUMNS, MASKING, Column, Leaderboard
from selbench.leaderboard.lines import quantity

GLOSSARY = {
    "selectivity": "class selectivity index, averaged over units, then over layers: 0 where units "
    "respond to all classes alike, 1 where each responds to one class alone",
    "null": "what the index would be without any selectivity: labels shuffled",
    "clean": "accuracy on the test images as they are",
    "mca": "mean corrupted accuracy: over severities, then over corruptions",
    "mce": "mean corruption error: the error on each corruption divided by that of the reference "
    "(alpha = 0 of the same seed), averaged; below 100 is better than the reference",
    "relative_mce": "the same, of what corruptions add to the clean error",
    "ratio": "how much of its clean accuracy a network keeps under corruptions",
    "noise": "accuracy under noise",
    "blur": "accuracy under blur",
    "weather": "accuracy under weather",
    "digital": "accuracy under digital corruptions",
    "fgsm": "accuracy under FGSM (one step, L-inf), averaged over budgets",
    "pgd_linf": "accuracy under PGD (40 steps, L-inf), averaged over budgets",
    "pgd_l2": "accuracy under PGD (40 steps, L2), averaged over budgets",
    "paper_pgd": "accuracy under the papers' PGD after its last step",
    "autoattack_linf": "accuracy under AutoAttack (L-inf), averaged over budgets",
    "autoattack_l2": "accuracy under AutoAttack (L2), averaged over budgets",
    "median_linf": "the budget (L-inf, 255ths) at which PGD fools half of the images",
    "median_l2": "the budget (L2, 255ths) at which PGD fools half of the images",
    "dimension": "share of units that are principal components for 95 % of the variance",
    "change_corrupted": "the same, of what corruptions change in activations",
    "change_attacked": "the same, of what the papers' PGD changes",
    "cv_samples": "how much the norms of units' gradients vary over images",
    "cv_units": "how much they vary over units",
    "jacobian": "norm of the outputs' derivatives by the image",
    "distance": "how far the nearest boundary between classes is, to first order",
    "elasticity": "how much more a training step moves images of its own class than others",
}


@dataclass(frozen=True)
class Heading:
    """A column's heading, and what it means ("" where that is plain)."""

    text: str
    meaning: str = ""


@dataclass(frozen=True)
class Entry:
    """A cell's text, and what it is sorted by ("" last or first)."""

    text: str
    order: str = ""


@dataclass(frozen=True)
class Board:
    """A table to sort and to filter."""

    headings: list[Heading]
    lines: list[list[Entry]]


def to_boards(board: Leaderboard) -> dict[str, Board]:
    """Return a leaderboard's tables by their titles; one with all its quantities has no title.

    Quantities without a number are left out, and those that are shown only where asked for.
    """
    if board.groups:
        return {title: _board(board.table, columns) for title, columns in board.groups.items()}
    shown = {name: column for name, column in COLUMNS.items() if not column.asked}
    return {"": _board(board.table, shown)}


def _board(table: pd.DataFrame, columns: Mapping[str, Column]) -> Board:
    names = [name for name in columns if name in table and table[name].notna().any()]
    flagged = MASKING in table and bool(table[MASKING].notna().any())
    headings = [Heading("alpha or network"), Heading("n", "networks, one per seed")]
    headings += [Heading(columns[name].heading, GLOSSARY.get(name, "")) for name in names]
    headings += [Heading("masking flags", "signs that gradients mislead")] if flagged else []
    lines = []
    for _, row in table.iterrows():
        alpha = "" if pd.isna(row["alpha"]) else repr(float(row["alpha"]))
        count = str(row["networks"])
        line = [Entry(str(row["subject"]), alpha), Entry(count, count)]
        line += [_entry(row, name, columns[name]) for name in names]
        line += [Entry(row[MASKING] or "-", row[MASKING] or "")] if flagged else []
        lines.append(line)
    return Board(headings, lines)


def _entry(row: pd.Series, name: str, column: Column) -> Entry:
    value = row[name] * column.factor
    return Entry(quantity(row, name, column), "" if pd.isna(value) else repr(float(value)))
