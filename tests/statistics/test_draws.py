"""Numbers of draws: known counts, and the exact coverage in Bernoulli worlds."""

import numpy as np
import pytest
from scipy.stats import binom

from selbench.statistics.draws import enough, most_draws


@pytest.mark.parametrize(
    ("error", "confidence", "draws"), [(0.1, 0.95, 185), (0.05, 0.95, 738), (0.2, 0.9, 38)]
)
def test_hoeffding_gives_the_most_draws(error, confidence, draws):
    assert most_draws(error, confidence) == draws
    assert 2 * np.exp(-2 * draws * error**2) <= 1 - confidence + 1e-12
    assert 2 * np.exp(-2 * (draws - 1) * error**2) > 1 - confidence


def risk_and_draws(error, confidence, worlds):
    """Return how often the share is off by more than the error, and the mean number of draws.

    Both are exact: all ways that lead to a count of hits are added up, draw by draw.
    """
    worlds = np.asarray(worlds)[:, None]
    left, wrong, mean = np.ones((len(worlds), 1)), np.zeros(len(worlds)), np.zeros(len(worlds))
    for n in range(1, most_draws(error, confidence) + 1):
        hits = np.arange(n + 1)
        ways = np.zeros((len(worlds), n + 1))
        ways[:, :-1] += left * (1 - worlds)
        ways[:, 1:] += left * worlds
        ends = enough(hits, np.full(n + 1, n), error, confidence)
        off = np.abs(hits / n - worlds) > error + 1e-12
        wrong += (ways * (ends & off)).sum(1)
        mean += n * (ways * ends).sum(1)
        left = ways * ~ends
    assert left.sum() == 0  # everything has stopped
    return wrong, mean


SETTINGS = [(0.1, 0.95), (0.2, 0.9)]
FURTHER = [(0.05, 0.95), (0.1, 0.99), (0.05, 0.8), (0.3, 0.95), (0.5, 0.5), (0.03, 0.95)]


@pytest.mark.parametrize(
    ("error", "confidence"),
    [*SETTINGS, *(pytest.param(*each, marks=pytest.mark.soak) for each in FURTHER)],
)
def test_in_no_world_the_share_is_off_more_often_than_the_confidence_allows(error, confidence):
    worlds = np.linspace(0, 1, 101)
    wrong, mean = risk_and_draws(error, confidence, worlds)
    assert wrong.max() <= 1 - confidence
    assert mean[0] == mean[-1] <= most_draws(error, confidence)
    assert mean[50] == pytest.approx(mean.max(), rel=1e-3)  # where the variance is largest


def test_rare_events_need_fewer_draws():
    _, (never, half) = risk_and_draws(0.1, 0.95, [0, 0.5])
    assert never == 75
    assert half == pytest.approx(185)


def test_no_draws_are_never_enough():
    zero = np.zeros(3, np.int64)
    assert not enough(zero, zero, 0.5, 0.5).any()


@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 0.5, 0.97])
def test_500_repeats_cover_the_probability_as_often_as_stated(share):
    error, confidence, repeats = 0.1, 0.9, 500
    drawn = np.random.default_rng(0).random((repeats, most_draws(error, confidence))) < share
    hits, draws = np.zeros(repeats, np.int64), np.zeros(repeats, np.int64)
    for each in drawn.T:
        going = ~enough(hits, draws, error, confidence)
        hits, draws = hits + (going & each), draws + going
    covered = (np.abs(hits / draws - share) <= error + 1e-12).sum()
    assert covered >= binom.ppf(0.001, repeats, confidence)
