"""Calibration errors, their value by chance, and the spline that mends confidences."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from selbench._kit.errors import SelbenchError
from selbench.statistics.calibration import (
    FEWEST,
    Spline,
    brier_score,
    by_chance,
    expected_calibration_error,
    ks_error,
    negative_log_likelihood,
)

MEASURES = (expected_calibration_error, ks_error)


def simulated(n, seed=0, power=1.0):
    """Return true probabilities, confidences whose odds are theirs to a power, and who is right."""
    generator = np.random.default_rng(seed)
    true = generator.beta(4, 1.5, n)
    stated = true**power / (true**power + (1 - true) ** power)
    return true, stated, generator.random(n) < true


def dirichlet(n, temperature=1.0, seed=0):
    """Return logits of ten classes, and labels drawn from their softmax before they were divided.

    `temperature` below 1 makes the network surer than it has reason to be.
    """
    probabilities = np.random.default_rng(seed).dirichlet(np.full(10, 0.3), n).clip(1e-9)
    uniform = np.random.default_rng(seed + 1).random((n, 1))
    labels = (probabilities.cumsum(1) / probabilities.sum(1, keepdims=True) < uniform).sum(1)
    return torch.from_numpy(np.log(probabilities) / temperature), torch.from_numpy(labels)


def top(logits, labels):
    confidences, predictions = logits.softmax(1).max(1)
    return confidences, predictions == labels


# Errors.


def test_ece_is_the_gap_within_bins_weighted_by_their_examples():
    confidences = np.array([0.62, 0.64, 0.9, 0.92, 0.92])
    correct = np.array([True, False, True, True, False])
    low, high = abs(0.5 - 0.63), abs(2 / 3 - (0.9 + 2 * 0.92) / 3)
    expected = (2 * low + 3 * high) / 5
    assert expected_calibration_error(confidences, correct) == pytest.approx(expected)


def test_bins_hold_their_upper_edge_and_the_first_one_zero():
    edges = np.array([0.0, 0.5, 0.50001, 1.0])
    correct = np.array([True, True, True, False])
    expected = (abs(2 - 0.5) + abs(1 - 1.50001)) / 4  # [0, 0.5] and (0.5, 1]
    assert expected_calibration_error(edges, correct, bins=2) == pytest.approx(expected)


def test_ks_is_the_largest_gap_of_the_cumulated():
    confidences = np.array([0.3, 0.6, 0.8, 0.9])
    correct = np.array([False, False, True, True])
    gaps = np.cumsum(correct - confidences) / 4
    assert ks_error(confidences, correct) == pytest.approx(abs(gaps).max()) == pytest.approx(0.225)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_examples_does_not_matter_with_equal_confidences_either(measure):
    confidences = np.repeat([0.5, 0.75, 0.9], 40)
    correct = np.random.default_rng(0).random(120) < 0.6
    order = np.random.default_rng(1).permutation(120)
    value = measure(confidences, correct)
    assert measure(confidences[order], correct[order]) == pytest.approx(value)
    one = np.full(4, 0.5)  # half of them are right, wherever those stand
    assert measure(one, np.array([True, True, False, False])) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst(measure):
    assert measure(np.ones(7), np.ones(7, bool)) == 0
    assert measure(np.ones(7), np.zeros(7, bool)) == 1


@pytest.mark.parametrize("measure", MEASURES)
def test_tensors_and_arrays_give_the_same(measure):
    _, stated, correct = simulated(100)
    tensors = torch.from_numpy(stated), torch.from_numpy(correct)
    assert measure(*tensors) == measure(stated, correct)


def test_ks_is_at_most_the_error_of_infinitely_many_bins():
    _, stated, correct = simulated(500, power=2)
    assert ks_error(stated, correct) <= expected_calibration_error(stated, correct, 10**6)


# What chance gives.


@pytest.mark.parametrize("n", [100, 2000])
def test_calibrated_networks_lie_where_chance_puts_them(n):
    chance = by_chance(simulated(n)[1])
    found = [simulated(n, seed) for seed in range(60)]
    for measure, expected in zip(MEASURES, (chance.ece, chance.ks), strict=True):
        values = [measure(stated, correct) for _, stated, correct in found]
        assert np.mean(values) == pytest.approx(expected, rel=0.25)
    assert chance.ks < chance.ece  # bins add up gaps that cancel


def test_chance_falls_with_the_root_of_the_number_of_examples():
    small, large = (by_chance(simulated(n)[1], draws=100) for n in (400, 6400))
    assert small.ks / large.ks == pytest.approx(4, rel=0.25)
    assert small.ece / large.ece == pytest.approx(4, rel=0.25)


def test_chance_is_the_same_every_time_and_does_not_mind_the_order():
    stated = simulated(300)[1]
    assert by_chance(stated) == by_chance(stated) == by_chance(stated[::-1].copy())


def test_an_overconfident_network_is_far_beyond_chance():
    _, stated, correct = simulated(2000, power=2)
    chance = by_chance(stated)
    assert ks_error(stated, correct) > 5 * chance.ks
    assert expected_calibration_error(stated, correct) > 3 * chance.ece


# Proper scores.


def test_scores_of_known_probabilities():
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]).log()
    labels = torch.tensor([0, 1])
    expected = [0.3**2 + 0.2**2 + 0.1**2, 0.25**2 + 0.75**2 + 0.5**2]
    assert brier_score(logits, labels).tolist() == pytest.approx(expected)
    nll = [-math.log(0.7), -math.log(0.25)]
    assert negative_log_likelihood(logits, labels).tolist() == pytest.approx(nll)


def test_brier_lies_between_0_and_2():
    logits = torch.tensor([[100.0, 0, 0], [100.0, 0, 0]])
    assert brier_score(logits, torch.tensor([0, 1])).tolist() == [0, 2]


@pytest.mark.parametrize("score", [brier_score, negative_log_likelihood])
def test_the_truth_has_the_best_score(score):
    logits, labels = dirichlet(4000)
    values = {t: score(logits / t, labels).mean().item() for t in (0.5, 1.0, 2.0)}
    assert min(values, key=values.__getitem__) == 1.0


# Recalibration.


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 4.0])
def test_splines_mend_confidence_on_further_examples(power):
    true, stated, correct = simulated(6000, power=power)
    spline = Spline.fit(stated[:2000], correct[:2000])
    mended, rest = spline(stated[2000:]), slice(2000, None)
    chance = by_chance(mended)
    assert ks_error(mended, correct[rest]) < 3 * chance.ks
    assert expected_calibration_error(mended, correct[rest]) < 2.5 * chance.ece
    assert abs(mended - true[rest]).mean() < 0.03


def test_a_fit_to_more_examples_leaves_less_error():  # docs/calibration.md gives these numbers
    def left(seed, n):
        _, stated, correct = simulated(n + 5000, seed, power=2)
        return ks_error(Spline.fit(stated[:n], correct[:n])(stated[n:]), correct[n:])

    found = [np.mean([left(seed, n) for seed in range(20)]) for n in (50, 200, 1000, 5000)]
    assert found == pytest.approx([0.066, 0.027, 0.015, 0.010], rel=0.1)
    _, stated, correct = simulated(5000, power=2)
    assert ks_error(stated, correct) == pytest.approx(0.08, rel=0.1)


def test_splines_mend_a_temperature_over_ten_classes():
    logits, labels = dirichlet(6000, temperature=0.5)
    confidences, correct = top(logits, labels)
    before = ks_error(confidences[3000:], correct[3000:])
    spline = Spline.fit(confidences[:3000], correct[:3000])
    after = ks_error(spline(confidences[3000:]), correct[3000:])
    assert before > 0.05
    assert after < before / 4
    calm, right = top(*dirichlet(6000))
    assert ks_error(calm, right) < 2 * by_chance(calm).ks


@pytest.mark.parametrize("n", [FEWEST, 11, 200, 997])
@pytest.mark.parametrize("power", [0.3, 3.0])
def test_splines_rise_stay_probabilities_and_keep_the_mean(n, power):
    _, stated, correct = simulated(n, seed=n, power=power)
    spline = Spline.fit(stated, correct)
    values = spline(np.linspace(0, 1, 501))
    assert (np.diff(values) >= 0).all()
    assert values.min() >= 0
    assert values.max() <= 1
    inside = (spline.values > 0) & (spline.values < 1)
    if inside[1:].all():  # where nothing had to be clipped
        assert spline(stated).mean() == pytest.approx(correct.mean())


def test_nothing_is_learnt_from_the_order_of_equal_confidences():
    stated = np.repeat([0.6, 0.8, 0.99], 20)
    correct = np.random.default_rng(0).random(60) < stated
    order = np.random.default_rng(1).permutation(60)
    one, other = Spline.fit(stated, correct), Spline.fit(stated[order], correct[order])
    np.testing.assert_allclose(one.values, other.values)
    np.testing.assert_allclose(one.scores, other.scores)


def test_the_mean_is_kept_where_slopes_had_to_be_made_to_rise():
    stated = np.repeat([0.6, 0.8], [30, 10])
    correct = np.concatenate([np.arange(30) < 27, np.arange(10) < 3])
    mended = Spline.fit(stated, correct)(stated)
    assert set(mended.round(9)) == {0.75}  # the accuracy: the surer are not right more often


def test_few_knots_leave_the_map_flat_at_its_ends():
    """A natural spline's slope does not change at its ends; between them it follows accuracy."""
    stated = np.repeat(np.arange(1, 101) / 100, 100)
    correct = np.tile(np.arange(100), 100) < np.repeat(np.arange(1, 101), 100)  # k % of the k-th
    values = Spline.fit(stated, correct).values[1:]
    assert values[49] == pytest.approx(0.5, abs=0.01)
    assert values[59] - values[49] == pytest.approx(0.1, abs=0.01)
    assert values[4] - values[0] < 0.02
    assert values[99] - values[95] < 0.02


