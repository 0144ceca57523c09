"""Statistics against closed forms, published examples and what nobody could measure."""

import math

import numpy as np
import pytest
from scipy import stats

from selbench.statistics.intervals import (
    crossed_interval,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    prediction_interval,
    seed_difference,
    tost,
)

FIRST, SECOND = [0.71, 0.68, 0.74, 0.70], [0.66, 0.69, 0.65]
TABLE = np.random.default_rng(0).random((4, 30))


def discordant(first, second, both=0, neither=0):
    """Make outcomes of two networks, of which so many are right alone."""
    counts = [first, second, both, neither]
    return (
        np.repeat([True, False, True, False], counts),
        np.repeat([False, True, True, False], counts),
    )


def test_interval_of_three_values_is_students():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_interval([0.5])[0] == 0.5
    assert math.isnan(mean_interval([0.5])[1])
    assert math.isnan(mean_interval([])[0])


def test_missing_values_are_left_out():
    assert mean_interval([1.0, math.nan, 3.0]) == mean_interval([1.0, 3.0])


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_covers_the_mean_as_often_as_it_says(n):
    samples = np.random.default_rng(0).normal(size=(2000, n))
    covered = [abs(mean) <= half for mean, half in (mean_interval(list(s)) for s in samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_prediction_interval_of_three_values_is_students():
    half = 4.302653 * math.sqrt(1 + 1 / 3)
    assert prediction_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert prediction_interval([1.0, math.nan, 2.0, 3.0]) == prediction_interval([1.0, 2.0, 3.0])
    assert np.isnan(prediction_interval([0.5])).all()


def test_one_network_has_students_interval_over_its_examples():
    found = crossed_interval(TABLE[:1], bounded=False, level=0.9)
    interval = stats.ttest_1samp(TABLE[0], 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.value == pytest.approx(TABLE[0].mean())
    assert (found.networks, found.examples, found.level) == (None, 30, 0.9)


def test_one_network_has_agresti_and_coulls_interval():
    correct = np.repeat([True, False], [90, 10])[None]
    found = crossed_interval(correct)
    share = 92 / 104
    half = stats.t.ppf(0.975, 103) * math.sqrt(share * (1 - share) / 103)
    assert found.value == 0.9
    assert (found.low, found.high) == pytest.approx((share - half, share + half))


def test_crossed_variance_is_that_of_the_analysis_of_variance():
    # Seeds' means are 3, 4, 5; examples' 1, 3, 5, 7; the interaction's mean square is 8 / 6.
    table = np.array([[1, 1, 3, 7], [0, 4, 6, 6], [2, 4, 6, 8]], dtype=float)
    of_seeds, of_examples, interaction = 1 / 3, 20 / 3 / 4, 8 / 6 / 12
    variance = of_seeds + of_examples - interaction
    freedom = variance**2 / (of_seeds**2 / 2 + (of_examples - interaction) ** 2 / 3)
    found = crossed_interval(table, bounded=False)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))
    assert (found.value, found.networks, found.examples) == (4, 3, 4)


def test_interval_is_never_narrower_than_that_of_the_networks_means():
    # Here variances added up have enough degrees of freedom to make it narrower.
    table = TABLE[:1] + np.array([[0.0], [0.2], [0.4]])
    found = crossed_interval(table, bounded=False)
    mean, half = mean_interval(list(table.mean(1)))
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))


def test_conditions_are_averaged():
    values = np.random.default_rng(0).random((3, 20, 5, 2)) < 0.7
    assert crossed_interval(values) == crossed_interval(values.mean((2, 3)))


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("right", [True, False])
def test_interval_of_a_network_that_is_always_right_has_a_width_and_stays_in_range(networks, right):
    found = crossed_interval(np.full((networks, 200), right))
    assert found.value == right
    assert 0.01 < found.high - found.low < 0.03
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_one_pair_of_networks_has_bonett_and_prices_interval():
    first, second = discordant(1, 7, both=1, neither=12)
    found = paired_difference(first[None], second[None])
    middle, share = -6 / 23, 10 / 23  # with one more discordant example each way
    half = stats.t.ppf(0.975, 22) * math.sqrt((share - middle**2) / 22)
    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))
    assert (found.networks, found.examples) == (None, 21)


