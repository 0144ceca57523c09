"""Claims on work: of the remaining tasks, those that no other run works on.

Runs share the work on a store: each takes the free tasks of a piece of work, continues with other
pieces, and comes back later for what others have not finished.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from selbench._kit.locks import POLL
from selbench._kit.progress import Step
from selbench.store import StudyStore
from selbench.suites import Task


class Claims:
    """The tasks that one run works on.

    Args:
        store: where results are written.
        save: number of images whose adversarials are kept.
    """

    def __init__(self, store: StudyStore, save: int = 0) -> None:
        self._store, self._save = store, save
        self._locks = store.locks
        self.waits_for = ""  # the holder of the last task that was not free

    def work_off(
        self, pending: Sequence[list[Task]], run: Callable[[list[Task]], None], step: Step
    ) -> int:
        """Call `run` with the tasks of each bundle as they become free, until none is left.

        Tasks that other runs complete are skipped. Work that reads outcomes waits until all work
        before it is done.

        Returns:
            the number of cells that `run` evaluated.
        """
        evaluated = 0
        while pending:
            busy: list[list[Task]] = []
            for bundle in pending:
                if busy and bundle[0].work.reads_outcomes:
                    busy.append(list(bundle))
                    continue
                with self.of(bundle) as (free, others):
                    if free:
                        run(free)
                        evaluated += self._evaluated(free)
                if others:
                    busy.append(others)
            if sum(map(len, busy)) == sum(map(len, pending)):
                step(0, f"waits for {self.waits_for}")
                time.sleep(POLL)
            pending = busy
        return evaluated

    @contextmanager
    def of(self, bundle: Sequence[Task]) -> Iterator[tuple[list[Task], list[Task]]]:
        """Lock the tasks of a bundle that are free and unfinished, while the block runs.

        Yields:
            these tasks, and those that other runs hold; finished tasks are in neither.
        """
        held: list[Task] = []
        try:
            others = [task for task in bundle if not self._take(task, held)]
            done = self._store.keys() | self._store.failed() if held else set()
            yield [task for task in held if self._lacks(task, done)], others
        finally:
            for task in held:
                self._locks.release(task.cells[0].key)

    def _take(self, task: Task, held: list[Task]) -> bool:
        holder = self._locks.take(task.cells[0].key)
        if holder is None:
            held.append(task)
        else:
            self.waits_for = str(holder)
        return holder is None

    def _lacks(self, task: Task, done: set[str]) -> bool:
        to_save = task.work.saves(self._save)
        lacking = to_save and self._store.saved(task.cells[0]) < to_save
        return bool(lacking) or not done.issuperset(cell.key for cell in task.cells)

    def _evaluated(self, tasks: Sequence[Task]) -> int:
        failed = self._store.failed()
        return sum(cell.key not in failed for task in tasks for cell in task.cells)


def untried(
    pending: Sequence[list[Task]], store: StudyStore, retry: bool = False
) -> list[list[Task]]:
    """Leave out tasks that failed before; with `retry`, forget those failures instead."""
    if retry:
        store.forget(cell.key for bundle in pending for task in bundle for cell in task.cells)
    failed = store.failed()
    fresh = [[t for t in bundle if failed.isdisjoint(c.key for c in t.cells)] for bundle in pending]
    return [bundle for bundle in fresh if bundle]
