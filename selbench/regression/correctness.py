"""Which examples networks classify correctly: what a run of them keeps, read from its store."""

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
    """The model under test: one network, or several that differ by their seed.

    Attributes:
        subject: its name, such as "alpha=0".
        networks: each with another seed.
        architecture: name and options.
        study: name of the study, "" where there is none.
        dataset: name of the data set.

    Its networks have findings of the probe; see `looked_at`.
    """

    subject: str
    networks: Sequence[Network]
    architecture: dict[str, Any]
    study: str
    dataset: str

    def __post_init__(self) -> None:
        """Refuse a network that is there twice: it would hide the spread between seeds."""
        names, weights = zip(*((each.name, each.weights) for each in self.networks), strict=True)
        twice = repeated(names, weights)
        if twice:
            raise SelbenchError(f"{twice}; name each network once")

    @property
    def findings(self) -> tuple[str, ...]:
        """What the probe found, in sentences."""
        return tuple(finding_sentences({each.name: each.findings for each in self.networks}))


@dataclass(frozen=True)
class Place:
    """Where a candidate is evaluated.

    Attributes:
        dataset: whose test images are used.
        device: where networks and images are put.
        progress: called after every batch.
        store: a folder that keeps outcomes, so that an interrupted check resumes; None keeps none.
        study: whose results the store keeps.
    """

    dataset: Dataset
    device: torch.device
    progress: Progress = SILENT
    store: Path | None = None
    study: Study | None = None


def looked_at(candidate: Candidate, dataset: Dataset) -> Candidate:
    """Return a candidate after the probe; draws of a random network count as networks."""
    return replace(candidate, networks=probed(candidate.networks, dataset))


def check_meaningful(candidate: Candidate, pieces: Sequence[Work]) -> None:
    """Refuse to compare accuracies that a finding makes meaningless."""
    for each in candidate.networks:
        for piece in pieces:
            finding = spoiling(each.findings, piece.name) if piece.is_attack else None
            if finding is not None:
                raise SelbenchError(
                    f"{whole_name(each.name)} has no accuracy under {piece.name}: it "
                    f"{finding.sentence}; or leave the suite {piece.suite} out"
                )


def comparable(suites: Sequence[str], setting: Setting) -> list[Work]:
    """Return what has an outcome per example that depends on one network alone, each piece once.

    Raises:
        SelbenchError: for a suite that has no such piece, and where no suite is named.
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
            f"the suite {suite} tells of no example whether it is recognised; compare "
            "--suite corruptions, attacks or clean"
        )
    return kept


def facts_of(pieces: Sequence[Work]) -> dict[str, Facts]:
    """Return how every condition is made, by its id."""
    return {
        condition_id(piece.suite, piece.name, level): (piece.source, piece.version, piece.data)
        for piece in pieces
        for level in piece.levels
    }


def correctness(
    candidate: Candidate, pieces: Sequence[Work], limit: int, place: Place
) -> dict[str, Correct]:
    """Evaluate a candidate as `selbench run` does, and return what it has right.

    Args:
        candidate: the model.
        pieces: as `comparable` returns them.
        limit: take so many of the test images.
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
        # Only the checksum of the whole test split is in a cell: no image is taken for its key.
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
    """Say in the manifest of a store that lasts how things stand.

    What counts in tables stays where a run has said it; a check adds to what checks said.
    """

    def done() -> bool:
        return not plan(candidate.networks, pieces, place.dataset.test, store, request)

    whole = store.finished and not store.cut_off and done()
    if place.study is None or place.store is None or whole:
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
            f"{cell.subject} failed under {name} ({failures[0].reason.rstrip('.')}); mend the "
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
                    f"{name} has {len(columns['label'])} images on disk, not {examples} as the "
                    "data set; take --limit, or a whole set"
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
    """Return where the label is predicted; logits that are not finite predict nothing."""
    right = columns["prediction"] == columns["label"]
    return (right & columns["confidence"].isfinite()).numpy()
