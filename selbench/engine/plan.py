"""What is left to do: cells that a store lacks, by piece of work and network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selbench.datasets import Split
from selbench.files import fingerprint
from selbench.store import Cell, StudyStore
from selbench.subjects import Network
from selbench.suites import (
    Attack,
    Comparison,
    Condition,
    Recalibration,
    Validation,
    Work,
    levels_of,
)


@dataclass(frozen=True)
class Task:
    """A piece of work on one subject: the cells it makes, one per level of an attack.

    `helper` is the subject whose adversarials are tried, where an attack is transferred.
    """

    work: Work
    subject: Network
    cells: list[Cell]
    helper: Network | None = None


def plan(
    subjects: Sequence[Network],
    pieces: Sequence[Work],
    split: Split,
    limit: int | None,
    store: StudyStore,
    save: int = 0,
) -> list[list[Task]]:
    """Return the tasks that are left, those of one piece of work together.

    A task is left where the store lacks one of its cells, or adversarials that are to be saved.
    """
    kept, pending = store.keys(), []
    for work in pieces:
        missing: dict[str, Task] = {}
        wanted = min(save, len(split)) if isinstance(work, Attack) else 0
        for task in tasks_of(work, subjects, split, limit):
            keys = [cell.key for cell in task.cells]
            if not kept.issuperset(keys) or (wanted and store.saved(task.cells[0]) < wanted):
                missing[keys[0]] = task
        if missing:
            pending.append(list(missing.values()))
    return pending


def tasks_of(
    work: Work, subjects: Sequence[Network], split: Split, limit: int | None
) -> Iterator[Task]:
    """Yield the tasks of a piece of work: one for each subject that it can be done on."""
    transfer = isinstance(work, Attack) and work.transfer
    levels = levels_of(work)
    for subject in subjects:
        helper = helper_of(subject, subjects) if transfer else None
        if transfer and helper is None:
            continue
        if isinstance(work, Validation | Recalibration) and subject.seed is None:
            continue
        cells = [cell_of(work, level, subject, helper, split, limit) for level in levels]
        yield Task(work, subject, cells, helper)


def helper_of(subject: Network, subjects: Sequence[Network]) -> Network | None:
    """Return the subject most like `subject`: of the same alpha if there is one, or the nearest."""

    def distance(other: Network) -> tuple[float, int, str]:
        apart = abs((other.alpha or 0.0) - (subject.alpha or 0.0))
        seeds = abs((other.seed or 0) - (subject.seed or 0))
        return apart, seeds, other.name

    others = [other for other in subjects if other.weights != subject.weights]
    return min(others, key=distance, default=None)


def data_of(work: Work) -> str:
    """Return the checksum of the images that a piece of work brings, "" where it has none."""
    if isinstance(work, Validation):
        return work.held_out.checksum
    if isinstance(work, Comparison | Recalibration):
        checksums = [each.stored.checksum for each in work.conditions if each.stored]
        return fingerprint(checksums) if checksums else ""
    return work.stored.checksum if isinstance(work, Condition) and work.stored else ""


def cell_of(
    work: Work,
    level: float | None,
    subject: Network,
    helper: Network | None,
    split: Split,
    limit: int | None,
) -> Cell:
    """Return the cell that a piece of work makes of a subject at one of its levels."""
    return Cell(
        suite=work.suite,
        condition=work.name,
        level=level,
        group=work.group,
        source=work.source,
        version=work.version,
        data=data_of(work) or split.checksum,
        limit=None if isinstance(work, Validation) else limit,  # it always takes all of its images
        subject=subject.name,
        alpha=subject.alpha,
        seed=subject.seed,
        training=subject.training,
        architecture=subject.architecture,
        weights=subject.weights,
        helper=helper.weights if helper else "",
    )


def length_of(work: Work, split: Split, limit: int | None) -> int:
    """Return how many images a piece of work takes."""
    if isinstance(work, Recalibration):
        return 0
    if isinstance(work, Validation):
        return work.held_out.images
    if not isinstance(work, Condition) or work.stored is None:
        return len(split)
    return min(work.stored.images, limit or work.stored.images)
