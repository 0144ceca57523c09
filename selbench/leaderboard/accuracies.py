"""Accuracies averaged over levels, then conditions: of networks, or of one network's images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from selbench.leaderboard.columns import COLUMNS
from selbench.leaderboard.means import CONDITION, by_condition, mean
from selbench.metrics import READ
from selbench.store import condition_id
from selbench.suites.corrupted import CORRUPTED

ATTACKED = ("attacks", "attacks-strong")
Levels = Mapping[str, list[str]]  # by condition: the ids of its levels, rising
Plan = Mapping[str, Levels]  # by column: what it averages


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what networks have right: ids of conditions by networks, NaN where not tested."""
    found = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    return found.assign(id=ids(found)).pivot(index="id", columns="subject", values="value")


def ids(rows: pd.DataFrame) -> list[str]:
    """Name the condition of each row, such as "corruptions/fog/3"."""
    levels = [None if pd.isna(level) else level for level in rows["level"]]
    return list(map(condition_id, rows["suite"], rows["condition"], levels))


def planned(rows: pd.DataFrame, table: pd.DataFrame, names: Sequence[str]) -> dict[str, Levels]:
    """Return what each column of accuracies averages, and each corruption that was measured.

    Args:
        rows: current measurements.
        table: of `accuracies`.
        names: the corruptions that count; of their severities, those of every network that was
            tested under any of them.
    """
    # One row per condition, of few columns: it is asked once for every metric.
    found = rows.loc[(rows["metric"] == "accuracy") & rows["layer"].isna(), [*READ, "level"]]
    found = found.drop_duplicates(["suite", "condition", "level"])
    found = found.sort_values("level", kind="stable").astype(dict.fromkeys(READ, object))
    found["id"] = ids(found)
    corrupted = found["suite"].isin(CORRUPTED)
    counted = _common(table, found[corrupted & found["condition"].isin(names)])
    every = pd.concat([found[~corrupted], counted])
    plan = {name: {name: levels} for name, levels in _levels(found[corrupted]).items()}
    for name, metric in COLUMNS.items():
        if metric.reads.metric != "accuracy" or metric.average not in ("mean", "last"):
            continue
        named = bool(metric.reads.conditions)
        part = metric.reads.chosen(found) if named else _common(table, metric.reads.chosen(every))
        last = slice(-1, None) if metric.average == "last" else slice(None)
        plan[name] = {each: levels[last] for each, levels in _levels(part).items()}
    return {column: levels for column, levels in plan.items() if levels}


def averaged(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Return each column's mean over levels, then conditions; NaN where one of them is missing.

    Args:
        table: accuracy, ids of conditions by networks; or whether one network has images right,
            ids by images.
        plan: what to average.

    Returns:
        networks, or images, by columns.
    """
    means = {name: mean(_cells(table, levels), plain=True) for name, levels in plan.items()}
    return pd.DataFrame(means, index=table.columns)


def by_corruption(table: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """Return means over levels: conditions by what the table has as columns."""
    return by_condition(_cells(table, levels), plain=True)


def _cells(table: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    names = [name for name, chosen in levels.items() for _ in chosen]
    ids = [each for chosen in levels.values() for each in chosen]
    cells: pd.DataFrame = table.reindex(ids)
    cells.index = pd.Index(names, name=CONDITION)
    return cells


def _common(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the conditions of every network that has any of them."""
    there = table.notna().to_numpy()[table.index.get_indexer(pd.Index(rows["id"]))]
    return rows.iloc[np.flatnonzero(there[:, there.any(axis=0)].all(axis=1))]


def _levels(rows: pd.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, each in zip(rows["condition"], rows["id"], strict=True):
        found.setdefault(name, []).append(each)
    return dict(sorted(found.items()))
