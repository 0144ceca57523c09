"""Tables of calibration under shift, from a study's store."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from selbench._kit.errors import UnmeasuredError
from selbench.metrics import METRICS, Metric
from selbench.store import StudyStore
from selbench.study import count_of, exactly
from selbench.suites.calibration import BOARD, RECALIBRATED
from selbench.tables import Groups, Leaderboard, Remark, current_rows
from selbench.tables.current import command, images_used, naming_command
from selbench.tables.means import by_level, mean, over_seeds

SUITE = ("--suite", "calibration")
PARTS = {"clean": "clean", "corrupted": "corr."}  # and their headings


def metrics() -> dict[str, Metric]:
    """Return the metrics in tables of calibration, by name."""
    return {name: each for name, each in METRICS.items() if each.board == BOARD}


def calibration_board(store: StudyStore, limit: int | None = None) -> Leaderboard:
    """Derive the table of calibration of a study from its store.

    It has one row per alpha or user's network, as in the leaderboard. Columns are the metrics of
    calibration with the prefix "clean_" or "corrupted_". Means are over severities, then over
    corruptions, of the conditions that all networks have.

    Args:
        store: the study's results.
        limit: use cells with this number of test images; None for the largest.

    Raises:
        SelbenchError: if there are no cells with that `limit`, or none of clean or corrupted
            images.
    """
    rows = current_rows(store, limit)
    made = command(store, images_used(rows), *SUITE)
    with naming_command(store, limit):
        check_measured(rows, store.study, "accuracy")
    networks = rows[["subject", "alpha"]].drop_duplicates().set_index("subject")
    rows = rows[
        rows["metric"].isin(["accuracy", *(each.reads.metric for each in metrics().values())])
    ]
    names = []
    there = [name for name in metrics() if not _measured(rows, name).empty]
    for part, metric in product(PARTS, there):
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
    return mean(by_condition(rows, metric))


def by_condition(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric under corruptions: conditions and levels by networks, NaN if missing.

    It has the conditions that are common to all networks with corruptions.
    """
    common = _pivoted(rows, "accuracy").dropna()
    found: pd.DataFrame = _pivoted(rows, metric).reindex(common.index, columns=common.columns)
    return found


def check_measured(rows: pd.DataFrame, study: str, metric: str) -> None:
    """Raise an error with the command to run if a study lacks a metric."""
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
    return METRICS[metric].reads.chosen(rows)


def _pivoted(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    chosen = _measured(rows, metric)
    return by_level(chosen[chosen["level"].notna()])


def _over_networks(networks: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Average over seeds: one row per rising alpha, then one per user's network."""
    brought = networks["alpha"].isna()
    networks["subject"] = networks["subject"].where(brought, networks["alpha"].map(exactly))
    rows = []
    for (alpha, subject), group in networks.groupby([networks["alpha"].fillna(np.inf), "subject"]):
        row = {"subject": subject, "alpha": alpha, "networks": len(group)}
        for name in names:
            row |= over_seeds(group[name], name)
        rows.append(row)
    return pd.DataFrame(rows).replace({"alpha": {np.inf: np.nan}})


def _groups(names: list[str]) -> Groups:
    """Return the printed tables: for clean images, then for corrupted ones."""
    groups: dict[str, dict[str, Metric]] = {}
    for part, short in PARTS.items():
        for metric in metrics().values():
            title = f"{part} images, {metric.table}".removesuffix(", ")
            if f"{part}_{metric.name}" in names:
                table = groups.setdefault(title, {})
                table[f"{part}_{metric.name}"] = _heading(metric, short)
    return groups


def _heading(metric: Metric, part: str) -> Metric:
    """Return the heading of a metric; a chance level follows its metric."""
    if metric.null_of:
        return replace(metric, label="null", unit=replace(metric.unit, name=""))
    return (
        metric
        if metric.reads.suites == RECALIBRATED
        else replace(metric, label=f"{part} {metric.label}")
    )


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
        logits = "" if _measured(rows, "ece_temperature").empty else ", temperature, g-layer"
        parts.append(f"spline{logits}: recalibrated on each network's own validation images")
    return tuple(map(Remark, parts + _left_out(rows, made)))


def _left_out(rows: pd.DataFrame, made: str) -> list[str]:
    """Return which networks lack calibration errors or recalibration, with the command `made`."""
    measured, calibrated, fitted = (
        set(_measured(rows, metric)["subject"]) for metric in ("accuracy", "ece", "ece_spline")
    )
    trained = set(rows.loc[rows["alpha"].notna(), "subject"])
    parts = []
    if not calibrated:
        return [f"without calibration errors, which `{made}` with another --store makes"]
    if measured > calibrated:
        parts.append(f"without calibration errors: {', '.join(sorted(measured - calibrated))}")
    if trained and not fitted:
        parts.append(f"without recalibration, which `{made}` makes")
    elif trained > fitted:
        parts.append(f"not recalibrated: {', '.join(sorted(trained - fitted))}")
    scaled = set(_measured(rows, "ece_temperature")["subject"])
    if fitted > scaled:
        names = f": {', '.join(sorted(fitted - scaled))}" if scaled else ""
        parts.append(f"without temperature and g-layer, as the store lacks their logits{names}")
    if measured > trained:
        names = ", ".join(sorted(measured - trained))
        parts.append(f"not recalibrated, since what they were trained on is not known: {names}")
    return parts
