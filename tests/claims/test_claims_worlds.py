"""How often alphas whose means wander by chance make a trend."""

import pytest
from scipy.stats import norm

from selbench.claims.judging import LEVEL
from selbench.claims.shapes import WOBBLE
from selbench.claims.worlds import SEEDS, WANDERING, false_trends


def test_the_allowance_is_the_least_that_suffices_for_any_number_of_seeds():
    """Many seeds leave the wandering alone, of one standard deviation at most."""
    shares = [norm.sf(norm.isf(LEVEL / 2) * each) for each in (WOBBLE - 0.01, WOBBLE)]
    assert shares[1] <= 0.05 < shares[0]


@pytest.mark.parametrize("runs", [100, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("wandering", WANDERING)
@pytest.mark.sample("runs")
def test_means_that_wander_seldom_make_a_trend(wandering, seeds, runs):
    error = (0.05 * 0.95 / runs) ** 0.5
    assert false_trends(wandering, seeds, WOBBLE, runs) <= 0.05 + 2 * error


def test_without_the_allowance_they_often_do():
    assert false_trends(1.0, 20, 0.0, 60) >= 0.2
