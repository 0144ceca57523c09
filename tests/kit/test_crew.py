"""Networks side by side: the same numbers, an early end on failure."""

import threading
from contextlib import contextmanager

import pytest
import torch

from selbench._kit.crew import StoppedError, crew, is_small
from selbench._kit.progress import quiet
from selbench.models import build_model
from selbench.study import ModelSpec

CPU = torch.device("cpu")


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "small"), [("resnet8", True), ("resnet20", False)])
def test_digits_network_is_small_and_cifars_is_not(name, small):
    model = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3))
    assert is_small(model, 32 * 32) is small


@pytest.mark.parametrize("small", [True, False])
def test_map_keeps_the_order(small):
    with threads(3), crew(small, CPU, quiet) as (run_all, _):
        assert run_all(lambda item: item * item, range(20)) == [i * i for i in range(20)]


def test_small_networks_run_side_by_side_with_one_thread_each():
    barrier = threading.Barrier(2, timeout=30)  # passes only if two items are under way at once

    def meet(item):
        barrier.wait()
        return torch.get_num_threads()

    with threads(2):
        with crew(True, CPU, quiet) as (run_all, _):
            assert run_all(meet, range(4)) == [1] * 4
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_ends_the_others_at_their_next_step(failing):
    started = threading.Event()
    ended = []

    def work(item):
        if item == failing:
            assert started.wait(30)
            raise ValueError("no more")
        started.set()
        try:
            while True:
                safe_step()
        except StoppedError:
            ended.append(item)
            raise

    with (
        threads(2),
        pytest.raises(ValueError, match="no more"),
        crew(True, CPU, quiet) as (run_all, safe_step),
    ):
        run_all(work, range(2))
    assert ended == [1 - failing]


def test_steps_from_several_threads_are_all_counted():
    counts = []

    def step(pieces=1, note=""):
        before = len(counts)
        counts.append(pieces)
        assert len(counts) == before + 1

    with threads(4), crew(True, CPU, step) as (run_all, safe_step):
        run_all(lambda item: [safe_step() for _ in range(50)], range(8))
    assert sum(counts) == 400
