"""One process at a time does a piece of work, on one machine or in a folder that several share.

A lock is a small file that is made only where there is none. It names its holder: the machine, the
process and when that started. Whoever finds it judges whether the holder still works:

- on its own machine, by whether that process is still there;
- on another, by its heartbeat. A holder touches its locks every `BEAT` seconds. A lock whose time
  has not changed while the watcher's own monotonic clock went on by `STALE` seconds is nobody's.
  Clocks of machines need not agree, and may jump. At a URL, where times cannot be set, holders
  count their beats in the lock instead.

Locks save work, and guard no data: files are written whole or not at all, and two who did the same
work would write the same. A holder elsewhere that was taken for dead and lives costs time, no more.
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

BEAT = 10.0  # seconds between two touches
STALE = 60.0  # seconds without one, after which a holder elsewhere is taken for dead
POLL = 0.2  # seconds between two looks at a lock that another holds
PAUSE = 2.0  # at a URL, seconds in which a lock that was held counts as held without a look


class BusyError(Exception):
    """Another process is at it, and the caller would rather do something else than wait."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: its machine's name.
        machine: the same more exactly: the boot, and the space of process numbers.
        process: its number, 0 where that is not known.
        started: when it started, on its machine's own scale; "" where that is not known.
        token: tells one lock from the next.
        beats: at a URL, how often the lock was renewed.
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
    """The locks of one folder, as one process sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, str] = {}  # tokens by names
        self._watched: dict[str, tuple[object, float]] = {}  # last sign of life, and since when
        self._seen: dict[str, tuple[Holder, float]] = {}  # who held a lock, and when that was
        self._changing, self._done = Lock(), Event()

    def take(self, name: str) -> Holder | None:
        """Take a lock; where another holds it, return who does.

        Raises:
            SelbenchError: where the folder cannot be written.
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
        return Holder()  # whoever was quicker, twice

    def release(self, name: str) -> None:
        """Give a lock back; one that another took over meanwhile stays theirs.

        Where it cannot be removed, it is left: the end of what it was held for is what counts.
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
        """Hold a lock while the block runs; `waits` is called now and then until it is free."""
        while (holder := self.take(name)) is not None:
            waits(holder)
            time.sleep(POLL)
        try:
            yield
        finally:
            self.release(name)

    def held_by_others(self) -> dict[str, Holder]:
        """Return who holds which locks, dead holders of this machine left out."""
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
                # Not while it is given back: a lock written then would be nobody's, and stay.
                with self._changing, suppress(OSError, SelbenchError):
                    if name in self._held:
                        _renew(self._path(name), self._held[name])

    def _holder(self, name: str) -> Holder | None:
        """Return who a lock names; None where there is no lock."""
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
        """Take a dead holder's lock away; of several who try at once, one does.

        Whoever buries holds a lock for that, so that nobody removes a lock made meanwhile.
        """
        burial = f"{name}.burial"
        if self.take(burial):
            return False
        try:
            if self._holder(name) != dead:  # another was quicker, and may have made it anew
                return False
            with suppress(OSError):
                self._path(name).unlink()
                return True
            return False
        finally:
            self.release(burial)


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Make a lock; return False where there is one."""
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
        path.unlink(missing_ok=True)  # it names nobody, and would be waited for
        raise cannot_write(path, problem, ELSEWHERE) from problem
    return True


def _renew(path: Path, token: str) -> None:
    """Show that a lock's holder still works; not where the lock is another's by now."""
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
    except (ValueError, TypeError, RecursionError):  # being written, or its writer was killed
        return Holder()
    known = all(isinstance(value, str) for value in (holder.host, holder.machine, holder.started))
    whole = type(holder.process) is int and type(holder.beats) is int
    return holder if known and whole else Holder()


def _this_process() -> Holder:
    started = _started(os.getpid()) or ""
    return Holder(platform.node(), _machine(), os.getpid(), started, secrets.token_hex(8))


@cache
def _machine() -> str:
    """Identify the boot of this machine and the space of its process numbers; "" if it cannot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """Return when a process of this machine started; None where it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()  # its name may hold anything
    return None if state in "ZX" else fields[18]
