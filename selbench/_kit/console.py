"""How progress looks: bars on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from selbench._kit.printable import printable
from selbench._kit.progress import Progress, Step

QUIET_SECONDS = 10  # between two lines of one task


class _OnConsole(Progress):
    """What bars and lines have in common; `verbose` shows details, and how long tasks took."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose

    def say(self, line: str) -> None:
        """Print a line; above the bar, if there is one."""
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def detail(self, line: str) -> None:
        """Print a line for who asked for details."""
        if self._verbose:
            self.say(line)

    @contextmanager
    def _timed(self, task: str) -> Iterator[None]:
        """Say at the end of a task how long it took."""
        began = time.monotonic()
        yield
        self.detail(f"{task}: done in {time.monotonic() - began:.1f} s")


class Bars(_OnConsole):
    """A bar for the task under way: what is being done, and the time it will still take."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        super().__init__(console, verbose)
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
        )

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Show a bar while the block runs."""
        self._bars.start()
        bar = self._bars.add_task(printable(task), total=pieces, completed=done, note="")

        def step(pieces: int = 1, note: str = "") -> None:
            self._bars.update(bar, advance=pieces, note=printable(note))

        try:
            with self._timed(task):
                yield step
        finally:
            self._bars.remove_task(bar)
            self._bars.stop()


class Lines(_OnConsole):
    """For logs: a line every ten seconds, with the time a task will still take."""

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Report while the block runs."""
        began = told = time.monotonic()
        before, total = done, pieces

        def step(pieces: int = 1, note: str = "") -> None:
            nonlocal told, done
            done += pieces
            now = time.monotonic()
            if now - told >= QUIET_SECONDS and before < done < total:
                left = (now - began) * (total - done) / (done - before)
                line = f"{task}: {done} of {total}, about {left:.0f} s left  {note}"
                self._console.print(printable(line.rstrip()), highlight=False, markup=False)
                told = now

        with self._timed(task):
            yield step
