"""How long a network may compute: what takes longer is ended, as far as Python can.

Python code is ended by an exception. In the main thread so is what waits in C and listens to
signals, such as a sleep. What stays in C all the same, such as a kernel of torch that never
returns, only the end of the process ends; that is what `stuck` is for. Code in C that keeps
Python's lock for ever stops this clock too.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

AGAIN = 1.0  # seconds until code that caught its end is ended again
LONGEST = 1e7  # seconds that a timer takes
TRIES = 5  # before it counts as stuck


class OutOfTimeError(Exception):
    """A network computed for longer than it may."""


class _LateError(BaseException):
    """Ends a block of code; no `except Exception` on the way may take it."""


class Clock:
    """The time that there is for some work, which is done in one block or in several.

    Args:
        seconds: how long it may take; None for no end.
        stuck: called, from another thread, where the work cannot be ended.
    """

    def __init__(
        self, seconds: float | None, stuck: Callable[[OutOfTimeError], None] | None = None
    ) -> None:
        self._seconds, self._stuck = seconds, stuck
        self._left = seconds or 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take time while the block runs; `OutOfTimeError` where none is left."""
        if self._seconds is None:
            yield
            return
        began, left = time.monotonic(), min(max(self._left, 0.001), LONGEST)
        block = _of_this_thread()
        try:
            try:
                threading.Thread(target=self._watch, args=(block, left), daemon=True).start()
                block.begin(left)
                yield
            finally:
                block.end()
        except _LateError as late:
            raise self._problem().with_traceback(_without_alarm(late)) from None
        finally:
            block.end()
            block.close()
            self._left -= time.monotonic() - began

    def _watch(self, block: "_Block", left: float) -> None:
        if block.ended.wait(left):
            return
        for _ in range(TRIES):
            block.interrupt()
            if block.ended.wait(AGAIN):
                return
        if self._stuck is not None:
            self._stuck(self._problem())

    def _problem(self) -> OutOfTimeError:
        return OutOfTimeError(f"it took more than the {self._seconds:g} s of --time-limit")


def _without_alarm(late: BaseException) -> TracebackType | None:
    """Return the way to the code that was ended, without what ended it."""
    step = late.__traceback__
    while step is not None and step.tb_next is not None:
        inner = step.tb_next
        if inner.tb_frame.f_code is _MainBlock.ring.__code__:
            step.tb_next = None
        step = step.tb_next
    return late.__traceback__


class _Block:
    """A block of code in a thread of Python."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread, self._lock = threading.get_ident(), threading.Lock()

    def begin(self, left: float) -> None:
        """Be interrupted from now on, once no time is left."""

    def interrupt(self) -> None:
        """Raise in the block's thread, from another one."""
        with self._lock:
            if not self.ended.is_set():
                self._raise(ctypes.py_object(_LateError))

    def end(self) -> None:
        """Let nothing be raised from here on."""
        with self._lock:
            self.ended.set()
        self._raise(None)  # what was on its way

    def close(self) -> None:
        """Give back what was taken."""

    def _raise(self, error: Any) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), error)


class _MainBlock(_Block):
    """A block of code in the main thread, where signals wake what sleeps."""

    def begin(self, left: float) -> None:
        self._began = time.monotonic()
        self._handler = signal.signal(signal.SIGALRM, self.ring)
        self._timer = signal.setitimer(signal.ITIMER_REAL, left, AGAIN)

    def ring(self, *_: Any) -> None:
        """Raise in the block."""
        if not self.ended.is_set():
            raise _LateError

    def interrupt(self) -> None:
        """Do nothing: the alarm rings."""

    def end(self) -> None:
        """Let nothing be raised from here on."""
        self.ended.set()

    def close(self) -> None:
        """Give the alarm back to whoever had set it."""
        remaining, interval = self._timer
        if remaining:
            remaining = max(remaining - (time.monotonic() - self._began), 0.001)
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
        signal.signal(signal.SIGALRM, self._handler or signal.SIG_DFL)


def _of_this_thread() -> _Block:
    main = threading.current_thread() is threading.main_thread()
    return _MainBlock() if main and hasattr(signal, "setitimer") else _Block()
