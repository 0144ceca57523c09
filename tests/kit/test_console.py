"""The remaining time that lines and bars show."""

import io
import re

import pytest
from rich.console import Console

from selbench._kit import console
from selbench._kit.console import Bars, Lines


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by a list, whose last number is the time."""
    seconds = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: seconds[-1])
    return seconds


def lines_of(clock, later, ends):
    """Return the lines of a task of 10 pieces that end at these seconds."""
    written = io.StringIO()
    progress = Lines(Console(file=written, width=100))
    progress.expect(later)
    with progress.track("train", 10) as step:
        for end in ends:
            clock.append(end)
            step()
    return written.getvalue().splitlines()


def test_the_first_piece_does_not_count_for_the_pace(clock):
    lines = lines_of(clock, 0, [60, 65, 70, 75, 80])
    assert lines == [
        "train: 2 of 10, about 40 s left",
        "train: 4 of 10, about 30 s left",
    ]


def test_the_remaining_time_includes_what_follows(clock):
    assert lines_of(clock, 0.5, [1, 11]) == ["train: 2 of 10, about 130 s left in all"]


def test_nothing_is_estimated_from_one_piece(clock):
    assert lines_of(clock, 0, [60]) == []


@pytest.mark.parametrize(("later", "left"), [(0.0, "0:00:16"), (1.0, "0:00:36")])
def test_a_bar_shows_the_same_remaining_time(later, left):
    seconds = [0.0]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    progress = Bars(terminal)
    progress._bars.get_time = lambda: seconds[-1]
    progress._bars.live.auto_refresh = False
    progress.expect(later)
    with progress.track("train", 10) as step:
        for second in (2, 4):
            seconds.append(second)
            step()
        with terminal.capture() as shown:
            terminal.print(progress._bars.get_renderable())
    assert re.search(rf"train .* 2/10 {left}", shown.get())
