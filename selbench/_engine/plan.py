"""What is left to do: cells that a store lacks, by piece of work and network."""

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
    """Return what is left to do, in bundles: a bundle is the tasks of one piece of work.

    `split` has the test images that `request` limits them to.
    A task is left where the store lacks one of its cells, or adversarials that are to be saved.
    """
    kept, pending = store.keys(), []
    for work in pieces:
        missing: dict[str, Task] = {}
        wanted = work.saves(min(request.save, len(split)))
        for task in work.tasks(networks, split, request.limit):
            keys = [cell.key for cell in task.cells]
            if not kept.issuperset(keys) or (wanted and store.saved(task.cells[0]) < wanted):
                missing[keys[0]] = task
        if missing:
            pending.append(list(missing.values()))
    return pending
