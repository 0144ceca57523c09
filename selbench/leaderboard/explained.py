"""What explains robustness, of the measurements that can be compared with each other."""

from collections.abc import Sequence

import pandas as pd

from corruptions import CORRUPTIONS

REPRESENTATION = ("dimensionality", "representation", "representation-maps")
LAYERED = (*REPRESENTATION, "selectivity", "gradients", "elasticity")
# By column: suite, condition ("" for all corruptions) and metric.
MECHANISM = {
    "dimension": ("dimensionality", "clean", "dimension_fraction_95"),
    "change_corrupted": ("representation", "", "change_dimension_fraction_95"),
    "change_attacked": ("representation", "paper-pgd", "change_dimension_fraction_95"),
    "cv_samples": ("gradients", "clean", "input_gradient_cv_samples"),
    "cv_units": ("gradients", "clean", "input_gradient_cv_units"),
    "jacobian": ("jacobian", "clean", "jacobian_frobenius"),
    "distance": ("jacobian", "clean", "margin_distance_median"),
    "elasticity": ("elasticity", "clean", "elasticity_ratio"),
}


def explained(rows: pd.DataFrame, extra: bool = False, only: Sequence[str] = ()) -> pd.DataFrame:
    """Return the columns of `MECHANISM`, networks by columns."""
    whole = comparable(rows[rows["layer"].isna()], extra, only)
    suites = whole["suite"].str.removesuffix("-maps")
    columns = {}
    for column, (suite, condition, metric) in MECHANISM.items():
        chosen = whole[(suites == suite) & (whole["metric"] == metric)]
        wanted = (chosen["condition"] == condition) if condition else chosen["level"].notna()
        columns[column] = chosen[wanted].groupby("subject")["value"].mean()
    return pd.DataFrame(columns).rename_axis("subject")


def comparable(rows: pd.DataFrame, extra: bool = False, only: Sequence[str] = ()) -> pd.DataFrame:
    """Return the measurements whose representations were looked at alike, under like corruptions.

    Of units or of flattened maps, and of the layers that `dimensionality` looked at last; under
    the corruptions and severities that all networks have in common.

    Args:
        rows: current measurements.
        extra: count the four extra corruptions in.
        only: corruptions to count; none for all.
    """
    representation = rows["suite"].isin(REPRESENTATION)
    looks = rows["source"].map({source: look(source) for source in rows["source"].unique()})
    clean = looks[rows["suite"] == "dimensionality"]
    wanted = clean.iloc[0] if len(clean) else looks[representation].min()
    compared = rows["suite"].isin(REPRESENTATION) & rows["level"].notna()
    names = only or [name for name, each in CORRUPTIONS.items() if extra or not each.extra]
    kept = (~representation | (looks == wanted)) & (~compared | rows["condition"].isin(names))
    rows = rows[kept]
    compared = rows["suite"].isin(REPRESENTATION) & rows["level"].notna()
    cells = rows[compared].groupby(["condition", "level"])["subject"].nunique()
    networks = rows.loc[compared, "subject"].nunique()
    common = pd.MultiIndex.from_tuples(cells.index[cells == networks], names=["condition", "level"])
    places = pd.MultiIndex.from_frame(rows[["condition", "level"]])
    chosen: pd.DataFrame = rows[~compared.to_numpy() | places.isin(common)]
    return chosen


def look(source: str) -> str:
    """Return how networks were looked at, which stands in the source after where images come from.

    Such as "layers layer3" or "flattened maps"; "" for the units of all ReLUs.
    """
    return source.partition("; ")[2]


def looks_of(rows: pd.DataFrame) -> list[str]:
    """Say of every suite what it looked at, if that is not the units of all ReLUs."""
    layered = rows.loc[rows["suite"].isin(LAYERED), ["suite", "source"]].drop_duplicates()
    marks = layered["source"].map(look).str.split("; ").map(_unusual)
    pairs = sorted(set(zip(layered["suite"], marks, strict=True)))
    return [f"{suite} of {mark}" for suite, mark in pairs if mark]


def _unusual(marks: list[str]) -> str:
    return ", ".join(mark for mark in marks if mark not in ("", "probes", "exact"))
