"""A cell that fails is kept with its reason, the others go on, and the run says so."""

import dataclasses
from pathlib import Path

import pytest
import torch

import selbench as package
from selbench._engine import evaluate
from selbench._kit import chunks
from selbench._kit.crew import StoppedError
from selbench._kit.errors import SelbenchError
from selbench.request import Request
from selbench.store import Failure, Result, StudyStore
from selbench.suites import (
    Attack,
    Condition,
    HeldOut,
    Recalibration,
    Setting,
    Task,
    Validation,
    bench,
)
from selbench.suites.bench import record_failure
from selbench.suites.index import class_index

CPU = torch.device("cpu")
SMALL = Setting(32, 32)
CLEAN = Condition("clean", "clean")
PROBLEMS = {
    "memory of the GPU": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "memory": MemoryError(),
    "its own": RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore of it"),
    "assertion": AssertionError("no such thing"),
    "end of the program": SystemExit(0),
    "file": FileNotFoundError(2, "No such file or directory", "table.bin"),
}


def keys_of(store, name):
    cells = store.cells()
    return set(cells[cells["subject"] == name]["key"])


def noise(level=1):
    def perturb(images, examples):
        return images.flip(3)

    return Condition("corruptions", "noise", perturb, level=level, group="noise")


def attack(run):
    return Attack("attacks", "test", (1.0, 2.0), run)


# A network that fails under conditions.


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("what", PROBLEMS)
def test_a_network_that_fails_takes_no_other_with_it(what, subject, dataset, store):
    problem = PROBLEMS[what]
    networks = [subject(0), subject(1, problem), subject(2)]
    assert evaluate(networks, [CLEAN, noise()], dataset, store, CPU) == 4
    assert len(keys_of(store, "alpha=0 seed=0")) == len(keys_of(store, "alpha=0 seed=2")) == 2
    assert not keys_of(store, "alpha=0 seed=1")
    failures = store.failures(store.failed())
    assert {each.cell.subject for each in failures} == {"alpha=0 seed=1"}
    assert {each.cell.condition for each in failures} == {"clean", "noise"}
    first, *_ = str(problem).splitlines() or [""]
    reason = f"{type(problem).__name__}: {first}" if first else type(problem).__name__
    assert {each.reason for each in failures} == {reason}
    assert all(each.place.startswith("conftest.py:") for each in failures)
    assert chunks.BATCH["cpu"] == 250  # what is too much for one is not for others


def test_the_others_numbers_are_those_without_the_one_that_fails(subject, dataset, store, tmp_path):
    alone = StudyStore(tmp_path / "alone", "study")
    evaluate([subject(0), subject(2)], [CLEAN, noise()], dataset, alone, CPU)
    evaluate(
        [subject(0), subject(1, MemoryError()), subject(2)], [CLEAN, noise()], dataset, store, CPU
    )
    assert store.measurements().equals(alone.measurements())
    assert store.outcomes().equals(alone.outcomes())


def test_side_by_side_one_that_fails_does_not_stop_the_crew(subject, dataset, store):
    torch.set_num_threads(2)
    try:
        networks = [subject(0), subject(1, MemoryError()), subject(2)]
        pieces = [CLEAN, noise(), *class_index(SMALL)]
        assert evaluate(networks, pieces, dataset, store, CPU) == 6
    finally:
        torch.set_num_threads(1)
    assert len(store.failed()) == 3


def test_a_condition_that_cannot_be_made_fails_for_all_and_the_next_goes_on(
    subject, dataset, store
):
    def perturb(images, examples):
        raise MemoryError

    pieces = [Condition("corruptions", "huge", perturb, level=1), CLEAN]
    assert evaluate([subject(0), subject(1)], pieces, dataset, store, CPU) == 2
    assert [each.cell.condition for each in store.failures(store.failed())] == ["huge", "huge"]


@pytest.mark.parametrize(
    "problem", [torch.cuda.OutOfMemoryError("CUDA out of memory"), SystemExit(3)]
)
def test_a_network_that_cannot_be_loaded_fails_alone(problem, subject, dataset, store):
    def load():
        raise problem

    networks = [subject(0), dataclasses.replace(subject(1), load=load)]
    assert evaluate(networks, [CLEAN, noise()], dataset, store, CPU) == 2
    assert len(store.failed()) == 2


# Attacks, analyses, what is made of outcomes.


def test_an_attack_that_fails_keeps_all_its_levels_as_failed(subject, dataset, store):
    def run(network, images, labels, examples):
        raise ValueError("images must lie in [0, 1], got values from nan to nan")

    pieces = [attack(run), CLEAN]
    assert evaluate([subject(0)], pieces, dataset, store, CPU) == 1
    failures = store.failures(store.failed())
    assert sorted(each.cell.level for each in failures) == [1, 2]
    assert failures[0].reason.startswith("ValueError: images must lie in [0, 1]")


