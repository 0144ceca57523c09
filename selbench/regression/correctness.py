"""Find which examples networks classify correctly, by a run and its store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from selbench._engine import evaluate, plan
from selbench._engine.record import manifest_of
from selbench._kit.errors import NotFiniteError, SelbenchError
from selbench._kit.progress import SILENT, Progress
from selbench.datasets import Dataset, Split
from selbench.networks.network import Network
from selbench.networks.probe import probed
from selbench.regression.baseline import repeated
from selbench.regression.comparison import CLEAN, Correct
from selbench.request import Request
from selbench.store import COMPLETE, FINISH, StudyStore, condition_id
from selbench.store.findings import finding_sentences, spoiling, whole_name
from selbench.store.outcomes import Columns, from_table
from selbench.study import Study
from selbench.suites import Setting, Task, Work, collect
from selbench.suites.work import without_repeats

MADE = {"command": ["selbench.check"]}
Facts = tuple[str, int, str]  # source, version and data of a condition


@dataclass(frozen=True)
class Candidate:
    """The model under test: one network, or several with different seeds.

    Attributes:
        subject: its name, such as "alpha=0".
        networks: its networks, with the findings of the probe (see `looked_at`).
        architecture: name and options.
        study: name of the study, or "".
        dataset: name of the data set.
    """

    subject: str
    networks: Sequence[Network]
    architecture: dict[str, Any]
    study: str
    dataset: str

    def __post_init__(self) -> None:
        """Refuse a repeated network: it would hide the spread between seeds."""
        names, weights = zip(*((each.name, each.weights) for each in self.networks), strict=True)
        twice = repeated(names, weights)
        if twice:
            raise SelbenchError(f"{twice}; name each network once")

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings of the probe, as sentences."""
        return tuple(finding_sentences({each.name: each.findings for each in self.networks}))


@dataclass(frozen=True)
class Place:
    """The images, the device and the store of an evaluation.

    Attributes:
        dataset: the data set, whose test images are used.
        device: for networks and images.
        progress: called after every batch.
        store: a folder for outcomes, so that an interrupted check resumes; None for no store.
        study: the study of the store.
    """

    dataset: Dataset
    device: torch.device
    progress: Progress = SILENT
    store: Path | None = None
    study: Study | None = None


def looked_at(candidate: Candidate, dataset: Dataset) -> Candidate:
    """Return a candidate with findings of the probe; draws of a random network become networks."""
    return replace(candidate, networks=probed(candidate.networks, dataset))


def check_meaningful(candidate: Candidate, pieces: Sequence[Work]) -> None:
    """Refuse a comparison of accuracies that a finding makes meaningless."""
    for each in candidate.networks:
        for piece in pieces:
            finding = spoiling(each.findings, piece.name) if piece.is_attack else None
            if finding is not None:
                raise SelbenchError(
                    f"{whole_name(each.name)} has no accuracy under {piece.name}: it "
                    f"{finding.sentence}; or leave the suite {piece.suite} out"
                )


def comparable(suites: Sequence[str], setting: Setting) -> list[Work]:
    """Return the pieces of work with an outcome per example that depends on one network only.

    Raises:
        SelbenchError: for a suite without such pieces, and without any suite.
    """
    if not suites:
        raise SelbenchError("there is no suite to compare; name one, such as corruptions")
    if setting.corruptions or setting.attacks:
        for name in suites:
            _comparable(name, replace(setting, corruptions=(), attacks=()))
        return [piece for piece in collect(tuple(suites), setting) if piece.comparable]
    return without_repeats(piece for name in suites for piece in _comparable(name, setting))


def _comparable(suite: str, setting: Setting) -> list[Work]:
    kept = [piece for piece in collect((suite,), setting) if piece.comparable]
    if not kept:
        raise SelbenchError(
            f"the suite {suite} has no outcomes per example; compare "
            "--suite corruptions, attacks or clean"
        )
    return kept


def facts_of(pieces: Sequence[Work]) -> dict[str, Facts]:
    """Return the source, version and data of every condition, by its id."""
    return {
        condition_id(piece.suite, piece.name, level): (piece.source, piece.version, piece.data)
        for piece in pieces
        for level in piece.levels
    }


