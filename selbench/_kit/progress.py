"""How long work reports its progress; the command line decides how it looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Step(Protocol):
    """Called after some work with the number of pieces done and a note for the bar."""

    def __call__(self, pieces: int = 1, note: str = "") -> None: ...


def quiet(pieces: int = 1, note: str = "") -> None:
    """Do nothing; a `Step` without output."""


class Progress:
    """Reports nothing; the parent class of displays."""

    def say(self, line: str) -> None:
        """Report something that the user should read before the work continues."""

    def detail(self, line: str) -> None:
        """Report something for users who asked for details."""

    def expect(self, later: float) -> None:
        """Say that after the next task more will follow, which takes `later` times as long."""

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Announce `task` with its number of pieces, and yield the `Step` to call after each.

        `done`: how many pieces existed before.
        """
        yield quiet


SILENT = Progress()
