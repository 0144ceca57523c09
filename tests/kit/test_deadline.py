"""Networks that do not answer: ended where Python can, recorded as failed, others go on."""

import signal
import threading
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

import selbench as package
from selbench._kit.deadline import Clock, OutOfTimeError
from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore

LATE = r"^it took more than the 0\.01 s of --time-limit$"


def forever():
    while True:
        len("")


def asleep():
    time.sleep(1000)


def stubborn():
    while True:
        with suppress(Exception):  # as networks do that try again
            forever()


def place(problem):
    """Return the function that was interrupted."""
    step = problem.__traceback__
    while step.tb_next:
        step = step.tb_next
    return step.tb_frame.f_code.co_name


def in_thread(function):
    """Return what a function raises in another thread."""
    raised = []

    def run():
        try:
            function()
        except BaseException as problem:
            raised.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


@pytest.mark.parametrize("hangs", [forever, asleep, stubborn])
def test_what_hangs_in_the_main_thread_is_ended_where_it_is(hangs):
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTimeError, match=LATE) as problem, Clock(0.01).running():
        hangs()
    assert place(problem.value) in ("forever", "asleep", "stubborn")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_alarm_of_others_rings_on():
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1000, 5)
    try:
        with Clock(500).running():
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 500 < left <= 1000
        assert interval == 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("hangs", [forever, stubborn])
def test_what_hangs_in_a_thread_is_ended(hangs):
    def run():
        with Clock(0.01).running():
            hangs()

    (problem,) = in_thread(run)
    assert isinstance(problem, OutOfTimeError)


def test_what_no_exception_reaches_is_reported(monkeypatch):
    monkeypatch.setattr("selbench._kit.deadline.AGAIN", 0.001)
    release, told = threading.Event(), []

    def run():
        with Clock(0.01, lambda problem: (told.append(problem), release.set())).running():
            release.wait()  # in C

    (problem,) = in_thread(run)  # once it is back in Python
    assert isinstance(problem, OutOfTimeError)
    assert [str(each) for each in told] == ["it took more than the 0.01 s of --time-limit"]


def test_blocks_share_a_clock_and_one_without_end_lets_all_pass():
    with Clock(None).running():
        pass
    clock = Clock(1000)
    for _ in range(3):
        with clock.running():
            pass
    clock._left = 0
    with pytest.raises(OutOfTimeError), clock.running():
        forever()


class Hangs(nn.Module):
    """Never answers to more than two images."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, images):
        if len(images) > 2:
            forever()
        return self.head(images.mean((2, 3)))


class Always(Hangs):
    """Never answers."""

    def forward(self, images):
        forever()


def test_a_network_that_hangs_fails_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("selbench.networks.probe.CHECKS", ())
    torch.manual_seed(0)
    told = pytest.warns(RuntimeWarning, match="1 cell failed .*\n.*OutOfTimeError: it took more")
    with told, pytest.raises(SelbenchError, match="holds no results on 4 test images"):
        package.evaluate(Hangs(), "digits", "clean", limit=4, store=tmp_path, time_limit=0.05)
    store = StudyStore(tmp_path, "digits")
    (failure,) = store.failures(store.failed())
    assert failure.reason == "OutOfTimeError: it took more than the 0.05 s of --time-limit"
    assert failure.place.endswith(" in forever")


def test_a_network_that_never_answers_fails_in_every_cell_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("selbench.networks.loading.WARM", 0)
    monkeypatch.setattr("selbench.networks.probe.WARM", 0)
    told = pytest.warns(RuntimeWarning, match=r"OutOfTimeError: it took more than the 0\.05 s of")
    with told, pytest.raises(SelbenchError, match="holds no results on 4 test images"):
        package.evaluate(Always(), "digits", "clean", limit=4, store=tmp_path, time_limit=0.05)
    assert len(StudyStore(tmp_path, "digits").failed()) == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_seconds(seconds, refused, match):
    with pytest.raises(SelbenchError, match="time_limit is a number of seconds above 0"):
        package.evaluate(Hangs(), "digits", "clean", time_limit=seconds)
    match("--time-limit takes seconds above 0", refused("run", "--time-limit", seconds))
