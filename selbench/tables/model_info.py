"""RobustBench's file on a network, made from a store.

RobustBench (Croce et al., 2021, arXiv:2010.09670) has a file for every network of its zoo,
`model_info/<data set>/<threat model>/<network>.json`, with percentages as strings. selbench writes
only the fields that it measured; people must add authors, venue and the like.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from corruptions import CORRUPTIONS
from selbench import __version__
from selbench._kit.errors import SelbenchError, unknown
from selbench.store import StudyStore
from selbench.tables import current_rows

SEVERITIES = 5
# By threat model: suite, condition, level in 255ths, and the radius as written by RobustBench.
ATTACKS = {
    "Linf": ("attacks-strong", "autoattack-linf", 8.0, "8/255"),
    "L2": ("attacks-strong", "autoattack-l2", 128.0, "128/255"),
}
THREATS = (*ATTACKS, "corruptions")


@dataclass(frozen=True)
class ModelInfo:
    """One file: its path below `model_info`, and its fields."""

    path: str
    fields: dict[str, str | None]


def model_info(
    store: StudyStore, threat: str, subject: str | None = None, limit: int | None = None
) -> ModelInfo:
    """Return RobustBench's file on a network of a store.

    Args:
        store: the study's results.
        threat: "corruptions": the benchmark's 15 at all severities; "Linf", "L2": AutoAttack.
        subject: the network; None for the only one.
        limit: the number of test images; None for the largest.

    Raises:
        SelbenchError: if the store lacks the network or results of the threat model.
    """
    if threat not in THREATS:
        raise unknown("threat model", threat, THREATS)
    rows = current_rows(store, limit)
    rows = rows[rows["metric"] == "accuracy"]
    rows = rows[rows["subject"] == _chosen(rows["subject"].unique().tolist(), subject)]
    clean = rows.loc[rows["suite"] == "clean", "value"]
    if clean.empty:
        raise SelbenchError(f"{store.folder} has no clean accuracy; run it with --suite clean")
    facts = store.manifest().get("study", {}).get("dataset", {})
    dataset = _safe(str(facts.get("name", store.study)))
    first = rows.iloc[0]
    robust = _corrupted(rows) if threat == "corruptions" else _attacked(rows, threat)
    tested = f"measured by selbench {__version__} on {first['n']} test images"
    name = _safe(first["subject"])
    fields = {
        "dataset": dataset,
        "architecture": first["architecture"],
        "eps": ATTACKS[threat][3] if threat in ATTACKS else None,
        "clean_acc": percent(float(clean.iloc[0])),
        **robust,
        "footnote": tested,
    }
    return ModelInfo(f"{dataset}/{threat}/{name}.json", fields)


def _safe(name: str) -> str:
    """Return the name without parts that lead to another folder."""
    return re.sub(r"[^A-Za-z0-9.=_-]+", "_", name).strip("_.")


def percent(accuracy: float) -> str:
    """Return an accuracy in [0, 1] as RobustBench writes it."""
    return str(round(accuracy * 100, 2))


def _chosen(subjects: Sequence[str], name: str | None) -> str:
    if name is None and len(subjects) == 1:
        return subjects[0]
    if name is None:
        raise SelbenchError(f"the store has several networks ({', '.join(subjects)}); name one")
    if name not in subjects:
        raise unknown("network", name, subjects)
    return name


def _corrupted(rows: pd.DataFrame) -> dict[str, str | None]:
    """Return the mean over all cells; mCE, which is relative to AlexNet, is unknown."""
    wanted = {
        (name, float(severity))
        for name, each in CORRUPTIONS.items()
        if not each.extra
        for severity in range(1, SEVERITIES + 1)
    }
    rows = rows[rows["suite"] == "corruptions"]
    cells = rows.set_index(["condition", "level"])["value"]
    missing = sorted(wanted - set(cells.index))
    if missing:
        raise SelbenchError(
            f"corruptions_acc is over {len(wanted)} cells and {len(missing)} are not there, the "
            f"first {missing[0][0]} {missing[0][1]:g}; run --suite corruptions"
        )
    return {"corruptions_acc": percent(float(cells[cells.index.isin(wanted)].mean()))}


def _attacked(rows: pd.DataFrame, threat: str) -> dict[str, str | None]:
    suite, condition, level, radius = ATTACKS[threat]
    met = (rows["suite"] == suite) & (rows["condition"] == condition) & (rows["level"] == level)
    if not met.any():
        raise SelbenchError(
            f"{condition} at {radius} was not run on this network; run --suite {suite}"
        )
    return {"autoattack_acc": percent(float(rows.loc[met, "value"].iloc[0]))}