def test_confidences_beyond_those_seen():
    stated = np.linspace(0.5, 0.9, 50)
    spline = Spline.fit(stated, np.random.default_rng(0).random(50) < 0.7)
    lowest, highest = spline(np.array([0.5, 0.9]))
    below, above = spline(np.array([0.25, 1.0]))
    assert below == pytest.approx(lowest / 2)  # scaled as the lowest
    assert above == highest
    assert spline(np.array([0.0])) == [0]


@pytest.mark.parametrize("confidence", [0.0, 0.7, 1.0])
def test_one_confidence_for_all_becomes_the_accuracy(confidence):
    correct = np.arange(20) % 4 > 0
    spline = Spline.fit(np.full(20, confidence), correct)
    assert spline(np.array([confidence])) == pytest.approx(0.75)


@pytest.mark.parametrize("right", [True, False])
def test_networks_that_are_always_or_never_right(right):
    stated = simulated(50)[1]
    np.testing.assert_allclose(Spline.fit(stated, np.full(50, right))(stated), right, atol=1e-9)


# What is refused.

BAD = {
    "a confidence is a probability from 0 to 1, got nan": [np.nan],
    "a confidence is a probability from 0 to 1, got 1.5": [1.5],
    "a confidence is a probability from 0 to 1, got -0.1": [-0.1],
    "there are 2 confidences for 20 predictions": [],
}


