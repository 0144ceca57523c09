"""Locks: one holder at a time, dead holders found, whatever the clocks say."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from selbench._kit import locks as module
from selbench._kit.errors import SelbenchError
from selbench._kit.locks import STALE, Holder, Locks

HOLDS = """
import sys, time
from pathlib import Path
from selbench._kit.locks import Locks
locks = Locks(Path(sys.argv[1]))
assert locks.take("a") is None
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path):
    return Locks(tmp_path / "locks")


@pytest.fixture
def elsewhere(locks):
    """Return a function that lays down the lock of another machine, which may touch it."""

    def lay(token="t"):
        locks.folder.mkdir(exist_ok=True)
        holder = {"host": "far", "machine": "far 1", "process": 7, "started": "9", "token": token}
        path = locks.folder / "a.lock"
        path.write_text(json.dumps(holder))
        return path

    return lay


def other(folder):
    """Return a process that holds the lock "a"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def at_once(folder, tries):
    """Return how many of several who try to take the lock "a" at the same time get it."""
    with ThreadPoolExecutor(tries) as pool:
        return list(pool.map(lambda _: Locks(folder).take("a"), range(tries))).count(None)


def ended(process, how=signal.SIGKILL):
    process.send_signal(how)
    process.communicate()


def test_a_lock_is_held_once_and_free_again(locks, tmp_path):
    assert locks.take("a") is None
    assert locks.take("b") is None
    holder = Locks(locks.folder).take("a")
    assert holder.process == os.getpid()
    locks.release("a")
    assert Locks(locks.folder).take("a") is None
    assert str(Locks(locks.folder).take("b")).startswith(f"process {os.getpid()} on ")


def test_of_many_who_try_at_once_one_gets_it(locks):
    assert at_once(locks.folder, 20) == 1


def test_a_process_that_lives_keeps_its_lock_and_one_that_was_killed_does_not(locks, clock):
    process = other(locks.folder)
    try:
        clock(10 * STALE)  # the process itself is looked at, not its heartbeat
        assert locks.take("a").process == process.pid
        assert locks.held_by_others()["a"].process == process.pid
    finally:
        ended(process)
    assert locks.held_by_others() == {}
    assert locks.take("a") is None


def test_a_killed_process_that_nobody_has_buried_is_dead(locks):
    process = other(locks.folder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert locks.take("a") is None
    process.communicate()


def test_another_process_with_the_number_of_a_dead_one_holds_nothing(locks):
    assert locks.take("a") is None
    path = locks.folder / "a.lock"
    holder = json.loads(path.read_text())
    path.write_text(json.dumps(holder | {"started": "1", "token": "dead"}))
    assert Locks(locks.folder).take("a") is None


def test_of_many_who_find_a_dead_holder_one_gets_its_lock(locks):
    for _ in range(20):
        locks.folder.mkdir(exist_ok=True)
        dead = module._this_process()
        content = json.dumps(vars(dead) | {"started": "1", "token": "dead"})
        (locks.folder / "a.lock").write_text(content)
        assert at_once(locks.folder, 4) == 1
        assert [path.name for path in locks.folder.iterdir()] == ["a.lock"]
        (locks.folder / "a.lock").unlink()


def test_who_comes_late_to_a_dead_holders_lock_leaves_the_new_one(locks):
    assert locks.take("a") is None
    assert not Locks(locks.folder)._bury("a", Holder(token="dead"))
    assert [path.name for path in locks.folder.iterdir()] == ["a.lock"]
    assert Locks(locks.folder).take("a").process == os.getpid()


# Another machine.


def test_a_heartbeat_from_elsewhere_keeps_a_lock(locks, elsewhere, clock):
    path = elsewhere()
    for beat in range(10):
        assert locks.take("a").host == "far"
        clock(STALE * 0.9)
        os.utime(path, ns=(beat, beat))


def test_a_lock_from_elsewhere_without_a_heartbeat_is_taken_over(locks, elsewhere, clock):
    elsewhere()
    assert locks.take("a") == Holder("far", "far 1", 7, "9", "t")
    clock(STALE)
    assert locks.take("a").host == "far"
    clock(1)
    assert locks.take("a") is None
    assert json.loads((locks.folder / "a.lock").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("year", [1980, 2080])
def test_clocks_that_disagree_do_not_matter(year, locks, elsewhere, clock):
    path = elsewhere()
    seconds = (year - 1970) * 365 * 86400
    os.utime(path, (seconds, seconds))
    assert locks.take("a").host == "far"
    os.utime(path, (seconds - 9999, seconds - 9999))  # it jumps back: a sign of life all the same
    clock(STALE + 1)
    assert locks.take("a").host == "far"
    clock(STALE + 1)
    assert locks.take("a") is None


def test_a_new_holder_elsewhere_begins_a_new_watch(locks, elsewhere, clock):
    os.utime(elsewhere(), (1, 1))
    locks.take("a")
    clock(STALE + 1)
    os.utime(elsewhere("another"), (2, 2))
    assert locks.take("a").token == "another"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"process": "../../etc"}', '{"host": 1, "x": 2}', "[" * 99999],
)
def test_half_a_lock_is_anothers_until_it_shows_no_life(content, locks, clock):
    locks.folder.mkdir()
    (locks.folder / "a.lock").write_text(content)
    assert str(locks.take("a")) == "another run"
    clock(STALE + 1)
    assert locks.take("a") is None


# Holding.


def test_the_holder_touches_its_locks_as_long_as_it_holds_them(locks, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.001)
    locks.take("a")
    path = locks.folder / "a.lock"
    os.utime(path, ns=(1, 1))
    for _ in count():
        if path.stat().st_mtime_ns != 1:
            break
    locks.release("a")
    assert not path.exists()


def test_the_holder_lends_no_life_to_a_lock_that_another_took_over(locks, elsewhere, monkeypatch):
    looked = Event()
    genuine = module._read

    def read(path):
        try:
            return genuine(path)
        finally:
            looked.set()

    monkeypatch.setattr(module, "BEAT", 0.001)
    monkeypatch.setattr(module, "_read", read)
    locks.take("a")
    path = elsewhere("theirs")
    os.utime(path, ns=(1, 1))
    for _ in range(5):
        looked.clear()
        assert looked.wait(60)
    assert path.stat().st_mtime_ns == 1
    locks.release("a")


def test_a_lock_that_cannot_be_written_is_not_left(locks, room_for):
    locks.folder.mkdir()
    with (
        room_for(0),
        pytest.raises(SelbenchError, match=r"^cannot write .*a\.lock: File too large"),
    ):
        locks.take("a")
    assert list(locks.folder.iterdir()) == []
    assert locks.take("a") is None
    locks.release("a")


def test_a_lock_that_another_took_over_is_not_given_back(locks, elsewhere):
    locks.take("a")
    path = elsewhere("theirs")
    locks.release("a")
    assert json.loads(path.read_text())["token"] == "theirs"


def test_a_lock_is_given_back_after_an_error(locks):
    with pytest.raises(KeyboardInterrupt), locks.holding("a"):
        raise KeyboardInterrupt
    assert not list(locks.folder.iterdir())


def test_who_waits_is_told_for_whom_and_goes_on_when_it_is_free(locks):
    process, told = other(locks.folder), []

    def waits(holder):
        told.append(str(holder))
        if len(told) == 2:
            process.communicate("")  # it ends by itself, and leaves its lock

    with locks.holding("a", waits):
        assert told[0].startswith(f"process {process.pid} on ")
    assert len(told) == 2


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SelbenchError, match=r"cannot write .*a\.lock: .*; make room or permission"):
        Locks(tmp_path / "taken").take("a")
    assert Locks(Path("nowhere")).held_by_others() == {}
