"""Leaderboards: pure functions of a study's measurements."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from corruptions import CORRUPTIONS
from selbench.attacks.masking import raised
from selbench.errors import SelbenchError, unknown
from selbench.explained import comparable, explained, looks_of
from selbench.stats import mean_interval
from selbench.store import StudyStore, condition_id
from selbench.study import exactly

FAMILIES = ("noise", "blur", "weather", "digital")
REFERENCE = 0.0  # the alpha that mCE is relative to


@dataclass(frozen=True)
class Column:
    """How a quantity is shown: its heading, the factor from the data's unit, and decimals.

    `interval` says whether tables for people show it, `better` whether more of it is better (1),
    less (-1), or neither (0).
    """

    heading: str
    factor: float = 100
    decimals: int = 1
    interval: bool = True
    better: int = 1


COLUMNS = {
    "selectivity": Column("selectivity", 1, 3, better=0),
    "null": Column("null", 1, 3, interval=False, better=0),
    "clean": Column("clean %"),
    "corrupted": Column("corrupted %"),
    "mce": Column("mCE %", better=-1),
    "ratio": Column("corr./clean", 1, 3),
    **{family: Column(f"{family} %") for family in FAMILIES},
    "fgsm": Column("FGSM %"),
    "paper_pgd": Column("paper PGD %"),
    "pgd_linf": Column("PGD Linf %"),
    "pgd_l2": Column("PGD L2 %"),
    "autoattack_linf": Column("AutoAttack Linf %"),
    "autoattack_l2": Column("AutoAttack L2 %"),
    "median_linf": Column("median Linf", 1, 2),
    "median_l2": Column("median L2", 1, 2),
    "dimension": Column("dim. %", better=0),
    "change_corrupted": Column("change dim. %", better=0),
    "change_attacked": Column("PGD change dim. %", better=0),
    "cv_samples": Column("CV samples", 1, 3, better=0),
    "cv_units": Column("CV units", 1, 3, better=0),
    "jacobian": Column("Jacobian", 1, 1, better=-1),
    "distance": Column("margin dist.", 1, 3),
    "elasticity": Column("elasticity", 1, 2, better=0),
}
MEANS = {  # over budgets, of these attacks
    "fgsm": "fgsm-linf",
    "pgd_linf": "pgd-linf",
    "pgd_l2": "pgd-l2",
    "autoattack_linf": "autoattack-linf",
    "autoattack_l2": "autoattack-l2",
}
ATTACKS = (*MEANS, "paper_pgd")
MEDIANS = ("median_linf", "median_l2")
# What must never leave less than PGD does: attack, PGD of the same norm, and the flag it raises.
WEAKER = (
    ("noise-linf", "pgd-linf", "noise"),
    ("noise-l2", "pgd-l2", "noise"),
    ("transfer-linf", "pgd-linf", "transfer"),
    ("hopskipjump-l2", "pgd-l2", "gradient_free"),
)
MASKING = "masking"  # the column of flags, in words


@dataclass(frozen=True)
class Leaderboard:
    """A study's table: one row per alpha or brought network, numbers as numbers.

    Attributes:
        study: its name.
        table: columns study, subject, alpha, networks, and for every quantity of `COLUMNS` its
            mean over networks and, with the suffix `_interval`, the half width of its 95 %
            interval. Accuracies lie in [0, 1]; mce is 1 for the reference.
        caption: what the numbers are over, and what was left out.
        columns: the quantities that are shown, in this order; () for all that there are.
    """

    study: str
    table: pd.DataFrame
    caption: str
    columns: tuple[str, ...] = ()


def leaderboard(
    store: StudyStore, limit: int | None = None, extra: bool = False, only: Sequence[str] = ()
) -> Leaderboard:
    """Derive the leaderboard of a study from its store.

    Only like is compared with like: the data and the training of the store's latest run, one
    number of test images, and the corrupted conditions that all networks have in common.

    Args:
        store: the study's results.
        limit: use the cells with so many test images; None takes the most there are.
        extra: count the four extra corruptions in, beside the benchmark's fifteen.
        only: count these corruptions alone, the extra ones included; none for all.

    Raises:
        SelbenchError: where there are no cells with that `limit`, or with one of `only`.
    """
    manifest = store.manifest()
    rows = current_rows(store, limit)
    corrupted = _corrupted_cells(rows, extra, only)
    for name in sorted(set(only) - set(corrupted.index.get_level_values("condition"))):
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, CORRUPTIONS)
        raise SelbenchError(
            f"{store.folder} holds no results under {name}; run its study with --suite "
            f"corruptions-all --corruption {name}"
        )
    cells = corrupted.dropna(axis=0)
    by_corruption = cells.groupby(level=["group", "condition"]).mean()
    networks = _profiles(rows)
    networks["corrupted"] = by_corruption.mean()
    networks["ratio"] = networks["corrupted"] / networks["clean"]
    families = by_corruption.groupby(level="group").mean()
    for family in FAMILIES:
        networks[family] = families.loc[family] if family in families.index else np.nan
    relative = _relative_error(1 - by_corruption, networks)
    networks["mce"] = relative.mean()
    networks = networks.join(_attacked(rows)).join(explained(rows, extra, only)).join(masked(rows))
    table = _rows_over_networks(networks.reset_index())
    table.insert(0, "study", store.study)
    left_out = {
        "not counted, since some networks lack them": corrupted.index.difference(cells.index),
        f"not in mCE, since alpha = {REFERENCE:g} makes no error": by_corruption.index.difference(
            relative.index
        ),
    }
    caption = _caption(rows, cells, networks, left_out, manifest)
    return Leaderboard(store.study, table, caption)


def current_rows(store: StudyStore, limit: int | None = None) -> pd.DataFrame:
    """Return the measurements of a store's latest run that tables and figures are made of.

    Raises:
        SelbenchError: where there are no cells with that `limit`.
    """
    rows = _one_limit(_current(store.measurements(), store.manifest()), limit)
    if limit is not None and rows.empty:
        raise SelbenchError(
            f"{store.folder} holds no results on {limit} test images; make them with "
            f"`selbench run {store.study} --limit {limit}`"
        )
    return rows


def _current(rows: pd.DataFrame, manifest: dict[str, Any]) -> pd.DataFrame:
    """Keep what the manifest lists: data, networks, and conditions as they were last made."""
    weights = {name: facts["weights"] for name, facts in manifest["subjects"].items()}
    levels = [None if pd.isna(level) else level for level in rows["level"]]
    conditions = map(condition_id, rows["suite"], rows["condition"], levels)
    # A condition whose images lie on disk names their checksum; the others' is the test set's.
    made = {
        name: (source, version, data or manifest["data"])
        for name, (source, version, data) in manifest["conditions"].items()
    }
    found = zip(rows["source"], rows["version"], rows["data"], strict=True)
    same = [made.get(name) == facts for name, facts in zip(conditions, found, strict=True)]
    helpers = {name: facts.get("helper", "") for name, facts in manifest["subjects"].items()}
    current = (
        rows["helper"].isin(["", None]) | (rows["helper"] == rows["subject"].map(helpers))
    ) & (
        rows["training"].isin([manifest["training"], ""])
        & (rows["subject"].map(weights) == rows["weights"])
        & pd.Series(same, rows.index, bool)
    )
    kept: pd.DataFrame = rows[current]
    return kept


def _one_limit(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Keep the cells with `limit` test images; None takes all images, else the most there are."""
    if limit is None and rows["limit"].isna().any():
        return rows[rows["limit"].isna()]
    chosen = rows["limit"].max() if limit is None else limit
    return rows[(rows["limit"] == chosen).fillna(False)]


