"""When a model counts as worse: known answers, and what may not matter."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, chi2, t, ttest_ind

from selbench.regression import comparison
from selbench.regression.comparison import (
    CONDITION_SHARE,
    LEVEL,
    MEAN,
    MEAN_SHARE,
    compare,
)
from selbench.statistics.spread import moderated


def bits(right, examples=100, networks=1):
    table = np.zeros((networks, examples), bool)
    table[:, :right] = True
    return table


def of(found, name):
    return next(change for change in found.changes if change.name == name)


def test_the_same_model_is_the_same():
    rng = np.random.default_rng(0)
    model = {f"corruptions/c/{n}": rng.random((3, 50)) < 0.7 for n in range(5)}
    found = compare(model, model)
    assert {change.verdict for change in found.changes} == {"same"}
    assert all(change.difference == 0 for change in found.changes)


def test_two_networks_are_compared_by_mcnemar_s_mid_p():
    # 10 examples lost, 2 gained: one-sided mid-p = P(X <= 1) + P(X = 2) / 2, X ~ B(12, 1/2).
    before, after = bits(60), bits(50)
    after[0, 98:] = True
    found = of(compare({"clean/clean": before}, {"clean/clean": after}), "clean/clean")
    assert found.worse == pytest.approx(binom.cdf(1, 12, 0.5) + binom.pmf(2, 12, 0.5) / 2)
    assert found.verdict == "worse"
    assert found.better == pytest.approx(1 - found.worse)


def test_holm_multiplies_by_the_number_of_conditions_and_the_share():
    before = {"clean/clean": bits(60), "corruptions/a/1": bits(60), "corruptions/b/1": bits(60)}
    after = before | {"clean/clean": bits(50)}
    found = compare(before, after)
    assert of(found, "clean/clean").worse == pytest.approx(
        0.5**10 / 2 * 3 * LEVEL / CONDITION_SHARE
    )


def test_networks_are_compared_by_a_t_test_of_their_logits():
    rng = np.random.default_rng(1)
    before, after = rng.random((3, 4000)) < 0.7, rng.random((4, 4000)) < 0.69
    before[0, :200], after[0, :300] = True, False  # seeds differ more than examples tell
    found = of(compare({"corruptions/a/1": before}, {"corruptions/a/1": after}), MEAN)
    logits = [np.log((x.sum(1) + 0.5) / (4000.5 - x.sum(1))) for x in (before, after)]
    expected = ttest_ind(*logits, alternative="greater").pvalue
    assert found.worse == pytest.approx(expected * LEVEL / MEAN_SHARE)


def test_spread_between_seeds_excuses_a_drop():
    before = np.stack([bits(right)[0] for right in (90, 60, 75)])
    after = bits(60)
    wide = compare({"corruptions/a/1": before}, {"corruptions/a/1": after})
    assert not wide.worse
    lone = compare({"corruptions/a/1": before[2:]}, {"corruptions/a/1": after})
    assert lone.worse
    assert wide.knows_seeds
    assert not lone.knows_seeds


def test_a_lone_network_may_be_an_outlier():
    rng = np.random.default_rng(6)
    before, after = rng.random((5, 4000)) < 0.7, rng.random((1, 4000)) < 0.6
    before[0, :400] = True
    logits = [np.log((x.sum(1) + 0.5) / (4000.5 - x.sum(1))) for x in (before, after)]
    expected = 5 * t.sf(ttest_ind(*logits).statistic, 2) * LEVEL / MEAN_SHARE
    found = of(compare({"corruptions/a/1": before}, {"corruptions/a/1": after}), MEAN)
    assert found.worse == pytest.approx(expected)


def test_a_drop_up_to_the_tolerance_is_accepted():
    before, after = {"clean/clean": bits(9000, 10000)}, {"clean/clean": bits(8900, 10000)}
    assert not compare(before, after, 0.0101).worse
    assert compare(before, after, 0.0099).worse


def test_a_gain_is_told_and_does_not_fail():
    before, after = {"clean/clean": bits(50)}, {"clean/clean": bits(80)}
    found = compare(before, after)
    assert not found.worse
    assert [change.name for change in found.better] == ["clean/clean"]


def test_the_mean_is_over_corruptions_where_there_are_any():
    tables = {"clean/clean": bits(100), "corruptions/a/1": bits(40), "attacks/p/1": bits(0)}
    found = compare(tables, tables)
    assert of(found, MEAN).before == pytest.approx(0.4)
    assert found.conditions == 1
    attacked = {"clean/clean": bits(100), "attacks/p/1": bits(10), "attacks/p/2": bits(0)}
    assert of(compare(attacked, attacked), MEAN).before == pytest.approx(0.05)


def test_clean_alone_has_no_mean():
    found = compare({"clean/clean": bits(10)}, {"clean/clean": bits(10)})
    assert [change.name for change in found.changes] == ["clean/clean"]


@pytest.mark.parametrize(
    ("name", "examples", "tolerance"), [("clean/clean", 500, 0.01), ("corruptions/a/1", 40, 0.0)]
)
def test_equal_networks_do_not_promise_what_few_examples_cannot_show(name, examples, tolerance):
    model = {name: bits(9 * examples // 10, examples)}
    drop = compare(model, model, tolerance).detectable
    rng = np.random.default_rng(0)

    def failures(share):
        lost = rng.random((40, 1, examples)) < share / 0.9
        return sum(bool(compare(model, {name: model[name] & ~x}, tolerance).worse) for x in lost)

    assert failures(drop) >= 32
    assert failures(tolerance + (drop - tolerance) / 4) < 32


def test_a_broken_condition_is_found_among_many_with_three_seeds():
    rng = np.random.default_rng(2)
    before = {f"corruptions/c/{n}": rng.random((3, 1000)) < 0.7 for n in range(75)}
    after = {name: rng.random((1, 1000)) < 0.7 for name in before}
    after["corruptions/c/7"] = rng.random((1, 1000)) < 0.3
    found = compare(before, after)
    assert [change.name for change in found.worse] == ["corruptions/c/7"]


def test_intervals_hold_the_difference_and_widen_with_the_seeds():
    rng = np.random.default_rng(3)
    before, after = rng.random((1, 500)) < 0.8, rng.random((1, 500)) < 0.7
    narrow = of(compare({"corruptions/a/1": before}, {"corruptions/a/1": after}), MEAN)
    seeds = np.vstack([before, rng.random((1, 500)) < 0.6])
    wide = of(compare({"corruptions/a/1": seeds}, {"corruptions/a/1": after}), MEAN)
    assert narrow.low < narrow.difference < narrow.high < 0
    assert wide.high - wide.low > narrow.high - narrow.low


def test_more_networks_detect_less():
    rng = np.random.default_rng(4)

    def detectable(networks):
        accuracy = 0.7 + 0.01 * rng.normal(size=(networks, 1))
        model = {"corruptions/a/1": rng.random((networks, 5000)) < accuracy}
        return compare(model, model).detectable

    assert detectable(3) > detectable(12) > 0.01


def test_one_network_against_one_takes_no_caution_over_networks(monkeypatch):
    rng = np.random.default_rng(4)
    one, *others = ({"corruptions/a/1": rng.random((n, 5000)) < 0.7} for n in (1, 1, 3))
    cautious = [compare(one, after, 0).detectable for after in others]
    monkeypatch.setattr(comparison, "LONE", 1.0)
    bold = [compare(one, after, 0).detectable for after in others]
    assert cautious[0] == bold[0]
    assert cautious[1] > bold[1]


def test_nothing_below_the_tolerance_is_detected():
    model = {"corruptions/a/1": np.random.default_rng(4).random((3, 5000)) < 0.7}
    strict, lenient, lax = (compare(model, model, limit).detectable for limit in (0, 0.2, 0.4))
    assert strict < 0.2 < lenient
    # It is found in nine runs of ten: the tolerance, and what chance may hide of it.
    hidden = (lenient - 0.2, lax - 0.4)
    assert 0 < min(hidden) < max(hidden) < 2 * min(hidden)


def test_variances_are_drawn_together_but_never_by_more_than_four_degrees():
    variances = 4.0 * chi2.ppf((np.arange(400) + 0.5) / 400, 2) / 2
    drawn, freedom = moderated(variances, 2)
    assert freedom == 6
    assert np.corrcoef(variances, drawn)[0, 1] == pytest.approx(1)
    common = (drawn - variances / 3) * 1.5  # what is lent, two thirds
    assert common == pytest.approx(np.full(400, 4.0), rel=0.01)


@pytest.mark.parametrize("variances", [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
def test_too_few_variances_stay_as_they_are(variances):
    drawn, freedom = moderated(np.array(variances), 3)
    assert drawn.tolist() == variances
    assert freedom == 3


@pytest.mark.parametrize("own", [0.0, 0.15, 0.4])  # 0: conditions move exactly together
@pytest.mark.parametrize(("then", "now", "least"), [(1, 3, 0.6), (3, 3, 0.75)])
@pytest.mark.soak
def test_the_drop_that_a_verdict_states_is_found_about_as_often_as_it_says(then, now, least, own):
    """Networks differ by their seed; the stated drop is the median of checks of equal ones."""
    generator = np.random.default_rng(0)

    def tables(drop):
        easy = generator.normal(0, 1.5, (3, 300))  # conditions x examples
        made = []
        for count, lower in ((then, 0), (now, drop)):
            seeds = generator.normal(0, 0.3, (count, 1, 1))
            odds = 2.2 + easy + seeds + generator.normal(0, own, (count, 3, 1)) - lower
            right = generator.random(odds.shape) < 1 / (1 + np.exp(-odds))
            made.append({f"corruptions/fog/{n}": right[:, n] for n in range(3)})
        return made

    spread = generator.normal(0, 1.5, 100_000)

    def accuracy(drop):
        return (1 / (1 + np.exp(drop - 2.2 - spread))).mean()

    stated = np.median([compare(*tables(0)).detectable for _ in range(80)])
    drop = brentq(lambda each: accuracy(0) - accuracy(each) - stated, 0, 9)
    found = np.mean([compare(*tables(drop)).changes[0].verdict == "worse" for _ in range(80)])
    assert least < found < 0.98
