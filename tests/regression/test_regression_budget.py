"""What a budget buys: the same on every machine, and more for more."""

import pytest

from selbench._kit.errors import SelbenchError
from selbench.regression.budget import LEAST, choose, forward_seconds, seconds_of
from selbench.suites import Attack, Condition

PIECES = [
    Condition("clean", "clean"),
    *(Condition("corruptions", name, level=level) for name in "ab" for level in (1, 2, 3, 4, 5)),
]


def levels(seconds, examples=10_000, forward=0.001):
    kept, taken = choose(PIECES, examples, seconds, forward, 0)
    return sorted({each.level for each in kept if each.level}), taken


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("5m", 300), ("1.5h", 5400), ("9", 9)])
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "-5s", "s", "inf", "nan", "1e9", "60 s", "9" * 400, 60, None]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(SelbenchError, match="--budget takes a time such as 60s or 5m"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "kept", "taken"),
    [
        (1000, [1, 2, 3, 4, 5], 10_000),
        (11, [1, 2, 3, 4, 5], 1000),
        (5.6, [1, 2, 3, 4, 5], 509),
        (5.4, [1, 3, 5], 771),
        (3, [3, 5], 600),
        (2, [3], 666),
        (0.2, [3], 66),
    ],
)
def test_severities_go_before_examples_become_few(seconds, kept, taken):
    assert levels(seconds) == (kept, taken)


def test_few_examples_are_all_taken_under_all_conditions():
    assert levels(1, examples=60) == ([1, 2, 3, 4, 5], 60)


def test_what_costs_nothing_that_is_counted_is_taken_whole():
    assert levels(1, forward=0) == ([1, 2, 3, 4, 5], 10_000)


def test_too_short_a_time_is_refused_with_one_that_is_enough():
    with pytest.raises(SelbenchError, match="too short for 50 examples under 3 conditions; give"):
        levels(0.1)
    assert levels(LEAST * 3 * 0.001 + 1e-9) == ([3], LEAST)


@pytest.mark.parametrize("forward", [1e-9, 3.33e-7, 1 / 3000, 0.001, 0.37, 44.4])
def test_the_time_that_is_offered_is_enough_and_hardly_more(forward):
    with pytest.raises(SelbenchError) as raised:
        levels(1e-9, forward=forward)
    offered = seconds_of(str(raised.value).rpartition(" ")[2])
    assert levels(offered, forward=forward)[1] >= LEAST
    assert offered <= max(LEAST * 3 * forward * 1.1, 1e-6)


def test_attacks_are_left_out():
    attack = Attack("attacks", "pgd", (1.0,), lambda *_: [])
    kept, _ = choose([*PIECES, attack], 100, 60, 0.001, 0)
    assert attack not in kept
    with pytest.raises(SelbenchError, match="there are attacks only"):
        choose([attack], 100, 60, 0.001, 0)


def test_corrupting_costs_time():
    assert choose(PIECES, 10_000, 20, 0.001, 10_000)[1] < choose(PIECES, 10_000, 20, 0.001, 0)[1]


def test_a_forward_pass_is_counted_not_timed(network):
    first = forward_seconds(network(), 32, 32)
    assert first == forward_seconds(network(1), 32, 32) > 0
    assert forward_seconds(network(), 64, 64) == pytest.approx(4 * first, rel=0.01)
