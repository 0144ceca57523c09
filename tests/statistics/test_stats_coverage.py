"""How often intervals cover and tests err, by simulation of networks that see the same examples.

Bounds are the promise plus two to three standard errors of the simulation's number of draws, which
is the larger one among the tests that take minutes.
"""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from selbench.statistics.intervals import (
    crossed_interval,
    holm,
    mcnemar,
    paired_difference,
    seed_difference,
    tost,
)

FEWER = 4  # times, of draws outside of these tests
each_number = pytest.mark.parametrize("fewer", [FEWER, pytest.param(1, marks=pytest.mark.soak)])
SPREAD = 2.0  # of examples' difficulty: two networks then agree on 85 % at 50 % accuracy


def draw(rng, accuracies, seeds, examples, spread):
    """Make the outcomes of subjects of these accuracies, whose seeds' accuracies spread so."""
    difficulty = SPREAD * rng.standard_normal(examples)
    density = np.exp(-(ndtri(accuracies[0]) ** 2) / 2) / math.sqrt(2 * math.pi)
    skill = spread / density * math.sqrt(1 + SPREAD**2)
    scale = math.sqrt(1 + SPREAD**2 + skill**2)
    return [
        ndtri(accuracy) * scale
        + skill * rng.standard_normal((seeds, 1))
        + rng.standard_normal((seeds, examples))
        > difficulty
        for accuracy in accuracies
    ]


def slack(of_many, fewer):
    """Return what chance brings in so many times fewer draws, where it brings `of_many` in all."""
    return of_many * math.sqrt(fewer)


def test_subjects_have_the_accuracy_and_spread_they_are_drawn_with():
    one, other = draw(np.random.default_rng(0), [0.8, 0.7], 400, 4000, 0.02)
    assert one.mean() == pytest.approx(0.8, abs=0.02)
    assert one.mean() - other.mean() == pytest.approx(0.1, abs=0.01)
    assert one.mean(1).std() == pytest.approx(0.02, rel=0.15)
    assert (one[0] == one[1]).mean() == pytest.approx(0.89, abs=0.03)


@each_number
@pytest.mark.parametrize("accuracy", [0.5, 0.95])
@pytest.mark.parametrize(
    ("seeds", "examples", "spread"),
    # Without spread between seeds, with as much as examples bring, with much more.
    [(1, 200, 0.0), (3, 200, 0.0), (3, 200, 0.01), (3, 1000, 0.03), (20, 200, 0.0)],
)
@pytest.mark.sample
def test_interval_covers_the_accuracy_of_all_networks_on_all_examples(
    accuracy, seeds, examples, spread, fewer
):
    spread *= 1 if accuracy == 0.5 else 0.4
    rng, draws = np.random.default_rng(1), 600 // fewer
    found = [
        crossed_interval(draw(rng, [accuracy], seeds, examples, spread)[0]) for _ in range(draws)
    ]
    covered = np.mean([each.low <= accuracy <= each.high for each in found])
    assert 0.95 - slack(0.02, fewer) <= covered <= 0.965 + slack(0.02, fewer)


@each_number
@pytest.mark.parametrize("pair_seeds", [True, False])
@pytest.mark.parametrize(
    ("accuracy", "seeds", "examples", "spread"),
    [(0.5, 1, 200, 0), (0.5, 3, 200, 0.01), (0.9, 3, 1000, 0.01), (0.9, 20, 200, 0.005)],
)
@pytest.mark.sample
def test_interval_covers_the_difference_of_subjects(
    accuracy, seeds, examples, spread, pair_seeds, fewer
):
    rng, draws = np.random.default_rng(2), 400 // fewer
    pairs = (draw(rng, [accuracy, accuracy - 0.03], seeds, examples, spread) for _ in range(draws))
    found = [paired_difference(*pair, pair_seeds=pair_seeds) for pair in pairs]
    covered = np.mean([each.low <= 0.03 <= each.high for each in found])
    assert 0.95 - slack(0.02, fewer) <= covered <= 0.965 + slack(0.02, fewer)


