"""Accuracies averaged over levels, then conditions: of networks, or of one network's images."""

from collections.abc import Mapping, Sequence

import pandas as pd

from selbench.leaderboard.columns import BUDGETS, FAMILIES
from selbench.store import condition_id

ATTACKED = ("attacks", "attacks-strong")
CORRUPTED = ("corruptions", "corruptions-extra")
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
    """Return what each column of accuracies averages.

    Args:
        rows: current measurements.
        table: of `accuracies`.
        names: the corruptions that count; of their severities, those of every network that was
            tested under any of them.
    """
    found = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    found = found.assign(id=ids(found)).drop_duplicates("id").sort_values("level", kind="stable")
    corrupted = found[found["suite"].isin(CORRUPTED)]
    counted = corrupted[corrupted["condition"].isin(names)]
    common = _common(table.loc[counted["id"]])
    counted = counted[counted["id"].isin(common)]
    attacked = _levels(found[found["suite"].isin(ATTACKED)])
    plan = {
        "clean": _levels(found[found["suite"] == "clean"]),
        "mca": _levels(counted),
        **{family: _levels(counted[counted["group"] == family]) for family in FAMILIES},
        **{name: {name: levels} for name, levels in _levels(corrupted).items()},
        **{column: _one(attacked, attack) for column, attack in BUDGETS.items()},
        "paper_pgd": {name: levels[-1:] for name, levels in _one(attacked, "paper-pgd").items()},
    }
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
    means = {name: by_condition(table, levels).mean(skipna=False) for name, levels in plan.items()}
    return pd.DataFrame(means, index=table.columns)


def by_condition(table: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """Return means over levels: conditions by what the table has as columns."""
    means = {
        name: table.reindex(chosen).mean(skipna=False) for name, chosen in sorted(levels.items())
    }
    return pd.DataFrame(means, index=table.columns).T


def _common(cells: pd.DataFrame) -> "pd.Index[str]":
    """Return the conditions of every network that has any of them."""
    return cells.dropna(axis=1, how="all").dropna(axis=0).index


def _levels(rows: pd.DataFrame) -> dict[str, list[str]]:
    return {str(name): list(part["id"]) for name, part in rows.groupby("condition", sort=True)}


def _one(levels: Levels, name: str) -> dict[str, list[str]]:
    return {name: levels[name]} if name in levels else {}
