"""Time limits for networks: what takes longer is stopped, as far as Python can.

An exception stops Python code, and in the main thread also C code that waits and listens to
signals, such as a sleep. Other C code, such as a torch kernel that never returns, ends only with
the process; `stuck` is for that. C code that never releases Python's lock stops this clock too.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

AGAIN = 1.0  # seconds until code that caught the exception gets it again
LONGEST = 1e7  # most seconds that a timer accepts
TRIES = 5  # attempts before it counts as stuck


class OutOfTimeError(Exception):
    """A network computed for longer than the limit."""


class _LateError(BaseException):
    """Stops a block of code; a BaseException, so that no `except Exception` catches it."""


class Clock:
    """The time limit for some work, in one block or several.

    Args:
        seconds: the limit; None for no limit.
        stuck: called from another thread if the work cannot be stopped.
    """

    def __init__(
        self, seconds: float | None, stuck: Callable[[OutOfTimeError], None] | None = None
    ) -> None:
        self._seconds, self._stuck = seconds, stuck
        self._left = seconds or 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block's time; raise `OutOfTimeError` when no time is left."""
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
    """Return the traceback of the stopped code, without the frame that stopped it."""
    step = late.__traceback__
    while step is not None and step.tb_next is not None:
        inner = step.tb_next
        if inner.tb_frame.f_code is _MainBlock.ring.__code__:
            step.tb_next = None
        step = step.tb_next
    return late.__traceback__


class _Block:
    """A block of code in any Python thread."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread, self._lock = threading.get_ident(), threading.Lock()

    def begin(self, left: float) -> None:
        """Start the time limit."""

    def interrupt(self) -> None:
        """Raise the exception in the block's thread, from another thread."""
        with self._lock:
            if not self.ended.is_set():
                self._raise(ctypes.py_object(_LateError))

    def end(self) -> None:
        """Raise nothing from here on."""
        with self._lock:
            self.ended.set()
        self._raise(None)  # cancels an exception on its way

    def close(self) -> None:
        """Restore what `begin` changed."""

    def _raise(self, error: Any) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), error)


class _MainBlock(_Block):
    """A block of code in the main thread, where signals interrupt sleeping code."""

    def begin(self, left: float) -> None:
        self._began = time.monotonic()
        self._handler = signal.signal(signal.SIGALRM, self.ring)
        self._timer = signal.setitimer(signal.ITIMER_REAL, left, AGAIN)

    def ring(self, *_: Any) -> None:
        """Raise the exception in the block."""
        if not self.ended.is_set():
            raise _LateError

    def interrupt(self) -> None:
        """Do nothing: the alarm raises the exception."""

    def end(self) -> None:
        """Raise nothing from here on."""
        self.ended.set()

    def close(self) -> None:
        """Restore the previous alarm."""
        remaining, interval = self._timer
        if remaining:
            remaining = max(remaining - (time.monotonic() - self._began), 0.001)
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
        signal.signal(signal.SIGALRM, self._handler or signal.SIG_DFL)


def _of_this_thread() -> _Block:
    main = threading.current_thread() is threading.main_thread()
    return _MainBlock() if main and hasattr(signal, "setitimer") else _Block()
