"""Intervals over test images, for rows of a single network, which have none over seeds."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from selbench._kit.errors import MissingOutcomesError
from selbench.statistics.intervals import crossed_interval
from selbench.store import CELL, StudyStore
from selbench.store.findings import whole_name
from selbench.store.held import RIGHT
from selbench.tables.accuracies import Plan, averaged, ids
from selbench.tables.joined import Compared
from selbench.tables.published import half_widths_of


def half_widths(found: Compared, lone: Sequence[str], plan: Plan) -> pd.DataFrame:
    """Return half widths of 95 % intervals over images: networks by columns of accuracies.

    For a random network they are also over its draws.

    The value of an image is the share of conditions in which it is right. Intervals are not
    symmetric near 0 and 1; the longer side is used. NaN if there are no outcomes, as in a folder
    with only tables.

    Args:
        found: the compared measurements.
        lone: networks with a row of their own.
        plan: the conditions that columns average.
    """
    rows = found.rows[found.rows["subject"].isin(lone)]
    tables = []
    for study, store in found.stores:
        part = rows[(rows["study"] == study) & (rows["metric"] == "accuracy")]
        if len(part):
            tables += [_of_networks(store, part, plan, found.images)]
    foreign = rows[rows["study"].isin(found.published)]
    tables += [half_widths_of(foreign, plan)] if len(foreign) else []
    return pd.concat(tables) if tables else pd.DataFrame(dtype=float)


def _of_networks(
    store: StudyStore, rows: pd.DataFrame, plan: Plan, images: frozenset[int] | None
) -> pd.DataFrame:
    shares: dict[str, dict[str, pd.DataFrame]] = {}  # by network, one for each of its draws
    for subject, table in images_right(store, rows).items():
        counted = table if images is None else table[sorted(images)]
        shares.setdefault(whole_name(subject), {})[subject] = averaged(counted, plan)
    halves = {
        subject: pd.Series({name: _half([part[name] for part in draws.values()]) for name in share})
        for draws in shares.values()
        for subject, share in draws.items()
    }
    return pd.DataFrame(halves, dtype=float).T


def images_right(store: StudyStore, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return for each network which images are right, 0 or 1: ids of conditions by images.

    Networks without outcomes are left out. `rows` are the accuracies of one study.
    """
    keys = keys_of(store, rows.assign(subject=rows["own"], condition=rows["tested"]))
    known = {
        key: (name, str(network))
        for key, name, network in zip(keys, ids(rows), rows["subject"], strict=True)
        if key is not None
    }
    if not known:
        return {}
    try:
        outcomes = store.outcomes(set(known)).select(RIGHT).to_pandas()
    except MissingOutcomesError:  # they were deleted, so only intervals are missing
        return {}
    of_key = outcomes["key"].astype("category").cat
    names, networks = np.array(
        [known.get(key, ("", "")) for key in of_key.categories], dtype=object
    ).T
    table = pd.DataFrame(
        {
            "id": names[of_key.codes],
            "network": networks[of_key.codes],
            "example": outcomes["example"],
            "correct": (outcomes["prediction"] == outcomes["label"]).astype(float),
        }
    )
    return {
        str(network): part.pivot(index="id", columns="example", values="correct")
        for network, part in table.groupby("network")
    }


def keys_of(store: StudyStore, rows: pd.DataFrame) -> list[str | None]:
    """Return the key of each row's cell; None without a cell, as in a folder with only tables."""
    columns = [
        [
            None if none else value
            for value, none in zip(column.tolist(), column.isna(), strict=True)
        ]
        for column in (rows[name] for name in CELL)
    ]
    return list(map(store.keys_of_cells().get, zip(*columns, strict=True)))


def _half(draws: Sequence["pd.Series[float]"]) -> float:
    values = np.stack([each.to_numpy() for each in draws])
    values = values[:, ~np.isnan(values).all(axis=0)]  # images that only other conditions have
    if np.isnan(values).any() or values.shape[1] < 2:
        return math.nan
    found = crossed_interval(values)
    return max(found.high - found.value, found.value - found.low)
