"""Locks: one process at a time does a piece of work, even if machines share the folder.

A lock is a small file that is created only if it does not exist. It names its holder: the machine,
the process and when that started. A process that finds a lock checks whether the holder still
works:

- on the same machine, by whether the process still exists;
- on another machine, by its heartbeat. A holder touches its locks every `BEAT` seconds. A lock
  whose time has not changed for `STALE` seconds of the watcher's monotonic clock has no holder.
  The clocks of machines may differ or jump. At a URL, where times cannot be set, holders
  count their heartbeats in the lock instead.

Locks only save work: files are written completely or not at all, and two processes with the same
work write the same content. If a living holder is thought dead, that only costs time.
"""

import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from selbench._kit.errors import SelbenchError
from selbench._kit.files import ELSEWHERE, cannot_write
from selbench._kit.places import UrlPath

BEAT = 10.0  # seconds between heartbeats
STALE = 60.0  # seconds without a heartbeat after which a holder on another machine counts as dead
POLL = 0.2  # seconds between checks of a lock that another process holds
PAUSE = 2.0  # at a URL, seconds for which a held lock is not checked again


class BusyError(Exception):
    """Another process does this work, and the caller does not want to wait."""


@dataclass(frozen=True)
class Holder:
    """The holder of a lock.

    Attributes:
        host: name of its machine.
        machine: the same, more exactly: boot and namespace of process numbers.
        process: its process number, 0 if unknown.
        started: when the process started, on its machine's own scale; "" if unknown.
        token: identifies this lock.
        beats: at a URL, the number of heartbeats.
    """

    host: str = "another machine"
    machine: str = ""
    process: int = 0
    started: str = ""
    token: str = ""
    beats: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.process else "another run"


class Locks:
    """The locks of one folder, from the view of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, str] = {}  # tokens by lock names
        self._watched: dict[str, tuple[object, float]] = {}  # last sign of life, first seen at
        self._seen: dict[str, tuple[Holder, float]] = {}  # last known holder, and when it was read
        self._changing, self._done = Lock(), Event()

    def take(self, name: str) -> Holder | None:
        """Take a lock; if another process holds it, return that holder.

        Raises:
            SelbenchError: if the folder cannot be written.
        """
        if isinstance(self.folder, UrlPath) and name in self._seen:
            holder, since = self._seen[name]
            if time.monotonic() - since < PAUSE:
                return holder
        for _ in range(2):
            if self._make(name):
                return None
            found = self._holder(name)
            if found and not (self._is_dead(name, found) and self._bury(name, found)):
                self._seen[name] = (found, time.monotonic())
                return found
        return Holder()  # another process was faster twice

    def release(self, name: str) -> None:
        """Release a lock, unless another process has taken it over.

        A lock that cannot be removed is left: others see that its work is done.
        """
        with self._changing:
            token = self._held.pop(name)
            if not self._held:
                self._done.set()
        with suppress(OSError, SelbenchError):
            holder = self._holder(name)
            if holder is not None and holder.token == token:
                self._path(name).unlink()

    @contextmanager
    def holding(
        self, name: str, waits: Callable[[Holder], None] = lambda holder: None
    ) -> Iterator[None]:
        """Hold a lock while the block runs; call `waits` now and then while waiting for it."""
        while (holder := self.take(name)) is not None:
            waits(holder)
            time.sleep(POLL)
        try:
            yield
        finally:
            self.release(name)

    def held_by_others(self) -> dict[str, Holder]:
        """Return the holders of locks, without dead ones of this machine."""
        names = [path.stem for path in sorted(self.folder.glob("*.lock"))]
        holders = {name: self._holder(name) for name in names if name not in self._held}
        return {n: h for n, h in holders.items() if h is not None and not self._is_dead(n, h)}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def _make(self, name: str) -> bool:
        holder = _this_process()
        if not _create(self._path(name), asdict(holder)):
            return False
        with self._changing:
            if not self._held:
                self._done = Event()
                Thread(target=self._beat, args=(self._done,), daemon=True).start()
            self._held[name] = holder.token
        return True

    def _beat(self, done: Event) -> None:
        while not done.wait(BEAT):
            for name in [*self._held]:
                # Not during a release: a lock written then would stay without a holder.
                with self._changing, suppress(OSError, SelbenchError):
                    if name in self._held:
                        _renew(self._path(name), self._held[name])

    def _holder(self, name: str) -> Holder | None:
        """Return the holder that a lock names; None if there is no lock."""
        return _read(self._path(name))

    def _is_dead(self, name: str, holder: Holder) -> bool:
        if holder.machine and holder.machine == _machine():
            return _started(holder.process) != holder.started
        path = self._path(name)
        try:
            touched = 0 if isinstance(path, UrlPath) else path.stat().st_mtime_ns
        except OSError:
            return False
        sign, now = (holder.token, holder.beats, touched), time.monotonic()
        before, since = self._watched.setdefault(name, (sign, now))
        if before != sign:
            self._watched[name] = (sign, now)
        return before == sign and now - since > STALE

    def _bury(self, name: str, dead: Holder) -> bool:
        """Remove a dead holder's lock; if several processes try, one succeeds.

        This needs a lock of its own, so that nobody removes a newer lock.
        """
        burial = f"{name}.burial"
        if self.take(burial):
            return False
        try:
            if self._holder(name) != dead:  # another process was faster, and may hold it now
                return False
            with suppress(OSError):
                self._path(name).unlink()
                return True
            return False
        finally:
            self.release(burial)


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Create a lock; return False if it exists."""
    if isinstance(path, UrlPath):
        return path.put_json(content, new=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise cannot_write(path, problem, ELSEWHERE) from problem
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    except OSError as problem:
        raise cannot_write(path, problem, ELSEWHERE) from problem
    try:
        with os.fdopen(number, "w") as file:
            json.dump(content, file)
    except OSError as problem:
        path.unlink(missing_ok=True)  # it names no holder, and others would wait for it
        raise cannot_write(path, problem, ELSEWHERE) from problem
    return True


def _renew(path: Path, token: str) -> None:
    """Add a heartbeat to a lock, unless another process has taken it over."""
    holder = _read(path)
    if holder is None or holder.token != token:
        return
    if isinstance(path, UrlPath):
        path.put_json(asdict(replace(holder, beats=holder.beats + 1)))
    else:
        os.utime(path)


def _read(path: Path) -> Holder | None:
    try:
        holder = Holder(**json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        return None
    except (ValueError, TypeError, RecursionError):  # half written, or its writer was killed
        return Holder()
    named = all(isinstance(value, str) for value in (holder.host, holder.machine, holder.started))
    valid = type(holder.process) is int and type(holder.beats) is int
    return holder if named and valid else Holder()


def _this_process() -> Holder:
    started = _started(os.getpid()) or ""
    return Holder(platform.node(), _machine(), os.getpid(), started, secrets.token_hex(8))


@cache
def _machine() -> str:
    """Identify this machine's boot and namespace of process numbers; return "" if that fails."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """Return when a process of this machine started; None if it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()  # the process name may contain any character
    return None if state in "ZX" else fields[18]
