"""Spearman's rho: its interval covers, and its p-values are right where they are small."""

import math

import numpy as np
import pytest
from scipy import stats

from selbench.trends import p_of_rho, spearman_trend

SEVEN = (-2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0)


def test_trend_is_spearmans_with_bonett_and_wrights_interval():
    x, y = [-2.0, -2, -1, -1, 0, 0, 1, 1, 2, 2], [5.0, 6, 4, 5, 4, 3, 3, 5, 1, 2]
    found, expected = spearman_trend(x, y), stats.spearmanr(x, y)
    assert found.value == pytest.approx(expected.statistic)
    error = math.sqrt((1 + found.value**2 / 2) / 7)
    middle = math.atanh(found.value)
    ends = [math.tanh(middle + side * 1.959964 * error) for side in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(ends)
    assert (found.networks, found.examples) == (10, None)


def test_few_points_have_an_exact_p_value():
    assert spearman_trend([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).p == pytest.approx(2 / 120)
    assert spearman_trend([1, 2, 3, 4], [2, 1, 3, 4]).p == pytest.approx(8 / 24)
    tied = spearman_trend([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6])
    assert tied.p == pytest.approx(2 / 20)  # two of the ways to choose three of six
    assert 1e-5 <= spearman_trend(range(9), range(9)).p <= 4e-5  # exactly 5.5e-6


def test_a_perfect_trend_still_has_an_interval():
    up, down = spearman_trend(range(6), range(6)), spearman_trend(range(6), range(0, -6, -1))
    assert up.value == up.high == pytest.approx(1)
    assert 0.5 < up.low < 0.99
    assert (down.value, down.low, down.high) == pytest.approx((-up.value, -up.high, -up.low))


def test_trend_sees_ranks_only():
    x, y = [0.1, 0.2, 0.4, 1, 2, 5, 10, 20, 50], [3.0, 1, 2, 4, 6, 5, 9, 7, 8]
    assert spearman_trend(x, y) == spearman_trend(np.log(x).tolist(), np.exp(y).tolist())


def test_the_p_value_of_tied_alphas_is_that_of_all_orders():
    found = spearman_trend(np.repeat([0, 1, 2], 3).tolist(), range(9))
    assert found.p == pytest.approx(2 / 1680, rel=0.3)  # of the ways to put nine in three threes
    assert found.p > 5 * stats.spearmanr(np.repeat([0, 1, 2], 3), range(9)).pvalue


def test_the_p_of_no_rho_is_that_of_the_trend():
    x, y = np.repeat(SEVEN, 2).tolist(), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]
    assert p_of_rho(x, y, 0.0) == spearman_trend(x, y).p
    assert p_of_rho(x, y, 1e-9) == pytest.approx(spearman_trend(x, y).p, rel=0.2)


def often(few, many):
    """Repeat a simulation a few times; many times among the tests that take minutes."""
    return pytest.mark.parametrize("draws", [few, pytest.param(many, marks=pytest.mark.soak)])


def slack(of_many, draws, many):
    """Return what chance may bring in so many draws, where `of_many` is that of many."""
    return of_many * math.sqrt(many / draws)


@often(500, 1500)
@pytest.mark.parametrize("noise", ["uniform", "t"])
@pytest.mark.sample
def test_small_p_values_of_a_rho_are_as_rare_as_they_say(noise, draws):
    x, true, rng = np.repeat(SEVEN[3:], 2), 0.3, np.random.default_rng(4)
    draw = {
        "uniform": lambda size: rng.uniform(-1, 1, size),
        "t": lambda size: rng.standard_t(3, size),
    }[noise]
    slope = {"uniform": 0.263, "t": 0.539}[noise]
    many = np.repeat(x, 20_000)
    assert stats.spearmanr(many, slope * many + draw(len(many))).statistic == pytest.approx(
        true, abs=0.01
    )
    p = [p_of_rho(x.tolist(), (slope * x + draw(8)).tolist(), true) for _ in range(draws)]
    few = slack(0.02, draws, 1500)
    assert 0.04 - few <= np.mean(np.array(p) <= 0.05) <= 0.05 + few
    assert np.mean(np.array(p) <= 0.005) <= 0.005 + slack(0.005, draws, 1500)


def test_the_p_of_a_rho_falls_with_the_distance_and_has_no_bottom_of_its_own():
    x = np.repeat(SEVEN[3:], 2).tolist()
    y = [8, 7, 6, 5, 4, 3, 1, 2]
    p = [p_of_rho(x, y, rho) for rho in (-0.8, -0.6, -0.3, 0.3, 0.9)]
    assert p == sorted(p, reverse=True)
    assert p[2] > spearman_trend(x, y).p  # -0.3 is nearer to what was seen than 0 is
    mirrored = p_of_rho(x, [-number for number in y], 0.3)
    assert mirrored == pytest.approx(p[2], rel=0.2)


def test_what_differs_by_rounding_is_a_tie():
    x = [0.0, 0, 1, 1, 2, 2]
    same = [0.1 + 0.2, 0.3, 0.6, 0.5, 0.4, 0.7]
    assert spearman_trend(x, same) == spearman_trend(x, [0.3, 0.3, 0.6, 0.5, 0.4, 0.7])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spearman_trend([1, 2, 3], [1, 2, 3]), "at least 4, got 3"),
        (lambda: spearman_trend([1, 2, 3, 4, 5], [1, 2, 3, 4]), "got 5 and 4"),
        (lambda: spearman_trend([1, 2, 3, math.nan], [1, 2, 3, 4]), "x must be finite"),
        (lambda: spearman_trend([1, 1, 1, 1], [1, 2, 3, 4]), "undefined"),
        (lambda: spearman_trend([1, 2, 3, 4], [1, 2, 3, 4], level=-1), "level"),
        (lambda: p_of_rho([1, 2, 3], [1, 2, 3], 0.3), "at least 4, got 3"),
    ],
)
def test_what_has_no_trend_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@often(150, 400)
@pytest.mark.parametrize(
    ("alphas", "seeds", "noise", "rho"),
    [(9, 3, 1e9, 0.0), (9, 3, 3, 0.341), (17, 1, 3, 0.325), (5, 3, 1, 0.78)],
)
@pytest.mark.sample
def test_trend_covers_the_rho_of_endless_seeds(alphas, seeds, noise, rho, draws):
    rng = np.random.default_rng(9)
    x = np.repeat(np.linspace(-1.7, 1.7, alphas), seeds)
    found = [
        spearman_trend(x.tolist(), (x + noise * rng.standard_normal(len(x))).tolist())
        for _ in range(draws)
    ]
    covered = np.mean([each.low <= rho <= each.high for each in found])
    assert 0.95 - slack(0.02, draws, 400) <= covered <= 0.98 + slack(0.015, draws, 400)
    if rho == 0:
        far = np.mean([each.p <= 0.05 for each in found])
        assert abs(far - 0.05) <= slack(0.02, draws, 400)