def _profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Return alpha, seed, selectivity, its null, clean accuracy of each network, by its name."""
    profiles = rows[["subject", "alpha", "seed"]].drop_duplicates().set_index("subject")
    whole = rows[rows["layer"].isna()]
    measured = (whole["suite"] == "selectivity") & (whole["condition"] == "clean")
    metrics = {
        "selectivity": measured & (whole["metric"] == "selectivity_index"),
        "null": measured & (whole["metric"] == "selectivity_index_null"),
        "clean": (whole["metric"] == "accuracy") & (whole["suite"] == "clean"),
    }
    for name, chosen in metrics.items():
        profiles[name] = whole[chosen].set_index("subject")["value"]
    return profiles


def _corrupted_cells(rows: pd.DataFrame, extra: bool, only: Sequence[str]) -> pd.DataFrame:
    """Return accuracies, conditions by networks; NaN where one was not tested."""
    suites = ["corruptions", "corruptions-extra"] if extra or only else ["corruptions"]
    chosen = rows[(rows["metric"] == "accuracy") & rows["suite"].isin(suites)]
    if only:
        chosen = chosen[chosen["condition"].isin(only)]
    index = ["group", "condition", "level"]
    cells: pd.DataFrame = chosen.pivot(index=index, columns="subject", values="value")
    return cells


def _relative_error(error: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Divide each network's errors by those of the reference of its own seed.

    Networks of one seed share their first weights and their validation images. One without a seed
    is compared with the mean over the references. Corruptions on which a reference makes no error
    are left out.
    """
    seeds = networks.loc[error.columns, "seed"]
    references = error.loc[:, (networks.loc[error.columns, "alpha"] == REFERENCE).to_numpy()]
    references = references[(references > 0).all(axis=1)]
    by_seed = {seeds[name]: references[name] for name in references.columns}
    missing = pd.Series(np.nan, references.index)
    mean = references.mean(axis=1)
    columns = {
        name: error.loc[references.index, name]
        / (mean if pd.isna(seeds[name]) else by_seed.get(seeds[name], missing))
        for name in error.columns
    }
    return pd.DataFrame(columns, index=references.index, dtype=float)