def test_unbounded_difference_of_one_pair_is_students_of_the_differences():
    found = paired_difference(TABLE[:1], TABLE[1:2], bounded=False)
    expected = stats.ttest_rel(TABLE[0], TABLE[1])
    interval = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx(
        (interval.low, interval.high, expected.pvalue)
    )


def test_difference_of_the_same_networks_is_nothing_with_a_width():
    found = paired_difference(TABLE, TABLE)
    assert (found.value, found.p) == (0, 1)
    assert -found.low == pytest.approx(found.high)
    assert 0.01 < found.high < 0.2


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("pair_seeds", [True, False])
def test_difference_changes_sign_with_the_order(pair_seeds, bounded):
    one, other = TABLE, np.random.default_rng(1).random(TABLE.shape) ** 2
    there = paired_difference(one, other, pair_seeds=pair_seeds, bounded=bounded)
    back = paired_difference(other, one, pair_seeds=pair_seeds, bounded=bounded)
    assert there.value == pytest.approx(one.mean() - other.mean())
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    assert there.p == pytest.approx(back.p)
    assert (there.networks, there.examples) == (4, 30)


def test_paired_seeds_are_the_mean_of_their_differences():
    one, other = TABLE, TABLE**2
    paired = paired_difference(one, other, pair_seeds=True, bounded=False)
    expected = crossed_interval(one - other, bounded=False)
    assert (paired.low, paired.high) == pytest.approx((expected.low, expected.high))


def test_pairs_alike_are_told_apart_better_as_pairs():
    shift = np.array([[0.0], [1], [2], [3]])
    one, other = TABLE + shift, TABLE[:, ::-1] + shift + 0.5
    assert paired_difference(one, other, bounded=False).p > 0.5
    assert paired_difference(one, other, bounded=False, pair_seeds=True).p < 0.001


def test_examples_that_do_not_vary_leave_welchs_test():
    one, other = (np.repeat(np.array(values)[:, None], 50, 1) for values in (FIRST, SECOND))
    found, expected = paired_difference(one, other, bounded=False), seed_difference(FIRST, SECOND)
    assert (found.low, found.high, found.p) == pytest.approx(
        (expected.low, expected.high, expected.p)
    )
    assert found.networks == 3


def test_one_network_of_either_side_leaves_the_examples():
    found = paired_difference(TABLE, TABLE[:1] ** 2, bounded=False)
    expected = stats.ttest_rel(TABLE.mean(0), TABLE[0] ** 2)
    assert (found.networks, found.p) == (None, pytest.approx(expected.pvalue))


def test_difference_of_seeds_is_welchs():
    found, expected = (
        seed_difference(FIRST, SECOND),
        stats.ttest_ind(FIRST, SECOND, equal_var=False),
    )
    interval = expected.confidence_interval()
    assert found.value == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert (found.low, found.high, found.p, found.freedom) == pytest.approx(
        (interval.low, interval.high, expected.pvalue, expected.df)
    )
    assert (found.networks, found.examples) == (3, None)


def test_difference_of_paired_seeds_is_students():
    found = seed_difference(FIRST[:3], SECOND, paired=True, level=0.8)
    expected = stats.ttest_rel(FIRST[:3], SECOND)
    interval = expected.confidence_interval(0.8)
    assert (found.low, found.high, found.p, found.freedom) == pytest.approx(
        (interval.low, interval.high, expected.pvalue, 2)
    )


