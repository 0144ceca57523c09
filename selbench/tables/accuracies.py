"""Accuracies averaged over levels, then conditions: of networks, or of one network's images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from selbench.metrics import READ
from selbench.store import condition_id
from selbench.suites.corrupted import CORRUPTED, SHIFTED
from selbench.tables.columns import COLUMNS, OF_FOLDERS

ATTACKED = ("attacks", "attacks-strong")
Levels = Mapping[str, list[str]]  # by condition: the ids of its rising levels
Plan = Mapping[str, Levels]  # by column: the conditions that it averages


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies of networks: ids of conditions by networks, NaN if not tested."""
    found = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    return found.assign(id=ids(found)).pivot(index="id", columns="subject", values="value")


def ids(rows: pd.DataFrame) -> list[str]:
    """Return the id of each row's condition, such as "corruptions/fog/3"."""
    levels = [None if pd.isna(level) else level for level in rows["level"].tolist()]
    return list(map(condition_id, rows["suite"].tolist(), rows["condition"].tolist(), levels))


def ids_to_average(
    rows: pd.DataFrame, table: pd.DataFrame, names: Sequence[str]
) -> dict[str, Levels]:
    """Return the ids that each column of accuracies averages, also for corruptions and folders.

    Args:
        rows: current measurements.
        table: from `accuracies`.
        names: the corruptions that count, at the severities that all networks with corruptions
            have.
    """
    found = _tested(rows)
    corrupted = [each for each in found if each.suite in CORRUPTED]
    others = [each for each in found if each.suite not in CORRUPTED]
    there = table.notna()
    every = others + _common(there, [each for each in corrupted if each.condition in names])
    plan = {name: {name: levels} for name, levels in _levels(corrupted).items()}
    folders = _levels([each for each in found if each.suite == SHIFTED])
    plan |= {f"{OF_FOLDERS}{name}": {name: levels} for name, levels in folders.items()}
    for name, metric in COLUMNS.items():
        if metric.reads.metric != "accuracy" or metric.average not in ("mean", "last"):
            continue
        named = bool(metric.reads.conditions)
        part = [each for each in (found if named else every) if metric.reads.has(*each[:-1])]
        last = slice(-1, None) if metric.average == "last" else slice(None)
        levels = _levels(part if named else _common(there, part))
        plan[name] = {each: levels[last] for each, levels in levels.items()}
    return {column: levels for column, levels in plan.items() if levels}


class _Tested(NamedTuple):
    """A condition at a level, under which accuracy was measured."""

    suite: str
    metric: str
    condition: str
    group: str
    id: str


def _tested(rows: pd.DataFrame) -> list[_Tested]:
    """Return each condition once, sorted by level."""
    found = rows.loc[(rows["metric"] == "accuracy") & rows["layer"].isna(), [*READ, "level"]]
    found = found.drop_duplicates(["suite", "condition", "level"])
    found = found.sort_values("level", kind="stable")
    return list(map(_Tested, *(found[name] for name in READ), ids(found)))


def averaged(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Return each column's mean over levels, then over conditions; NaN if one of them is missing.

    Values are added in order, since the last digit of committed numbers depends on it.

    Args:
        table: accuracies, ids of conditions by networks; or whether images of one network are
            right, ids by images.
        plan: what to average.

    Returns:
        networks, or images, by columns.
    """
    values = _Values(table)
    means = {name: values.by_condition(levels).mean(axis=0) for name, levels in plan.items()}
    return pd.DataFrame(means, index=table.columns)


def by_corruption(table: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """Return means over levels: conditions by the columns of the table."""
    return pd.DataFrame(_Values(table).by_condition(levels), sorted(levels), table.columns)


class _Values:
    """The values of a table of accuracies, by id; NaN if missing."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._places = {name: place for place, name in enumerate(table.index)}
        self._values = np.vstack([table.to_numpy(), np.full(len(table.columns), np.nan)])

    def by_condition(self, levels: Levels) -> np.ndarray:
        """Return means over levels: sorted conditions by the columns of the table."""
        means = np.empty((len(levels), self._values.shape[1]))
        for row, (_, ids) in zip(means, sorted(levels.items()), strict=True):
            places = [self._places.get(each, -1) for each in ids]
            row[:] = self._values[places].mean(axis=0)
        return means


def _common(tests: pd.DataFrame, tested: list[_Tested]) -> list[_Tested]:
    """Return the conditions that are common to all networks with any; `tests` says which have."""
    if not tested:
        return []
    asked = pd.Index([each.id for each in tested], dtype=object)
    there = tests.to_numpy()[tests.index.get_indexer(asked)]
    kept = there[:, there.any(axis=0)].all(axis=1)
    return [tested[place] for place in np.flatnonzero(kept)]


def _levels(tested: list[_Tested]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in tested:
        found.setdefault(each.condition, []).append(each.id)
    return dict(sorted(found.items()))