@pytest.mark.parametrize("problem", [ZeroDivisionError("by zero"), SystemExit("by zero")])
def test_an_analysis_that_fails_leaves_the_other_networks(problem, subject, dataset, store):
    networks = [subject(0), subject(1, problem)]
    (index,) = class_index(SMALL)
    assert evaluate(networks, [index], dataset, store, CPU) == 1
    (failure,) = store.failures(store.failed())
    reason = f"{type(problem).__name__}: by zero"
    assert (failure.cell.suite, failure.reason) == (index.suite, reason)


def test_what_is_made_of_outcomes_that_failed_fails_too_and_is_made_when_they_are(
    subject, dataset, store
):
    held_out = HeldOut("h", 20, lambda seed: dataset.test)
    validation = Validation(held_out=held_out)
    pieces = [CLEAN, validation, Recalibration("recalibration", "clean", (CLEAN,), validation)]
    networks = [subject(0), subject(1, MemoryError())]
    assert evaluate(networks, pieces, dataset, store, CPU) == 3
    reasons = {each.cell.suite: each.reason for each in store.failures(store.failed())}
    assert reasons["clean"] == reasons["validation"] == "MemoryError"
    assert reasons["recalibration"].startswith("MissingOutcomesError: ")
    mended = [subject(0), subject(1)]
    assert evaluate(mended, pieces, dataset, store, CPU, Request(retry=True)) == 3
    assert store.failed() == set()


def test_a_network_whose_outputs_are_nan_stands_in_the_caption(selbench, tiny_study):
    Path("networks.py").write_text(NETWORKS)
    models = ["--model", "networks.py:sound", "--model", "networks.py:fades"]
    ended = selbench("run", tiny_study, *models, "--quiet")
    assert ended.code == 0
    told = "; outputs that are NaN or infinite count as they come: networks.py:fades."
    assert told in " ".join(ended.out.split())
    alone = selbench("run", tiny_study, *models[2:], "--quiet", "--store", "alone")
    assert told in " ".join(alone.out.split())
    sound = selbench("run", tiny_study, *models[:2], "--quiet", "--store", "sound")
    assert "NaN" not in sound.out


# What is no cell's failure.


@pytest.mark.parametrize(
    "problem", [SelbenchError("the disk is full"), StoppedError(), KeyboardInterrupt()]
)
def test_what_the_user_has_to_mend_ends_the_run(problem, subject, dataset, store):
    def perturb(images, examples):
        raise problem

    with pytest.raises(type(problem)):
        evaluate([subject(0)], [Condition("c", "bad", perturb)], dataset, store, CPU)
    with pytest.raises(type(problem)):
        evaluate([subject(0, problem)], [CLEAN], dataset, store, CPU)
    assert store.failed() == set()


def test_a_full_disk_is_no_failure_of_the_network(subject, dataset, store, room_for):
    with room_for(100), pytest.raises(SelbenchError, match=r"cannot write .*make room"):
        evaluate([subject(0)], [CLEAN], dataset, store, CPU)
    assert store.failed() == set()


def test_a_reason_is_one_short_line(subject, dataset, store):
    evaluate([subject(0, ValueError("x" * 9999))], [CLEAN], dataset, store, CPU)
    (failure,) = store.failures(store.failed())
    assert len(failure.reason) == bench.LONGEST


def test_the_end_of_a_crew_is_no_failure(subject, store):
    with pytest.raises(StoppedError):
        record_failure([Task(CLEAN, subject(0), [])], StoppedError(), store)


def test_a_gpu_that_is_broken_ends_the_run(monkeypatch):
    def synchronize(device):
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    bench.check_alive(CPU)
    message = r"^cuda is unusable in this process after an error \(CUDA error: .*triggered\); f"
    with pytest.raises(SelbenchError, match=message):
        bench.check_alive(torch.device("cuda"))


# Again.


def test_a_second_run_does_not_try_again_unless_it_is_told_to(subject, dataset, store):
    calls = []

    def run(network, images, labels, examples):
        calls.append(1)
        raise ValueError("NaN")

    options = {"networks": [subject(0)], "pieces": [attack(run)], "dataset": dataset}
    options |= {"store": store, "device": CPU}
    assert evaluate(**options) == 0
    assert evaluate(**options) == 0
    assert len(calls) == 1
    unloaded = dataclasses.replace(subject(0), load=lambda: pytest.fail("it is loaded"))
    assert evaluate(**(options | {"networks": [unloaded]})) == 0
    assert evaluate(**options, request=Request(retry=True)) == 0
    assert len(calls) == 2
    assert len(store.failed()) == 2


def test_what_was_retried_with_success_is_no_failure_any_more(subject, dataset, store):
    evaluate([subject(0, MemoryError())], [CLEAN], dataset, store, CPU)
    assert evaluate([subject(0)], [CLEAN], dataset, store, CPU) == 0
    assert evaluate([subject(0)], [CLEAN], dataset, store, CPU, Request(retry=True)) == 1
    assert store.failed() == set()
    assert len(store.keys()) == 1


