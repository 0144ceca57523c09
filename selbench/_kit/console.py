"""How progress is displayed: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import escape

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from selbench._kit.printable import printable
from selbench._kit.progress import Progress, Step

REFRESH = 0.2  # seconds between updates of a bar in a notebook
QUIET_SECONDS = 10  # seconds between lines of one task


class _OnConsole(Progress):
    """The common part of bars and lines; `verbose` shows details and the duration of tasks."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console, self._verbose, self._later = console, verbose, 0.0

    def expect(self, later: float) -> None:
        """Include what follows the next tasks, `later` times their time, in the remaining time."""
        self._later = later

    def say(self, line: str) -> None:
        """Print a line; above the bar, if there is one."""
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def detail(self, line: str) -> None:
        """Print a line if details were requested."""
        if self._verbose:
            self.say(line)

    @contextmanager
    def _timed(self, task: str) -> Iterator[None]:
        """Print how long a task took, at its end."""
        began = time.monotonic()
        yield
        self.detail(f"{task}: done in {time.monotonic() - began:.1f} s")


def showing(console: Console, verbose: bool = False) -> Progress:
    """Return the display of progress: bars on terminals and in notebooks, lines elsewhere."""
    if console.is_jupyter:
        return InNotebook(console, verbose)
    return (Bars if console.is_terminal else Lines)(console, verbose)


class _Remaining(ProgressColumn):
    """The remaining time of a task and of what follows it."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return hours, minutes and seconds."""
        if not task.speed or task.total is None:
            return Text("-:--:--", style="progress.remaining")
        left = (task.total - task.completed + task.fields["later"]) / task.speed
        return Text(str(timedelta(seconds=round(left))), style="progress.remaining")


class Bars(_OnConsole):
    """A bar for the current task, with the remaining time."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        super().__init__(console, verbose)
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Remaining(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
        )

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Show a bar while the block runs."""
        self._bars.start()
        later = self._later * (pieces - done)
        bar = self._bars.add_task(
            printable(task), total=pieces, completed=done, note="", later=later
        )

        def step(pieces: int = 1, note: str = "") -> None:
            self._bars.update(bar, advance=pieces, note=printable(note))

        try:
            with self._timed(task):
                yield step
        finally:
            self._bars.remove_task(bar)
            self._bars.stop()


class Lines(_OnConsole):
    """For logs: a line every ten seconds, with the remaining time.

    The pace is measured from the end of the first piece, which takes longer than others.
    """

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Report while the block runs."""
        began = shown_at = time.monotonic()
        before, total, later = done, pieces, self._later
        first = total

        def step(pieces: int = 1, note: str = "") -> None:
            nonlocal began, shown_at, done, first
            done += pieces
            now = time.monotonic()
            if before < done < first:
                began, first = now, done
            if now - shown_at >= QUIET_SECONDS and first < done < total:
                left = (now - began) * (total - done + later * (total - before)) / (done - first)
                scope = " in all" if later else ""
                line = f"{task}: {done} of {total}, about {left:.0f} s left{scope}  {note}"
                self._console.print(printable(line.rstrip()), highlight=False, markup=False)
                shown_at = now

        with self._timed(task):
            yield step


class InNotebook(_OnConsole):
    """A bar below the running cell, without widgets."""

    @contextmanager
    def track(self, task: str, pieces: int, done: int = 0) -> Iterator[Step]:
        """Show a bar while the block runs."""
        from IPython.display import HTML, display

        total = pieces

        def bar(note: str = "") -> HTML:
            label = escape(printable(f"{done:,} of {total:,}  {note}".rstrip()))
            value = f'<progress value="{done}" max="{total}"></progress>'
            return HTML(f"{escape(printable(task))} {value} {label}")

        shown, shown_at = display(bar(), display_id=True), time.monotonic()

        def step(pieces: int = 1, note: str = "") -> None:
            nonlocal done, shown_at
            done += pieces
            now = time.monotonic()
            if now - shown_at >= REFRESH or done >= total:
                shown.update(bar(note))
                shown_at = now

        try:
            with self._timed(task):
                yield step
        finally:
            shown.update(HTML(""))
