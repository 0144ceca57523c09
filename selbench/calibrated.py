"""Calibration under shift: tables of a study's measurements, pure functions of its store."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from selbench.errors import UnmeasuredError
from selbench.leaderboard import Column, Groups, Leaderboard, Remark, current_rows
from selbench.leaderboard.current import command, images_taken, naming_command
from selbench.stats import mean_interval
from selbench.store import StudyStore
from selbench.study import count_of, exactly

SCORES = {
    "accuracy": Column("{} accuracy %"),
    "confidence": Column("{} confidence %", better=0),
    "cross_entropy": Column("{} NLL", 1, 3, better=-1),
    "brier": Column("{} Brier", 1, 3, better=-1),
}
NULL = Column("null", interval=False, better=0)
ERRORS = {
    "ece": Column("{} ECE %", better=-1),
    "ece_null": NULL,
    "ks_error": Column("{} KS %", better=-1),
    "ks_error_null": NULL,
}
RECALIBRATED = {
    "ece_spline": Column("spline ECE %", better=-1),
    "ece_spline_null": NULL,
    "ks_error_spline": Column("spline KS %", better=-1),
    "ks_error_spline_null": NULL,
}
METRICS = SCORES | ERRORS | RECALIBRATED
SUITE = ("--suite", "calibration")
PARTS = {"clean": "clean", "corrupted": "corr."}  # and how headings call them


def calibration_board(store: StudyStore, limit: int | None = None) -> Leaderboard:
    """Derive the table of calibration of a study from its store.

    One row per alpha or brought network, as in the leaderboard; columns are those of `METRICS`,
    after "clean_" and "corrupted_". Means over corruptions are over severities, then corruptions,
    of the conditions that all networks have in common.

    Args:
        store: the study's results.
        limit: use the cells with so many test images; None takes the most there are.

    Raises:
        SelbenchError: where there are no cells with that `limit`, or of clean or corrupted images.
    """
    rows = current_rows(store, limit)
    made = command(store, images_taken(rows), *SUITE)
    with naming_command(store, limit):
        check_measured(rows, store.study, "accuracy")
    networks = rows[["subject", "alpha"]].drop_duplicates().set_index("subject")
    names = []
    for part, metric in product(PARTS, METRICS):
        name = f"{part}_{metric}"
        networks[name] = by_network(rows, metric, part)
        names += [name] if networks[name].notna().any() else []
    table = _over_networks(networks.reset_index(), names)
    table.insert(0, "study", store.study)
    return Leaderboard(store.study, table, _remarks(rows, made), groups=_groups(names))


def by_network(rows: pd.DataFrame, metric: str, part: str) -> pd.Series:
    """Return a metric of each network on "clean" or "corrupted" images, by its name."""
    if part == "clean":
        chosen = _measured(rows, metric)
        values: pd.Series = chosen[chosen["level"].isna()].set_index("subject")["value"]
        return values
    cells = by_condition(rows, metric)
    means: pd.Series = cells.groupby(level="condition").mean().mean()
    return means.where(cells.notna().all())


def by_condition(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric under corruptions: conditions and levels by networks, NaN where missing.

    Of the conditions that all networks have in common that were tested under corruptions.
    """
    common = _pivoted(rows, "accuracy").dropna()
    found: pd.DataFrame = _pivoted(rows, metric).reindex(common.index, columns=common.columns)
    return found


def check_measured(rows: pd.DataFrame, study: str, metric: str) -> None:
    """Refuse a study without a metric, and say what makes it."""
    if not _measured(rows, metric).empty:
        return
    if _measured(rows, "accuracy").empty:
        raise UnmeasuredError(f"the study {study} holds no calibration", *SUITE)
    raise UnmeasuredError(
        f"an earlier version evaluated the study {study}, without calibration errors, which take "
        "another --store",
        *SUITE,
    )


def _measured(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    suites = ["recalibration"] if metric in RECALIBRATED else ["clean", "corruptions"]
    found: pd.DataFrame = rows[rows["suite"].isin(suites) & (rows["metric"] == metric)]
    return found


def _pivoted(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    chosen = _measured(rows, metric)
    chosen = chosen[chosen["level"].notna()]
    cells: pd.DataFrame = chosen.pivot(
        index=["condition", "level"], columns="subject", values="value"
    )
    return cells


def _over_networks(networks: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Average over seeds: one row per alpha in rising order, then one per brought network."""
    brought = networks["alpha"].isna()
    networks["subject"] = networks["subject"].where(brought, networks["alpha"].map(exactly))
    rows = []
    for (alpha, subject), group in networks.groupby([networks["alpha"].fillna(np.inf), "subject"]):
        row = {"subject": subject, "alpha": alpha, "networks": len(group)}
        for name in names:
            row[name], row[f"{name}_interval"] = mean_interval(group[name].tolist())
            row[f"{name}_n"] = int(group[name].notna().sum())
        rows.append(row)
    return pd.DataFrame(rows).replace({"alpha": {np.inf: np.nan}})


def _groups(names: list[str]) -> Groups:
    """Return the tables for people: scores and calibration errors, of clean, then corrupted."""
    groups = {}
    for part, short in PARTS.items():
        for title, metrics in (("", SCORES), (", calibration errors", ERRORS | RECALIBRATED)):
            columns = {
                f"{part}_{metric}": replace(column, heading=column.heading.format(short))
                for metric, column in metrics.items()
                if f"{part}_{metric}" in names
            }
            if columns:
                groups[f"{part} images{title}"] = columns
    return groups


def _remarks(rows: pd.DataFrame, made: str) -> tuple[Remark, ...]:
    measured = _measured(rows, "accuracy")
    numbers = " to ".join(map(str, sorted({measured["n"].min(), measured["n"].max()})))
    parts = [f"{numbers} test images"]
    conditions = by_condition(rows, "accuracy").index.get_level_values("condition").unique()
    if len(conditions):
        parts.append(count_of(len(conditions), "corruption"))
    if measured.groupby("alpha")["subject"].nunique().gt(1).any():
        parts.append("mean over seeds ± 95 % t interval")
    if not _measured(rows, "ece").empty:
        parts.append("null: what a perfectly calibrated network would show on as many images")
    if not _measured(rows, "ece_spline").empty:
        parts.append("spline: recalibrated on each network's own validation images")
    return tuple(map(Remark, parts + _left_out(rows, made)))


def _left_out(rows: pd.DataFrame, made: str) -> list[str]:
    """Say which networks lack calibration errors or recalibration, and what has them `made`."""
    measured, told, fitted = (
        set(_measured(rows, metric)["subject"]) for metric in ("accuracy", "ece", "ece_spline")
    )
    trained = set(rows.loc[rows["alpha"].notna(), "subject"])
    parts = []
    if not told:
        return [f"without calibration errors, which `{made}` with another --store makes"]
    if measured > told:
        parts.append(f"without calibration errors: {', '.join(sorted(measured - told))}")
    if trained and not fitted:
        parts.append(f"without recalibration, which `{made}` makes")
    elif trained > fitted:
        parts.append(f"not recalibrated: {', '.join(sorted(trained - fitted))}")
    if measured > trained:
        names = ", ".join(sorted(measured - trained))
        parts.append(f"not recalibrated, since what they were trained on is not known: {names}")
    return parts