def _attack_curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the accuracies that each attack leaves: levels by networks."""
    attacked = rows["suite"].isin(["attacks", "attacks-strong"])
    chosen = rows[attacked & (rows["metric"] == "accuracy")]
    return {
        str(name): part.pivot(index="level", columns="subject", values="value").sort_index()
        for name, part in chosen.groupby("condition")
    }


def _attacked(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what attacks leave of each network: mean accuracies, median perturbations."""
    curves = _attack_curves(rows)
    table = pd.DataFrame(index=pd.Index(sorted(set(rows["subject"])), name="subject"))
    for column in (*ATTACKS, *MEDIANS):
        table[column] = np.nan
    for column, attack in MEANS.items():
        if attack in curves:
            table[column] = curves[attack].mean()
    if "paper-pgd" in curves:
        table["paper_pgd"] = curves["paper-pgd"].iloc[-1]
    for norm in ("linf", "l2"):
        if f"pgd-{norm}" in curves:
            table[f"median_{norm}"] = curves[f"pgd-{norm}"].apply(median_perturbation)
    return table


def median_perturbation(accuracies: pd.Series) -> float:
    """Return the epsilon at which half of the images have fallen; NaN where no budget does it.

    `accuracies` are indexed by rising epsilons. Accuracy is taken to fall evenly with the logarithm
    of epsilon between two of them, and evenly from 1 at epsilon 0 to the first.
    """
    below = np.flatnonzero(accuracies.to_numpy() <= 0.5)
    if not len(below):
        return float("nan")
    last = below[0]
    right, high = accuracies.iloc[last], float(accuracies.index[last])
    if last == 0:
        return float(high * 0.5 / (1 - right))
    left, low = accuracies.iloc[last - 1], float(accuracies.index[last - 1])
    return float(low * (high / low) ** ((left - 0.5) / (left - right)))