def correctness(
    candidate: Candidate, pieces: Sequence[Work], limit: int, place: Place
) -> dict[str, Correct]:
    """Evaluate a candidate as `selbench run` does, and return which examples are right.

    Args:
        candidate: the model.
        pieces: as `comparable` returns them.
        limit: the number of test images to use.
        place: the images, the device and the store.

    Returns:
        networks x examples for every condition, in the order of `pieces`.

    Raises:
        NotFiniteError: for a network whose outputs on clean images are not finite.
        SelbenchError: for a network that fails under a condition.
    """
    test = place.dataset.test
    check_meaningful(candidate, pieces)
    request = Request(limit=limit if limit < len(test) else None, retry=True)
    with _folder(place.store) as root:
        store = StudyStore(root, candidate.study or "model", MADE)
        store.prepare()
        with _at_work(store, candidate, pieces, place, request):
            networks, device, progress = candidate.networks, place.device, place.progress
            evaluate(networks, pieces, place.dataset, store, device, request, progress)
        # A cell's key needs the checksum of the full test split, but no images.
        tasks = [t for p in pieces for t in p.tasks(candidate.networks, test, request.limit)]
        _refuse_failures(store, tasks)
        outcomes = from_table(store.outcomes({cell.key for task in tasks for cell in task.cells}))
    return _bits(tasks, outcomes, test, request.limit)


@contextmanager
def _at_work(
    store: StudyStore,
    candidate: Candidate,
    pieces: Sequence[Work],
    place: Place,
    request: Request,
) -> Iterator[None]:
    """Write the state of the check to the manifest of a permanent store.

    Facts that a run wrote for tables are kept; a check only adds to those of checks.
    """

    def done() -> bool:
        return not plan(candidate.networks, pieces, place.dataset.test, store, request)

    complete = store.finished and not store.cut_off and done()
    if place.study is None or place.store is None or complete:
        yield
        return
    before = store.manifest() if store.finished else MADE
    facts, well = before, before.get("state", COMPLETE) == COMPLETE
    if before.get("command") == MADE["command"] or not store.finished:
        facts = MADE | manifest_of(
            place.study, place.dataset, candidate.networks, pieces, store, request
        )
        well = True
    with store.begin(facts):
        yield
        with store.locks.holding(FINISH):
            store.finish(facts, complete=done() and well)


@contextmanager
def _folder(store: Path | None) -> Iterator[Path]:
    if store is not None:
        yield store
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _refuse_failures(store: StudyStore, tasks: Sequence[Task]) -> None:
    failures = store.failures({cell.key for task in tasks for cell in task.cells})
    if failures:
        cell = failures[0].cell
        name = condition_id(cell.suite, cell.condition, cell.level)
        raise SelbenchError(
            f"{cell.subject} failed under {name} ({failures[0].reason.rstrip('.')}); fix the "
            "network, or leave the suite out"
        )


def _bits(
    tasks: Sequence[Task], outcomes: Mapping[str, Columns], test: Split, limit: int | None
) -> dict[str, Correct]:
    rows: dict[str, list[np.ndarray]] = {}
    for task in tasks:
        other = task.work.images_elsewhere
        examples = len(test if other is None else other)
        examples = examples if limit is None else min(limit, examples)
        for cell in task.cells:
            name, columns = condition_id(cell.suite, cell.condition, cell.level), outcomes[cell.key]
            if name == CLEAN:
                _check_finite(cell.subject, columns)
            if len(columns["label"]) != examples:
                raise SelbenchError(
                    f"{name} has {len(columns['label'])} images on disk, not "
                    f"{examples} as the data set; use --limit, or a complete set"
                )
            rows.setdefault(name, []).append(_right(columns))
    return {name: np.stack(bits) for name, bits in rows.items()}


def _check_finite(name: str, columns: Columns) -> None:
    finite = columns["confidence"].isfinite()
    if not finite.all():
        raise NotFiniteError(
            f"{name} returns logits that are not finite for {int((~finite).sum())} of "
            f"{len(finite)} clean images; look at its weights and normalisation"
        )


def _right(columns: Columns) -> np.ndarray:
    """Return where the prediction is the label; logits that are not finite are wrong."""
    right = columns["prediction"] == columns["label"]
    return (right & columns["confidence"].isfinite()).numpy()
