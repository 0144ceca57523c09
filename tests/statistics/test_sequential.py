"""Intervals that hold under stopping: known answers, coverage, and their price."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from selbench.datasets import stratified_order
from selbench.statistics.sequential import bounds, capital, displaced, fewest, within

ALPHA = 0.05
MARGIN = 0.03  # of a difference in [-1, 1], which is scaled to [0, 1]
SIZE, CHUNK = 1000, 64


def world(difference, discordance, size=SIZE):
    """Return the scaled differences of two networks on all images."""
    more = round(size * (discordance + difference) / 2)
    fewer = round(size * (discordance - difference) / 2)
    return np.repeat([1.0, 0.0, 0.5], [more, fewer, size - more - fewer])


def decisions(draws, size):
    """Return at which chunk each run stops, and which of above, below and alike it decides."""
    stops = np.append(np.arange(CHUNK, size, CHUNK), size) - 1

    def reached(values, mean):
        found = np.maximum.accumulate(capital(values, mean, size), -1)
        return found[:, stops] >= math.log(2 / ALPHA)

    above, below = reached(draws, 0.5), reached(1 - draws, 0.5)
    near = 0.5 - MARGIN / 2
    alike = reached(draws, near) & reached(1 - draws, near) & ~above & ~below
    ends = (above | below | alike).argmax(1)
    runs = np.arange(len(draws))
    return stops[ends] + 1, *(each[runs, ends] for each in (above, below, alike))


def false(difference, above, below, alike):
    wrong = (above & (difference <= 0)) | (below & (difference >= 0))
    return wrong | (alike & (abs(difference) >= MARGIN))


# Known answers.


def test_two_that_never_differ_are_shown_alike_after_as_many_as_a_lottery_says():
    """Were they as far apart as the margin, 30 of 1,000 tickets would win, and none was drawn."""
    n = fewest(SIZE, ALPHA, MARGIN)
    largest_bet = [math.comb(970, k) / math.comb(1000, k) for k in range(SIZE)]
    alone = next(k for k, chance in enumerate(largest_bet) if chance <= ALPHA / 2)
    assert alone <= n <= 1.6 * alone  # capital is divided among five bets
    halves = np.full(SIZE, 0.5)
    low, high = (1 - MARGIN) / 2, (1 + MARGIN) / 2
    assert within(halves[:n], SIZE, ALPHA, low, high)
    assert not within(halves[: n - 1], SIZE, ALPHA, low, high)


def test_after_all_images_the_mean_is_known():
    values = np.random.default_rng(0).permutation(world(0.01, 0.3))
    found = bounds(values, SIZE, ALPHA)
    assert found.low == pytest.approx(values.mean(), abs=1e-6)
    assert found.high == pytest.approx(values.mean(), abs=1e-6)


def test_bets_win_what_they_must():
    """A draw of 1 against a mean of 1/2 doubles the largest bet; halves change nothing."""
    found = np.exp(capital(np.array([0.5, 1.0]), 0.5, 10**9))
    stakes = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]
    assert found == pytest.approx([1, np.mean([1 + each for each in stakes])])


def test_bounds_tighten_and_agree_with_within():
    values = np.random.default_rng(1).permutation(world(0.1, 0.3))
    found = [bounds(values[:n], SIZE, ALPHA) for n in (1, 50, 200, 600)]
    for before, after in pairwise(found):
        assert before.low <= after.low <= after.high <= before.high
    low, high = found[2].low, found[2].high
    assert within(values[:200], SIZE, ALPHA, low - 1e-6, high + 1e-6)
    assert not within(values[:200], SIZE, ALPHA, low + 1e-6, high + 1e-6)


def test_capital_falls_as_the_mean_that_it_bets_against_rises():
    values = np.random.default_rng(2).permutation(world(0.1, 0.3))[:300]
    ends = [capital(values, mean, SIZE).max() for mean in np.linspace(0.3, 0.7, 30)]
    assert all(a >= b for a, b in pairwise(ends))


@pytest.mark.parametrize(
    ("draws", "size", "alpha", "reason"),
    [
        ([0.5], 1, 0.0, "alpha lies between 0 and 1, got 0.0"),
        ([], 1, 0.1, "of 1 values between 1 and all are drawn, got 0"),
        ([0.5] * 3, 2, 0.1, "of 2 values between 1 and all are drawn, got 3"),
        ([1.5], 2, 0.1, r"draws lie in \[0, 1\]"),
        ([np.nan], 2, 0.1, r"draws lie in \[0, 1\]"),
    ],
)
def test_what_is_no_draw_is_refused(draws, size, alpha, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        bounds(np.array(draws), size, alpha)


# Coverage under stopping, and what it costs.

WORLDS = [(0.0, 0.1), (0.0, 0.3), (0.03, 0.1), (0.03, 0.3), (0.1, 0.3)]


@pytest.mark.parametrize("runs", [80, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("difference", "discordance"), WORLDS)
def test_at_most_5_percent_of_runs_that_stop_decide_falsely(difference, discordance, runs):
    generator = np.random.default_rng(3)
    draws = np.tile(world(difference, discordance), (runs, 1))
    draws = generator.permuted(draws, axis=1)
    wrong = [false(difference, *decisions(part, SIZE)[1:]) for part in np.array_split(draws, 10)]
    assert np.concatenate(wrong).mean() <= ALPHA


@pytest.mark.parametrize("runs", [100, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("apart", [0.0, 0.3, 0.6])
def test_the_order_of_limits_keeps_the_promise_where_classes_have_one_size(apart, runs):
    """Ten classes of 100 images; in half of them one network is better, in half the other."""
    for difference in (0.0, 0.03) if runs > 100 else (0.0,):
        shares = [difference + sign * apart for sign in (1, -1)] * 5
        values = np.concatenate([world(each, max(abs(each), 0.2), 100) for each in shares])
        truth = 2 * values.mean() - 1
        labels = torch.arange(10).repeat_interleave(100)
        orders = [
            stratified_order(labels, torch.Generator().manual_seed(seed)) for seed in range(runs)
        ]
        draws = values[torch.stack(orders).numpy()]
        wrong = [
            false(round(truth, 9), *decisions(part, SIZE)[1:]) for part in np.array_split(draws, 10)
        ]
        assert np.concatenate(wrong).mean() <= ALPHA


def test_it_takes_at_most_twice_what_a_test_at_one_number_of_images_takes():
    """A test with 80 % power for 10 points at a discordance of 30 % takes 2.8^2 x 0.3 / 0.01."""
    draws = np.random.default_rng(4).permuted(np.tile(world(0.1, 0.3, 3000), (40, 1)), axis=1)
    stopped, above, *_ = decisions(draws, 3000)
    assert above.all()
    assert stopped.mean() <= 2 * 2.8**2 * 0.3 / 0.1**2


# Where classes have unequal sizes, the first images are not a random draw of all.


def test_images_that_are_not_of_the_classes_a_draw_would_have_are_counted():
    equal = torch.arange(10).repeat_interleave(100)
    singles = torch.cat([torch.zeros(500), torch.arange(1, 501)]).long()
    assert displaced(equal.numpy(), 64) == pytest.approx(0)
    assert displaced(singles.numpy(), 64) == pytest.approx(0.5)  # all of the first 64 are zeros