def masked(rows: pd.DataFrame) -> pd.Series:
    """Return each network's flags of masked gradients, "" for none; NaN where not checked."""
    measured = rows[rows["metric"].str.startswith("masking_")]
    names = measured["metric"].str.removeprefix("masking_")
    checks = measured.pivot_table("value", "subject", names, aggfunc="max", observed=True)
    curves = _attack_curves(rows)
    for weaker, stronger, name in WEAKER:
        if weaker in curves and stronger in curves:
            ahead = (curves[stronger] - curves[weaker]).max()
            before = checks.get(name, ahead)
            checks[name] = pd.concat([before, ahead], axis=1).max(axis=1)
    flags = {
        subject: ", ".join(raised({str(name): value for name, value in row.items()}))
        for subject, row in checks.iterrows()
    }
    return pd.Series(flags, dtype=object, name=MASKING).rename_axis("subject")


def _rows_over_networks(networks: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds: one row per alpha in rising order, then one per brought network."""
    label = networks["alpha"].map(exactly).where(networks["alpha"].notna(), networks["subject"])
    rows = []
    for (subject, alpha), group in networks.groupby(
        [label, networks["alpha"].fillna(np.inf)], sort=False
    ):
        row = {"subject": subject, "alpha": alpha, "networks": len(group)}
        for name in COLUMNS:
            row[name], row[f"{name}_interval"] = mean_interval(group[name].astype(float).tolist())
        row[MASKING] = _counted(group[MASKING].dropna())
        rows.append(row)
    names = [part for name in COLUMNS for part in (name, f"{name}_interval")]
    table = pd.DataFrame(rows, columns=["subject", "alpha", "networks", *names, MASKING])
    table = table.sort_values(["alpha", "subject"], ignore_index=True)
    return table.replace({"alpha": {np.inf: np.nan}})


def _counted(flags: pd.Series) -> str | None:
    """Say which flags how many networks raise, such as "zero gradients (2 of 3)", or "none"."""
    if flags.empty:
        return None
    counts = Counter(flag for each in flags for flag in each.split(", ") if flag)
    if not counts:
        return "none"
    return ", ".join(f"{flag} ({n} of {len(flags)})" for flag, n in sorted(counts.items()))


def _caption(
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    networks: pd.DataFrame,
    left_out: "dict[str, pd.Index[Any]]",
    manifest: dict[str, Any],
) -> str:
    n = rows.loc[rows["metric"] == "accuracy", "n"]
    numbers = " to ".join(map(str, sorted({n.min(), n.max()})))
    parts = [f"{numbers} test images" if len(n) else "no accuracies yet"]
    if len(cells):
        names = cells.index.get_level_values("condition").unique()
        used = rows[rows["condition"].isin(names) & rows["level"].notna()]
        counts = used.drop_duplicates(["condition", "level"])["source"].value_counts().sort_index()
        sources = ", ".join(f"{count} {source}" for source, count in counts.items())
        parts.append(f"{len(names)} corruptions, with their severities {sources}")
    parts.append("mean over seeds ± 95 % t interval")
    parts += looks_of(comparable(rows))
    if networks["mce"].notna().any():
        parts.append(f"mCE relative to alpha = {REFERENCE:g} of the same seed")
    for reason, conditions in left_out.items():
        if len(conditions) and len(cells):
            names = conditions.get_level_values("condition").unique()
            parts.append(f"{reason}: {', '.join(names)}")
    untested = networks.index[networks["corrupted"].isna()]
    if len(cells) and len(untested):
        parts.append(f"not tested on corruptions: {', '.join(untested)}")
    diverged = [name for name, facts in manifest["subjects"].items() if facts["diverged"]]
    if diverged:
        parts.append(f"diverged in training: {', '.join(diverged)}")
    return "; ".join(parts) + "."
