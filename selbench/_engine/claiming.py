"""What a run may do now: of the tasks that are left, those that no other run is at.

Runs on one store share their work: each takes the tasks that it finds free, network by network,
goes on with other pieces, and comes back to what others did meanwhile.
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
        store: where results go.
        save: of how many images adversarials are to be kept.
    """

    def __init__(self, store: StudyStore, save: int = 0) -> None:
        self._store, self._save = store, save
        self._locks = store.locks
        self.waits_for = ""  # who is at the tasks that were last found taken

    def work_off(
        self, pending: Sequence[list[Task]], run: Callable[[list[Task]], None], step: Step
    ) -> int:
        """Call `run` with the tasks of every bundle once they are free, until none is left.

        What other runs do meanwhile is left to them. Work that reads outcomes waits for whatever
        it may read.

        Returns:
            how many cells `run` evaluated.
        """
        evaluated = 0
        while pending:
            busy: list[list[Task]] = []
            for bundle in pending:
                if busy and bundle[0].work.reads_outcomes:
                    busy.append(list(bundle))
                    continue
                with self.of(bundle) as (own, others):
                    if own:
                        run(own)
                        evaluated += self._evaluated(own)
                if others:
                    busy.append(others)
            if sum(map(len, busy)) == sum(map(len, pending)):
                step(0, f"waits for {self.waits_for}")
                time.sleep(POLL)
            pending = busy
        return evaluated

    @contextmanager
    def of(self, bundle: Sequence[Task]) -> Iterator[tuple[list[Task], list[Task]]]:
        """Hold those tasks of a bundle that are still to do and free, while the block runs.

        Yields:
            these tasks, and those that others are at; what was done meanwhile is in neither.
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
        wanted = task.work.saves(self._save)
        lacking = wanted and self._store.saved(task.cells[0]) < wanted
        return bool(lacking) or not done.issuperset(cell.key for cell in task.cells)

    def _evaluated(self, tasks: Sequence[Task]) -> int:
        failed = self._store.failed()
        return sum(cell.key not in failed for task in tasks for cell in task.cells)


def untried(
    pending: Sequence[list[Task]], store: StudyStore, retry: bool = False
) -> list[list[Task]]:
    """Leave out the tasks that failed before; with `retry` it is forgotten that they did."""
    if retry:
        store.forget(cell.key for bundle in pending for task in bundle for cell in task.cells)
    failed = store.failed()
    fresh = [[t for t in bundle if failed.isdisjoint(c.key for c in t.cells)] for bundle in pending]
    return [bundle for bundle in fresh if bundle]
