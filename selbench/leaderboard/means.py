"""The mean over severities, corruptions and seeds, of which every table and claim is made."""

import pandas as pd

from selbench.stats import mean_interval

CONDITION = "condition"


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what rows hold: conditions and levels (-1 for none) by networks, NaN for nothing."""
    table: pd.DataFrame = rows.assign(level=rows["level"].fillna(-1)).pivot(
        index=[CONDITION, "level"], columns="subject", values="value"
    )
    return table


def common(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that all networks have of which there is any."""
    return table.dropna(axis=1, how="all").dropna(axis=0)


def by_condition(table: pd.DataFrame, plain: bool = False) -> pd.DataFrame:
    """Return means over levels: conditions by what the table has as columns.

    Args:
        table: of cells, with the level `CONDITION` in its index.
        plain: add one value after another, as accuracies of the leaderboard always were; else
            lost digits are carried along, as claims and calibration always did. The last digit of
            committed numbers hangs on it.
    """
    if not plain:
        found: pd.DataFrame = table.groupby(level=CONDITION).mean()
        return found
    places: dict[str, list[int]] = {}
    for place, name in enumerate(table.index.get_level_values(CONDITION)):
        places.setdefault(name, []).append(place)
    values = table.to_numpy()
    means = {name: values[own].mean(axis=0) for name, own in sorted(places.items())}
    return pd.DataFrame(means, index=table.columns).T


def mean(table: pd.DataFrame, plain: bool = False) -> pd.Series:
    """Return means over levels, then over conditions; NaN where one of the cells is missing."""
    means: pd.Series = by_condition(table, plain).mean(skipna=not plain)
    return means if plain else means.where(table.notna().all())  # plain sums carry NaN along


def pooled(rows: pd.DataFrame) -> pd.Series:
    """Return means over all cells at once that networks have in common.

    In the order of the rows, on which the last digit hangs.
    """
    places = pd.MultiIndex.from_frame(rows[[CONDITION, "level"]].fillna({"level": -1}))
    kept = rows[places.isin(common(cells(rows)).index)]
    means: pd.Series = kept.groupby("subject")["value"].mean()
    return means


def over_seeds(values: pd.Series, name: str) -> dict[str, float]:
    """Return the mean over networks, half of its 95 % interval, and how many have a number."""
    value, half = mean_interval(values.astype(float).tolist())
    return {name: value, f"{name}_interval": half, f"{name}_n": int(values.notna().sum())}
