"""How long work tells the one who waits how far it is; the command line decides how it looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Step(Protocol):
    """Called after some work: how many pieces it was, and what to say beside the bar."""

    def __call__(self, pieces: int = 1, note: str = "") -> None: ...


def quiet(pieces: int = 1, note: str = "") -> None:
    """Be a `Step` that says nothing."""


class Progress:
    """Says nothing; the parent of what does."""

    def say(self, line: str) -> None:
        """Tell something that is to be known before the work goes on."""

    def detail(self, line: str) -> None:
        """Tell something that only who asks for details wants to read."""

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Announce `task`, which has so many pieces, and yield what to call after each.

        `done` of the pieces were there before.
        """
        yield quiet


SILENT = Progress()
