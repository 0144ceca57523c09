"""The remaining work: cells that a store lacks, by piece of work and network."""

from collections.abc import Sequence

from selbench.datasets import Split
from selbench.networks.network import Network
from selbench.request import ANYTHING, Request
from selbench.store import StudyStore
from selbench.suites import Task, Work


def plan(
    networks: Sequence[Network],
    pieces: Sequence[Work],
    split: Split,
    store: StudyStore,
    request: Request = ANYTHING,
) -> list[list[Task]]:
    """Return the remaining tasks in bundles, one bundle for each piece of work.

    `split` holds the test images within the limit of `request`. A task remains if the store lacks
    one of its cells, or adversarials that must be saved.
    """
    kept, pending = store.keys(), []
    for work in pieces:
        missing: dict[str, Task] = {}
        to_save = work.saves(min(request.save, len(split)))
        for task in work.tasks(networks, split, request.limit):
            keys = [cell.key for cell in task.cells]
            if not kept.issuperset(keys) or (to_save and store.saved(task.cells[0]) < to_save):
                missing[keys[0]] = task
        if missing:
            pending.append(list(missing.values()))
    return pending