@each_number
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.01), (5, 0.0), (20, 0.01)])
def test_subjects_alike_are_told_apart_as_rarely_as_promised(seeds, spread, fewer):
    rng, draws = np.random.default_rng(3), 400 // fewer
    pairs = (draw(rng, [0.8, 0.8], seeds, 200, spread) for _ in range(draws))
    apart = np.mean([paired_difference(*pair).p <= 0.05 for pair in pairs])
    assert apart <= 0.05 + slack(0.025, fewer)


def test_examples_of_one_network_only_promise_nothing_of_other_networks():
    rng = np.random.default_rng(4)
    pairs = [draw(rng, [0.8, 0.8], 3, 500, 0.03) for _ in range(200)]
    alone = [paired_difference(one[:1], other[:1]) for one, other in pairs]
    several = [paired_difference(one, other) for one, other in pairs]
    assert np.mean([each.p <= 0.05 for each in alone]) > 0.2  # right of these networks, not of all
    assert np.mean([each.p <= 0.05 for each in several]) <= 0.08
    assert {each.networks for each in alone} == {None}


@each_number
@pytest.mark.parametrize("seeds", [(3, 3), (3, 10), (20, 20)])
def test_unequal_spread_of_seeds_keeps_the_error_rate(seeds, fewer):
    rng, draws = np.random.default_rng(5), 1000 // fewer
    found = [
        seed_difference(
            rng.normal(0, 1, seeds[0]).tolist(),
            rng.normal(0, 3, seeds[1]).tolist(),
        )
        for _ in range(draws)
    ]
    assert np.mean([each.p <= 0.05 for each in found]) <= 0.05 + slack(0.025, fewer)


def error_of_mcnemar(share, mid, examples=300):
    """Add up how likely each outcome is that the test calls a difference, of networks as good."""
    error = 0.0
    for discordant in range(int(binom.ppf(1e-9, examples, share)), examples + 1):
        weight = binom.pmf(discordant, examples, share)
        # The fewer the first has right, the smaller p: look for where it passes 5 %.
        for first in range(discordant if weight > 1e-9 else 0):
            alone = np.arange(examples) < first
            if mcnemar(alone, (np.arange(examples) < discordant) & ~alone, mid=mid).p > 0.05:
                break
            error += weight * 2 * binom.pmf(first, discordant, 0.5)
    return error


@pytest.mark.parametrize("share", [0.1, 0.05, 0.01])  # of examples that networks differ on
def test_mid_p_errs_at_most_as_often_as_it_says_and_exact_p_less(share):
    mid, exact = (error_of_mcnemar(share, mid) for mid in (True, False))
    assert exact < mid <= 0.05
    assert mid >= 0.035 or share < 0.05


@each_number
@pytest.mark.parametrize("seeds", [1, 5])
def test_a_difference_of_the_margin_rarely_passes_for_none(seeds, fewer):
    rng, draws = np.random.default_rng(7), 500 // fewer
    pairs = (draw(rng, [0.8, 0.77], seeds, 500, 0.005 * (seeds > 1)) for _ in range(draws))
    passed = np.mean([tost(paired_difference(*pair), 0.03).equivalent for pair in pairs])
    assert passed <= 0.05 + slack(0.02, fewer)


@each_number
def test_margin_of_seeds_errs_as_often_as_it_says_and_has_power_inside(fewer):
    rng, draws = np.random.default_rng(8), 700 // fewer
    at, inside = (
        [
            tost(
                seed_difference((rng.normal(size=9) + off).tolist(), rng.normal(size=9).tolist()), 2
            )
            for _ in range(draws)
        ]
        for off in (2, 0)
    )
    passed = np.mean([each.equivalent for each in at])
    assert abs(passed - 0.05) <= slack(0.02, fewer)
    assert np.mean([each.equivalent for each in inside]) > 0.9


def test_holm_keeps_the_error_rate_of_the_family():
    rng, draws = np.random.default_rng(10), 2000
    scores = rng.standard_normal((draws, 10))
    scores[:, 5:] += 5  # half of the family differ: Bonferroni's would leave room
    p = 2 * ndtr(-abs(scores))
    false = np.mean([min(holm(row.tolist())[:5]) <= 0.05 for row in p])
    assert 0.03 <= false <= 0.06
    assert np.mean([min(row[:5]) <= 0.05 for row in p]) > 0.2