@pytest.mark.parametrize(("message", "bad"), BAD.items(), ids=range(len(BAD)))
@pytest.mark.parametrize("function", [*MEASURES, Spline.fit])
def test_what_are_no_confidences_is_refused(function, message, bad):
    stated = np.array([*np.full(19, 0.5), *bad]) if bad else np.full(2, 0.5)
    with pytest.raises(SelbenchError, match=f"^{message}"):
        function(stated, np.ones(20, bool))


@pytest.mark.parametrize("function", [*MEASURES, lambda stated, _: by_chance(stated)])
def test_no_example_is_refused(function):
    with pytest.raises(SelbenchError, match=r"^there is no example to measure calibration on"):
        function(np.array([]), np.array([], bool))


def test_too_few_examples_to_fit_are_refused():
    message = r"^recalibration needs at least 10 examples, got 9; hold more out$"
    with pytest.raises(SelbenchError, match=message):
        Spline.fit(np.full(9, 0.5), np.ones(9, bool))


def test_what_is_mended_is_checked_too():
    spline = Spline.fit(*simulated(50)[1:])
    with pytest.raises(SelbenchError, match=r"got 2; give the softmax of logits$"):
        spline(np.array([2.0]))


def test_a_softmax_that_rounds_beyond_one_is_one():
    rounded = np.array([1 + 1e-7])
    assert ks_error(rounded, np.array([True])) == 0
    assert functional.softmax(torch.tensor([[50.0, 0]]), 1).max() == 1