def test_a_cell_that_is_evaluated_after_all_is_no_failure(subject, dataset, store):
    cell = CLEAN.cell(None, subject(0), dataset.test, None)
    store.fail([Failure(cell, "MemoryError")])
    assert store.failed() == {cell.key}
    store.write([Result(cell, [])])
    assert store.failed() == set()


def test_only_what_is_asked_for_is_tried_again(subject, dataset, store):
    evaluate([subject(0, MemoryError())], [CLEAN, noise()], dataset, store, CPU)
    assert evaluate([subject(0)], [CLEAN], dataset, store, CPU, Request(retry=True)) == 1
    assert [each.cell.condition for each in store.failures(store.failed())] == ["noise"]


# The command.


NETWORKS = """
from pathlib import Path

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(3, 3)

    def forward(self, images):
        return self.head(torch.relu(images).mean((2, 3)))


class Fragile(Network):
    def forward(self, images):
        if len(images) > 4 and Path("fragile").exists():
            raise RuntimeError("more images than fit")
        return super().forward(images)


class Fades(Network):
    def forward(self, images):
        outputs = super().forward(images)
        outputs[2:] = float("nan")
        return outputs


def fades():
    return Fades(2)


def sound():
    return Network(0)


def fragile():
    return Fragile(1)
"""


@pytest.fixture
def words(tiny_study):
    """Return the words of a command that evaluates two networks, one of which fails at first."""
    Path("networks.py").write_text(NETWORKS)
    Path("fragile").touch()
    models = ["--model", "networks.py:sound", "--model", "networks.py:fragile"]
    return ["run", tiny_study, *models, "--quiet"]


def test_the_command_ends_with_3_and_says_what_is_missing_and_what_tries_again(selbench, words):
    ended = selbench(*words)
    assert ended.code == 3
    assert "sound" in ended.out
    assert "Traceback" not in ended.err
    command = f"selbench {' '.join(map(str, words))} --retry-failed"
    assert ended.err == (
        "selbench: 1 cell failed and is missing:\n"
        "  networks.py:fragile: clean/clean: RuntimeError: more images than fit\n"
        f"the others are kept; runs/tiny/failed says more; try again with `{command}`\n"
    )


def test_the_second_command_says_that_it_did_not_try_again(selbench, words):
    selbench(*words)
    manifest = Path("runs/tiny/manifest.json").read_bytes()
    Path("fragile").unlink()
    ended = selbench(*words)
    assert ended.code == 3
    assert "1 cell failed and is missing, all in an earlier run and not tried again:" in ended.err
    assert Path("runs/tiny/manifest.json").read_bytes() == manifest
    ended = selbench(*words, "--retry-failed")
    assert (ended.code, ended.err) == (0, "")
    assert "fragile" in ended.out
    assert selbench(*words).code == 0


def test_so_does_a_run_of_which_nothing_is_left_beside_other_results(selbench, words):
    words = ("run", words[1], "--model", "networks.py:sound", "--quiet", "--limit", "6")
    assert selbench(*words).code == 0
    words = ("run", words[1], "--model", "networks.py:fragile", "--quiet", "--limit", "9")
    ended = selbench(*words)
    assert (ended.code, ended.out) == (3, "")
    assert "more images than fit" in ended.err


def test_a_run_of_which_nothing_is_left_ends_with_3_too(selbench, words):
    ended = selbench("run", words[1], "--model", "networks.py:fragile", "--quiet")
    assert ended.code == 3
    assert ended.out == ""
    assert "more images than fit" in ended.err


@pytest.mark.soak
def test_what_no_option_asks_for_is_no_failure_of_this_run(selbench, words):
    selbench(*words)
    assert selbench("run", words[1], "--model", "networks.py:sound", "--quiet").code == 0


def test_python_gets_the_other_rows_and_a_warning(dataset, few_conditions):
    class Fails(torch.nn.Module):
        def forward(self, images):
            if len(images) > 4 and not torch.equal(images, clean):
                raise MemoryError
            return torch.relu(images).mean((2, 3))[:, [0, 1, 2, 0, 1]]

    clean = dataset.test.images.float() / 255
    message = r"4 cells failed and are missing:\n  Fails: corruptions/.*: MemoryError\n"
    with pytest.warns(RuntimeWarning, match=message):
        rows = package.evaluate(Fails(), dataset, "corruptions", store="runs")
    assert set(rows["condition"]) == {"clean"}


def test_a_long_list_of_failures_is_cut(subject, dataset, store):
    from selbench.store.missing import LINES, missing

    networks = [subject(seed, MemoryError()) for seed in range(LINES + 2)]
    pieces = [noise(level) for level in range(1, 7)]
    evaluate(networks, pieces, dataset, store, CPU)
    told = missing(store.failures(store.failed()), 5, store.folder, "again").splitlines()
    assert told[0] == (
        f"{6 * (LINES + 2)} cells failed and are missing, 5 of them in an earlier run and not "
        "tried again:"
    )
    assert "noise/4 and 2 more: MemoryError" in " ".join(told)
    assert told[-2] == "  and 2 others"
    assert len(told) == LINES + 3
