"""Measurements that may explain robustness, as far as they can be compared."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from corruptions import CORRUPTIONS
from selbench.metrics import READ, IndexedRows, Metric
from selbench.suites.corrupted import CORRUPTED
from selbench.suites.index import MISSED
from selbench.tables.columns import COLUMNS
from selbench.tables.means import by_level, common, mean, pooled

REPRESENTATION = ("dimensionality", "representation", "representation-maps")
SHOWN = ("level", "subject", "source", "value")
LAYERED = (*REPRESENTATION, "selectivity", "gradients", "elasticity")


def explained(rows: pd.DataFrame, extra: bool = False, only: Sequence[str] = ()) -> pd.DataFrame:
    """Return the columns of means of measurements other than accuracies, by network."""
    rows = rows.loc[rows["layer"].isna() & (rows["metric"] != "accuracy"), [*READ, *SHOWN]]
    rows = comparable(rows.astype(dict.fromkeys([*READ, "subject", "source"], object)), extra, only)
    rows = rows.assign(suite=rows["suite"].str.removesuffix("-maps"))
    rows = rows[~rows["suite"].isin(CORRUPTED) | rows["condition"].isin(_counted(extra, only))]
    readable = IndexedRows(rows)
    parts = {
        name: (metric, readable.chosen(metric.reads))
        for name, metric in COLUMNS.items()
        if metric.reads.metric != "accuracy" and metric.average in ("mean", "pooled")
    }
    columns = {name: _mean(*part) for name, part in parts.items() if len(part[1])}
    return pd.DataFrame(columns).rename_axis("subject")


def _mean(metric: Metric, chosen: pd.DataFrame) -> pd.Series:
    """Return a metric of each network, over named conditions or those that all networks have."""
    if len({*zip(chosen["condition"], chosen["level"].fillna(-1), strict=True)}) == 1:
        lone: pd.Series = chosen.set_index("subject")["value"]
        return lone  # the usual case
    if metric.average == "pooled":
        return pooled(chosen)
    table = by_level(chosen)
    return mean(table if metric.reads.conditions else common(table))


def _counted(extra: bool, only: Sequence[str]) -> list[str]:
    return list(only) or [
        name for name, each in CORRUPTIONS.items() if not (each.bar or (each.extra and not extra))
    ]


def comparable(rows: pd.DataFrame, extra: bool = False, only: Sequence[str] = ()) -> pd.DataFrame:
    """Return the measurements with the same settings of analyses and the same corruptions.

    The settings (units or flattened maps, and layers) are those of the last `dimensionality`; the
    corruptions and severities are those that all networks have.

    Args:
        rows: current measurements.
        extra: also count the extra corruptions.
        only: corruptions to count; none for all.
    """
    representation = rows["suite"].isin(REPRESENTATION).to_numpy()
    if not representation.any():
        return rows
    chosen = ~representation
    kinds = rows.loc[representation, ["suite", "source", "condition", "level", "subject"]]
    which = kinds.groupby([*kinds], sort=False, dropna=False).ngroup().to_numpy()
    few = kinds.iloc[np.unique(which, return_index=True)[1]]  # few are different, of many rows
    chosen[representation] = np.array(_alike(few, set(_counted(extra, only))))[which]
    found: pd.DataFrame = rows[chosen]
    return found


def _alike(rows: pd.DataFrame, counted: Collection[str]) -> list[bool]:
    """Return which measurements of representations can be compared."""
    looks = rows["source"].map({source: look(source) for source in rows["source"].unique()})
    clean = looks[rows["suite"] == "dimensionality"]
    wanted = clean.iloc[0] if len(clean) else looks.min()
    tests = [
        (condition, None if pd.isna(level) else level)
        for condition, level in zip(rows["condition"], rows["level"], strict=True)
    ]
    having: dict[tuple[str, float | None], set[str]] = {}
    for tested, image_look, subject in zip(tests, looks, rows["subject"], strict=True):
        if image_look == wanted and tested[0] in counted and tested[1] is not None:
            having.setdefault(tested, set()).add(subject)
    networks = set[str]().union(*having.values())
    return [
        image_look == wanted and (tested[1] is None or having.get(tested) == networks)
        for tested, image_look in zip(tests, looks, strict=True)
    ]


def look(source: str) -> str:
    """Return the settings of an analysis, which the source has after the source of images.

    Examples are "layers layer3" and "flattened maps"; "" is for the units of all ReLUs.
    """
    return source.partition("; ")[2]


def looks_of(rows: pd.DataFrame) -> list[str]:
    """Return the settings of every suite, if they differ from the units of all ReLUs."""
    asked = ["suite", "source", "condition", "level", "subject"]
    layered = comparable(rows.loc[rows["suite"].isin(LAYERED), asked].drop_duplicates())
    layered = layered.drop_duplicates(["suite", "source"])
    marks = [_unusual(look(source).split("; ")) for source in layered["source"]]
    pairs = sorted(set(zip(layered["suite"], marks, strict=True)))
    return [f"{suite} of {mark}" for suite, mark in pairs if mark]


def _unusual(marks: list[str]) -> str:
    return ", ".join(mark for mark in marks if mark not in ("", "probes", "exact"))


def partly(rows: pd.DataFrame) -> dict[str, str]:
    """Return the part of activations in the index, for each network where it is not all.

    An example is {"mixed": "14 of 34 activations, not hardswish"}.
    """
    if not any(name.startswith(MISSED) for name in rows["metric"].unique()):
        return {}  # the usual case, which is fast to check
    index = rows[(rows["suite"] == "selectivity") & (rows["condition"] == "clean")]
    missed = index[index["metric"].str.startswith(MISSED)]
    layers = index[index["metric"] == "selectivity_index"].groupby("subject")["layer"].max()
    found = {}
    for subject, counts in missed.groupby("subject"):
        calls, known = int(counts["value"].sum()), int(layers[subject])
        kinds = ", ".join(counts["metric"].str.removeprefix(MISSED))
        found[str(subject)] = f"{known} of {known + calls} activations, not {kinds}"
    return found
