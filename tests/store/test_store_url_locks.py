"""Locks at a URL, where nothing is renamed and times cannot be set."""

import json
from threading import Event, Thread

import pytest
from counted import Counted, bytes_in, requests

from selbench._kit import locks as locks_module
from selbench._kit.locks import STALE, Holder, Locks
from selbench._kit.places import place

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
def locks():
    return Locks(place("counted://bucket/runs/study/locks"))


def test_a_lock_is_made_once_and_given_back(locks, clock):
    other = Locks(locks.folder)
    assert locks.take("a") is None
    assert isinstance(other.take("a"), Holder)
    assert [*other.held_by_others()] == ["a"]
    locks.release("a")
    assert other.held_by_others() == {}
    clock(locks_module.PAUSE)
    assert other.take("a") is None
    other.release("a")
    assert bytes_in(locks.folder) == {}


def test_a_holder_elsewhere_lives_while_its_beats_count_on(locks, clock):
    path = locks.folder / "a.lock"

    def beat(count):
        path.put_json({"host": "far", "machine": "far 1", "process": 7, "beats": count})

    for count in range(3):
        beat(count)
        assert locks.take("a").host == "far"
        clock(STALE + 1)
    assert locks.take("a") is None
    assert json.loads(path.read_text())["host"] != "far"
    locks.release("a")


def test_a_new_holder_elsewhere_begins_a_new_watch(locks, clock):
    path = locks.folder / "a.lock"
    for token in ("one", "two"):
        path.put_json({"host": "far", "machine": "far 1", "process": 7, "token": token})
        assert locks.take("a").token == token
        clock(STALE + 1)


def test_a_beat_under_way_does_not_bring_a_released_lock_back(locks, monkeypatch):
    release, genuine = Thread(target=locks.release, args=("a",)), locks_module._read
    beats, released = [], Event()

    def read(path):
        found = genuine(path)
        beats.append(path)
        if len(beats) == 1:
            release.start()
            release.join(0.1)
            released.set()
        return found

    monkeypatch.setattr(locks_module, "BEAT", 0.001)
    locks.take("a")
    monkeypatch.setattr(locks_module, "_read", read)
    assert released.wait(60)
    release.join()
    assert bytes_in(locks.folder) == {}


def test_who_waits_asks_now_and_then(locks, clock):
    other = Locks(locks.folder)
    locks.take("a")
    holder, asked = requests(lambda: other.take("a"))
    assert asked > 0
    assert requests(lambda: other.take("a")) == (holder, 0)
    clock(locks_module.PAUSE)
    assert requests(lambda: other.take("a"))[1] > 0
    locks.release("a")


def test_a_lock_is_let_go_where_the_server_is_gone(locks):
    with locks.holding("a"):
        Counted.refusing["cat_file"] = OSError("gone")


def test_the_holder_counts_its_beats_and_leaves_a_lock_that_is_another_s(locks, monkeypatch):
    monkeypatch.setattr(locks_module, "BEAT", 0.01)
    path = locks.folder / "a.lock"
    with locks.holding("a"):
        while json.loads(path.read_text())["beats"] < 3:
            assert locks.folder.exists()
        path.put_json({"host": "far", "token": "t"})
        for _ in range(50):
            assert json.loads(path.read_text()) == {"host": "far", "token": "t"}
    assert path.is_file()