def test_seeds_that_do_not_vary_differ_or_do_not():
    assert seed_difference([0.5, 0.5], [0.25, 0.25]).p == 0
    assert seed_difference([0.0, 0.0], [0.0, 0.0]).p == 1
    assert tost(seed_difference([0.0, 0.0], [0.0, 0.0]), 0.01).equivalent
    assert not tost(seed_difference([0.5, 0.5], [0.25, 0.25]), 0.25).equivalent


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.2])
def test_equivalence_is_two_one_sided_tests(margin):
    one, other = np.array(FIRST), np.array(SECOND)
    above = stats.ttest_ind(one, other - margin, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(one, other + margin, equal_var=False, alternative="less").pvalue
    found = tost(seed_difference(FIRST, SECOND), margin)
    assert found.p == pytest.approx(max(above, below))
    assert found.equivalent == (found.p <= 0.05) == (-margin < found.low < found.high < margin)


def test_equivalence_of_a_bounded_difference_is_its_intervals():
    first, second = discordant(4, 9, both=60, neither=20)
    difference = paired_difference(first[None], second[None], level=0.9)
    assert tost(difference, 0.3).low == pytest.approx(difference.low)
    assert tost(difference, -1.001 * difference.low).p == pytest.approx(0.05, abs=0.001)
    assert tost(difference, 0.2, alpha=0.01).high > difference.high


def test_mcnemar_of_the_published_example():
    first, second = discordant(1, 7, both=1, neither=12)  # Fagerland et al., table 1
    assert mcnemar(first, second, mid=False).p == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(first, second).p == pytest.approx(0.0391, abs=5e-5)
    found = mcnemar(first, second)
    assert (found.first, found.second, found.discordant) == (1, 7, 8)
    assert mcnemar(second, first).p == found.p


@pytest.mark.parametrize(("first", "second"), [(0, 5), (3, 3), (12, 30), (1, 2)])
def test_exact_mcnemar_is_a_binomial_test(first, second):
    found = mcnemar(*discordant(first, second), mid=False)
    assert found.p == pytest.approx(stats.binomtest(first, first + second).pvalue)


def test_mid_p_of_equal_counts_and_of_none():
    assert mcnemar(*discordant(3, 3)).p == pytest.approx(1 - 20 / 64 / 2)
    assert mcnemar(*discordant(0, 5)).p == pytest.approx(1 / 32)
    assert mcnemar(*discordant(0, 0, both=4)).p == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([0.01, 0.01, 0.9]) == pytest.approx([0.03, 0.03, 0.9])


NAN, THIN = np.full((2, 5), math.nan), np.ones((3, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crossed_interval(THIN), r"two examples or more, got shape \(3, 1\)"),
        (lambda: crossed_interval(np.ones((0, 5))), "got shape"),
        (lambda: crossed_interval(np.ones((2, 5, 0))), "got shape"),
        (lambda: crossed_interval(NAN), "finite"),
        (lambda: crossed_interval(TABLE * 9), r"in \[0, 1\], got 0.* to 8"),
        (lambda: crossed_interval(-TABLE), r"in \[0, 1\]"),
        (lambda: crossed_interval(TABLE, level=95), "between 0 and 1, got 95"),
        (lambda: paired_difference(TABLE, TABLE[:, :5]), "same examples"),
        (lambda: paired_difference(NAN, NAN), "finite"),
        (lambda: paired_difference(TABLE, TABLE[:2], pair_seeds=True), "got 4 and 2"),
        (lambda: paired_difference(TABLE, TABLE, level=0), "level"),
        (lambda: seed_difference([0.5], SECOND), "at least 2, got 1"),
        (lambda: seed_difference(FIRST, [0.5, math.inf]), "second must be finite"),
        (lambda: seed_difference(FIRST, SECOND, paired=True), "got 4 and 3"),
        (lambda: seed_difference(FIRST, SECOND, level=1), "level"),
        (lambda: tost(seed_difference(FIRST, SECOND), 0), "margin is above 0"),
        (lambda: tost(seed_difference(FIRST, SECOND), 0.1, alpha=0.5), "alpha"),
        (lambda: mcnemar(*discordant(0, 0)), "one outcome per example"),
        (lambda: mcnemar(np.ones(2, dtype=bool), np.ones(3, dtype=bool)), "one outcome"),
        (lambda: mcnemar(np.ones(2), np.ones(2)), "bool, got float64"),
        (lambda: holm([]), "at least 1"),
        (lambda: holm([0.5, 1.5]), r"\[0, 1\], got 0.5 to 1.5"),
        (lambda: holm([0.5, math.nan]), "finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
