"""Select the measurements of a store for tables and figures, so that they are comparable."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.request import Request
from selbench.store import StudyStore, condition_id
from selbench.tables.curves import with_curves
from selbench.tables.spoilt import meaningful

RUNS = Path("runs")  # the default of --store
Reading = tuple[pd.DataFrame, list[int]]  # the rows, and the limits of those left out
_KEPT: ContextVar[dict[tuple[str, int | None], Reading] | None] = ContextVar(
    "what `reading_once` keeps", default=None
)
NETWORK = ("subject", "weights", "training", "helper")
# The columns that identify it.
CONDITION = ["suite", "condition", "level", "source", "version", "data"]


@contextmanager
def reading_once() -> Iterator[None]:
    """Have `current_rows` read each store once while the block, or one around it, runs.

    What is made there is then of one reading, whatever a run writes to the store meanwhile.
    """
    kept = _KEPT.get()
    token = _KEPT.set({} if kept is None else kept)
    try:
        yield
    finally:
        _KEPT.reset(token)


def current_rows(store: StudyStore, limit: int | None = None) -> pd.DataFrame:
    """Return the measurements of a store's latest run, for tables and figures.

    They include the networks' training curves.

    Raises:
        SelbenchError: if there are no cells with that `limit`.
    """
    return _read_once(store, limit)[0].copy(deep=False)


def hidden_limits(store: StudyStore, limit: int | None = None) -> list[int]:
    """Return the limits of measurements that `current_rows` leaves out without being asked to."""
    return _read_once(store, limit)[1] if limit is None else []


def _read_once(store: StudyStore, limit: int | None) -> Reading:
    kept, key = _KEPT.get(), (str(store.folder), limit)
    if kept is None:
        return _read(store, limit)
    if key not in kept:
        kept[key] = _read(store, limit)
    return kept[key]


def _read(store: StudyStore, limit: int | None) -> Reading:
    manifest = store.manifest()
    every = meaningful(current(store.measurements(), manifest), manifest)
    rows = _one_limit(every, limit)
    if limit is not None and rows.empty:
        raise SelbenchError(
            f"{store.folder} holds no results on {limit} test images; make them with "
            f"`{command(store, limit)}`"
        )
    others = {*every["limit"].dropna()} - {*rows["limit"].dropna()}
    return with_curves(rows, manifest), sorted(map(int, others))


def command(store: StudyStore, limit: int | None, *further: str) -> str:
    """Return the command that adds to a study's results, such as `selbench run digits`."""
    trains = "--alpha" in further  # users' networks have none
    named = study_words(store.study, store.manifest(), trains)
    parts = ["selbench", "run", *named, *further]
    parts += ["--limit", str(limit)] if limit is not None else []
    root = root_of_runs(store)
    parts += ["--store", str(root)] if root != RUNS else []
    return shlex.join(parts)


@contextmanager
def naming_command(store: StudyStore, limit: int | None) -> Iterator[None]:
    """Add the command that makes missing measurements to errors about them."""
    try:
        yield
    except UnmeasuredError as problem:
        made = command(store, images_used(current_rows(store, limit)), *problem.words)
        raise SelbenchError(f"{problem}; run `{made}`") from None


def study_words(study: str, manifest: dict[str, Any], trains: bool = False) -> list[str]:
    """Return the words that name a study, its data and its untrained networks in a command.

    They are those of the latest run, without the suites and the store.
    """
    subjects = manifest.get("subjects", {}).values()
    trained = trains or any(facts.get("training") for facts in subjects)
    return Request.model_validate(manifest["request"]).words(study, trained)


def images_used(rows: pd.DataFrame) -> int | None:
    """Return the number of test images of rows with one limit; None for all."""
    limits = rows["limit"].dropna()
    return int(limits.iloc[0]) if len(limits) else None


def data_name(manifest: dict[str, Any]) -> str:
    """Return the name of a study's data set; for a folder of images, "folder" and its name."""
    facts = manifest.get("study", {}).get("dataset", {})
    name = str(facts.get("name", "one data set"))
    return f"{name} {Path(facts['root']).name}" if name == "folder" and facts.get("root") else name


def root_of_runs(store: StudyStore) -> Path:
    """Return the store in which a run can add to a study; not a folder with only its tables."""
    return store.root if store.begun else RUNS


def current(rows: pd.DataFrame, manifest: dict[str, Any]) -> pd.DataFrame:
    """Keep the rows with the data, the networks and the versions of conditions in the manifest."""
    weights = {name: facts["weights"] for name, facts in manifest["subjects"].items()}
    # A condition with images on disk has their checksum; others have that of the test set.
    made = {
        name: (source, version, data or manifest["data"])
        for name, (source, version, data) in manifest["conditions"].items()
    }
    helpers = {name: facts.get("helper", "") for name, facts in manifest["subjects"].items()}

    def counts(subject: str, weight: str, training: str, helper: str, *condition: Any) -> bool:
        return (
            weights.get(subject) == weight
            and training in (manifest["training"], "")
            and helper in ("", helpers[subject])
            and made.get(condition_id(*condition[:3])) == condition[3:]
        )

    facts = rows.assign(
        helper=rows["helper"].fillna(""),
        level=rows["level"].astype(object).where(rows["level"].notna(), None),
    )
    columns = [*NETWORK, *CONDITION]
    which = facts.groupby(columns, sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(which, return_index=True)  # few distinct values in many rows
    few = facts.iloc[first]
    kept = list(map(counts, *(few[name].tolist() for name in columns)))
    return rows[np.array(kept, dtype=bool)[which]]


def _one_limit(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Keep the cells with `limit` test images; None for all images, else the largest number."""
    if limit is None and rows["limit"].isna().any():
        return rows[rows["limit"].isna()]
    chosen = rows["limit"].max() if limit is None else limit
    return rows[(rows["limit"] == chosen).fillna(False)]
