"""Two runs on one store at once share the work, and leave what one would have left."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pytest
import torch
from forked import Forked

from selbench._engine import evaluate
from selbench._engine.claiming import Claims
from selbench._kit.locks import BusyError, Holder, Locks
from selbench.datasets import load_dataset
from selbench.store import StudyStore
from selbench.study import load_study
from selbench.suites import Condition, Task
from selbench.training import train_or_find
from selbench.training import trained as training_run

CPU = torch.device("cpu")
PATIENCE = 60  # seconds after which a test that waits for nothing fails


class Conditions:
    """Conditions that count how often they are made; the first waits for an event."""

    def __init__(self, number):
        self.made, self.free, self._lock = [], Event(), Lock()
        self.pieces = [
            Condition("corruptions", "test", self._perturb(level), level=level)
            for level in range(number)
        ]

    def _perturb(self, level):
        def perturb(images, examples):
            with self._lock:
                self.made.append(level)
            if level == 0:
                assert self.free.wait(PATIENCE)
            return images.flip(2)

        return perturb


def reopened(store):
    return StudyStore(store.root, store.study)


def test_each_piece_is_made_once_and_both_runs_see_all(subject, dataset, store, tmp_path):
    conditions, networks = Conditions(6), [subject(0)]
    with ThreadPoolExecutor(2) as pool:

        def run():
            own = reopened(store)
            return evaluate(networks, conditions.pieces, dataset, own, CPU), own.keys()

        runs = [pool.submit(run) for _ in range(2)]
        while len(conditions.made) < 6:  # one is at the first, the other does all others
            assert not all(each.done() for each in runs)
        conditions.free.set()
        ends = [each.result() for each in runs]
    assert sorted(conditions.made) == list(range(6))
    assert sorted(evaluated for evaluated, _ in ends) == [1, 5]
    assert all(keys == store.keys() for _, keys in ends)
    alone = StudyStore(tmp_path / "alone", "study")
    evaluate(networks, conditions.pieces, dataset, alone, CPU)
    assert store.measurements().equals(alone.measurements())


def test_networks_that_both_have_are_done_once_and_the_others_at_once(subject, dataset, store):
    conditions = Conditions(1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(
            evaluate, [subject(0), subject(1)], conditions.pieces, dataset, reopened(store), CPU
        )
        while not conditions.made:
            assert not first.done()
        told = []

        def step(pieces=1, note=""):
            told.append(note)
            conditions.free.set()

        free = Condition("corruptions", "test", lambda images, examples: images.flip(2), level=0)
        split = dataset.test
        tasks = [
            Task(free, each, [free.cell(0, each, split, None)]) for each in (subject(1), subject(2))
        ]
        seen = []
        claims = Claims(reopened(store))
        evaluated = claims.work_off([tasks], seen.append, step)
        assert first.result() == 2
    assert [[task.network.name for task in own] for own in seen] == [["alpha=0 seed=2"]]
    assert evaluated == 1
    assert told[0].startswith("waits for process ")


def test_what_another_run_failed_at_is_not_tried_again(subject, dataset, store, monkeypatch):
    piece, genuine = Condition("clean", "clean"), Claims._take

    def late(self, task, held):
        """Take the lock after another run did the work and failed."""
        monkeypatch.setattr(Claims, "_take", genuine)
        evaluate([subject(0, MemoryError())], [piece], dataset, reopened(store), CPU)
        return genuine(self, task, held)

    monkeypatch.setattr(Claims, "_take", late)
    assert evaluate([subject(0)], [piece], dataset, store, CPU) == 0
    assert len(store.failed()) == 1


def test_locks_are_given_back_when_a_run_is_interrupted(subject, dataset, store):
    def perturb(images, examples):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate([subject(0)], [Condition("c", "bad", perturb)], dataset, store, CPU)
    assert not list(store.locks.folder.iterdir())


# Training.


@pytest.fixture
def study(tiny_study, fresh_home):
    study = load_study(str(tiny_study))
    return study, load_dataset(study.dataset)


def test_a_network_is_trained_once_by_two_who_need_it(study, monkeypatch):
    began, free, calls = Event(), Event(), []
    genuine = training_run.train

    def train(*arguments, **options):
        calls.append(1)
        began.set()
        assert free.wait(PATIENCE)
        return genuine(*arguments, **options)

    monkeypatch.setattr(training_run, "train", train)
    notes = []

    def step(pieces=1, note=""):
        notes.append(note)
        free.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(train_or_find, *study, 0.0, 0, CPU)
        assert began.wait(PATIENCE)
        with pytest.raises(BusyError):
            train_or_find(*study, 0.0, 0, CPU, wait=False)
        second = train_or_find(*study, 0.0, 0, CPU, step)
        assert first.result().manifest == second.manifest
    assert len(calls) == 1
    assert notes[0].startswith("waits for process ")
    assert notes[0].endswith(", which trains alpha=0 seed=0")


def test_a_network_in_the_cache_needs_no_lock(study, fresh_home):
    train_or_find(*study, 0.0, 0, CPU)
    for path in (fresh_home / "locks").iterdir():
        path.unlink()
    (fresh_home / "locks").rmdir()
    (fresh_home / "locks").write_text("no folder")
    train_or_find(*study, 0.0, 0, CPU, wait=False)


@pytest.mark.soak
def test_another_runs_networks_are_left_for_the_end(tiny_study, selbench, monkeypatch, fresh_home):
    order, genuine, busy = [], training_run.train, Event()

    def take(self, name):
        if len(self.asked) == 0 and not busy.is_set():
            busy.set()
            return Holder("far", "far", 1, "1", "t")
        return genuine_take(self, name)

    genuine_take = Locks.take
    monkeypatch.setattr(Locks, "asked", (), raising=False)
    monkeypatch.setattr(Locks, "take", take)

    def train(*arguments, alpha, **options):
        order.append(alpha)
        return genuine(*arguments, alpha=alpha, **options)

    monkeypatch.setattr(training_run, "train", train)
    out = selbench("train", tiny_study).out
    assert order == [1, 0]
    assert [line.split()[0] for line in out.splitlines()] == ["alpha=0", "alpha=1"]


# Commands.


@pytest.mark.soak
def test_two_commands_at_once_leave_what_one_leaves(tiny_study, selbench, fresh_home):
    words = ["run", str(tiny_study), "--suite", "corruptions", "--corruption", "brightness", "-q"]
    runs = [Forked(*words) for _ in range(2)]
    first, second = [each.ended() for each in runs]
    code, out, _ = first
    assert code == 0, first
    assert first == second
    assert selbench(*words).out == out
    assert selbench("verify").out.endswith("none is damaged\n")
    cells = StudyStore(Path("runs"), "tiny").cells()
    files = list(Path("runs/tiny/cells").glob("*.json"))
    assert not cells["key"].duplicated().any()
    assert len(cells) == 2 * (1 + 1 + 5)
    assert len(files) <= len(cells)
    assert selbench(*words, "--store", "alone").code == 0
    tables = [Path(store, "tiny", "measurements.csv").read_bytes() for store in ("runs", "alone")]
    assert tables[0] == tables[1]
