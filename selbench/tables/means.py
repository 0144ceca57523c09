"""Means over levels, conditions and seeds; `accuracies.py` averages accuracies for tables."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from selbench.statistics.intervals import mean_interval

CONDITION = "condition"


def by_level(rows: pd.DataFrame) -> pd.DataFrame:
    """Return values as conditions and levels (-1 for none) by networks, NaN if missing."""
    table: pd.DataFrame = rows.assign(level=rows["level"].fillna(-1)).pivot(
        index=[CONDITION, "level"], columns="subject", values="value"
    )
    return table


def common(table: pd.DataFrame) -> pd.DataFrame:
    """Return the conditions and levels at which every network has a value; drop empty networks."""
    return table.dropna(axis=1, how="all").dropna(axis=0)


def by_condition(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over levels: conditions by the columns of the table."""
    found: pd.DataFrame = table.groupby(level=CONDITION).mean()
    return found


def mean(table: pd.DataFrame) -> pd.Series:
    """Return means over levels, then over conditions; NaN if a value is missing."""
    means: pd.Series = by_condition(table).mean()
    return means.where(table.notna().all())


def pooled(rows: pd.DataFrame) -> pd.Series:
    """Return each network's mean over the values at the conditions and levels that all have.

    Values are added in the order of rows, since the last digit depends on it.
    """
    places = pd.MultiIndex.from_frame(rows[[CONDITION, "level"]].fillna({"level": -1}))
    kept = rows[places.isin(common(by_level(rows)).index)]
    means: pd.Series = kept.groupby("subject")["value"].mean()
    return means


def over_seeds(values: Iterable[float], name: str) -> dict[str, float]:
    """Return the mean over networks, the half width of its 95 % interval, and their number."""
    kept = [value for value in values if value == value]
    value, half = mean_interval(kept)
    return {name: value, f"{name}_interval": half, f"{name}_n": len(kept)}


def log_odds(shares: pd.Series, images: "float | pd.Series[float]") -> pd.Series:
    """Return the log odds of shares of images; none and all count as half an image.

    Their differences between corrupted and clean images are effective robustness, with a line of
    slope 1 through alpha = 0: Taori et al., 2020, arXiv:2007.00644; Miller et al., 2021,
    arXiv:2107.04649.
    """
    kept = shares.astype(float).clip(0.5 / images, 1 - 0.5 / images)
    return (kept / (1 - kept)).transform(np.log)
