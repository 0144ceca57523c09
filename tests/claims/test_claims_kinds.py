"""Each kind of test where the answer is known: the effect, none, and the contrary one."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from selbench.claims.effects import any_of, claimed
from selbench.claims.formats import sizes_text
from selbench.statistics.spread import contrast, means_of

SUPPORTED, REFUTED, OPEN, UNTESTED = "supported", "refuted", "inconclusive", "not tested"
TURNS, SCALED = "not monotone", "depends on the scale"
SI = {"suite": "selectivity", "metric": "selectivity_index", "conditions": ["clean"]}
CELL = ("clean", "clean", None, "accuracy")
INDEX = ("selectivity", "clean", None, "selectivity_index")


def flat(alpha):
    return 0.5


def rising(alpha):
    return 0.5 + 0.02 * alpha


def uneven(alpha):
    return 0.5 + 0.02 * abs(alpha)


def falling(alpha):
    return 0.5 - 0.02 * alpha


@pytest.mark.parametrize(
    ("value", "expected"), [(rising, SUPPORTED), (flat, OPEN), (falling, REFUTED)]
)
def test_trend(clean, claim, verdict, value, expected):
    found = verdict(clean(value), claim("trend", between=[-2, 2], direction="up"))
    assert found.verdict == expected
    assert (found.effect.networks, found.effect.seeds, found.images) == (15, 5, 1000)
    assert found.effect.per == "alpha"
    assert found.effect.value == pytest.approx(100 * (value(1) - value(0)), abs=0.1)


def test_no_trend_refutes_one_of_a_size(clean, claim, verdict):
    asked = claim("trend", between=[-2, 2], direction="up", at_least=0.01)
    assert verdict(clean(flat), asked).verdict == REFUTED


def test_a_trend_that_turns_is_not_monotone(clean, claim, verdict):
    asked = claim("trend", between=[-2, 2], direction="up")
    assert verdict(clean(uneven), asked).verdict == TURNS
    bump = clean(lambda a: {1: 0.6, 2: 0.56}.get(a, 0.5 + 0.02 * a))  # on one side alone
    assert verdict(bump, asked).verdict == TURNS


def test_each_side_must_follow(clean, claim, verdict):
    rows = clean(lambda alpha: 0.5 + 0.1 * max(alpha, 0.0))
    found = verdict(rows, claim("trend", between=[-2, 2], direction="up"))
    assert (found.verdict, found.effect.label) == (OPEN, "alpha from -2 to 0")


def test_means_may_wobble_round_a_trend(clean, claim, verdict):
    asked = claim("trend", between=[-2, 0], direction="up")
    found = verdict(clean(lambda alpha: 0.5 + 0.0008 * alpha, seeds=range(40)), asked)
    assert found.verdict == OPEN  # 1.6 standard deviations in all: chance lets means wander so
    assert verdict(clean(lambda alpha: 0.5 + 0.005 * alpha), asked).verdict == SUPPORTED


@pytest.mark.parametrize(("last", "expected"), [(0.9, SUPPORTED), (0.3, OPEN)])
def test_a_trend_holds_without_alphas_whose_units_die(made, claim, verdict, last, expected):
    dead = {-2: 0, -1: 0, 0: 0, 0.5: 0, 1: 1, 2: 90}
    cells = {
        CELL: lambda a: last if a == 2 else rising(a),
        (*INDEX[:3], "dead_units"): dead.get,
        (*INDEX[:3], "units"): lambda a: 600,
    }
    found = verdict(made(cells, tuple(dead)), claim("trend", between=[0, 2], direction="up"))
    assert found.verdict == expected
    labels = [each.label for each in found.finding.effects]
    assert labels == ["", "without alpha = 2, whose units die"]


@pytest.mark.parametrize(
    ("corrupted", "expected"),
    [
        (lambda a: 0.8 * (0.8 - 0.1 * a), REFUTED),  # the ratio stays, the others rise
        (lambda a: 0.8 - 0.2 * a, SUPPORTED),
        (lambda a: 0.79, REFUTED),
        (lambda a: 0.7 - 0.11 * a, SCALED),  # more points are lost, and fewer log odds
    ],
)
def test_a_trend_beside_clean_accuracy_holds_on_each_scale(
    made, claim, verdict, corrupted, expected
):
    cells = {("corruptions", "fog", 1, "accuracy"): corrupted, CELL: lambda a: 0.8 - 0.1 * a}
    scales = {"ratio": 0.001, "log odds": 0.001, "points": 0.001}
    reading = {"suite": "corruptions"}
    asked = claim("trend", reading=reading, between=[0, 2], direction="down", scales=scales)
    rows = made(cells, alphas=(0.0, 0.5, 1.0, 2.0), noise=1e-5)
    assert verdict(rows, asked).verdict == expected


def test_only_networks_in_the_range_count(clean, claim, verdict):
    rows = clean(abs)
    assert verdict(rows, claim("trend", between=[0, 2], direction="up")).verdict == SUPPORTED
    assert verdict(rows, claim("trend", between=[-2, 0], direction="up")).verdict == REFUTED


def test_a_strict_trend_has_no_step_back(clean, claim, verdict):
    def stumbling(alpha):
        return {-2: 0.1, -1: 0.2, 0: 0.3, 1: 0.29, 2: 0.5}[alpha]

    asked = {"between": [-2, 2], "direction": "up"}
    rows = clean(stumbling, noise=0.01)
    assert verdict(rows, claim("trend", **asked)).verdict == SUPPORTED
    strict = claim("trend", strict=True, **asked)
    assert verdict(clean(rising), strict).verdict == SUPPORTED
    found = verdict(rows, strict)
    assert found.verdict == OPEN
    assert found.reason == "not at every step: not from alpha = 0 to alpha = 1"


def test_a_strict_trend_reports_a_step_that_stands_still_as_open(clean, claim, verdict):
    def resting(alpha):
        return {0: 0.3, 1: 0.3}.get(alpha, 0.3 + 0.1 * alpha)

    asked = claim("trend", between=[-2, 2], direction="up", strict=True)
    assert verdict(clean(resting, noise=0), asked).verdict == OPEN


def test_one_seed_is_enough_for_a_trend_but_not_for_a_difference(clean, claim, verdict):
    many = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    rows = clean(rising, alphas=many, seeds=[0])
    trend = verdict(rows, claim("trend", between=[-2, 2], direction="up"))
    assert (trend.verdict, trend.effect.seeds) == (SUPPORTED, 1)
    single = verdict(rows, claim("difference", between=[2, 2], direction="up"))
    assert single.verdict == OPEN
    assert single.reason == "one network per alpha: there is no interval without a second seed"
    assert single.effect.value == pytest.approx(4, abs=0.5)
    assert math.isnan(single.effect.low)


def test_a_trend_needs_four_networks_of_three_alphas(clean, claim, verdict):
    asked = claim("trend", between=[-2, 2], direction="up")
    few = verdict(clean(rising, alphas=(-1.0, 0.0, 1.0), seeds=[0]), asked)
    why = "a trend needs four networks, there are 2; without alpha = -2 and alpha = 2"
    assert (few.verdict, few.reason) == (OPEN, why)
    two = verdict(clean(rising, alphas=(0.0, 1.0)), asked)
    assert (two.verdict, two.reason) == (
        UNTESTED,
        "it needs networks of three alphas between -2 and 2",
    )
    assert two.command == "selbench run study --suite clean --alpha -2,0,2"
    lone = verdict(clean(rising, seeds=[0]), asked)
    assert (lone.verdict, lone.reason) == (OPEN, "a trend needs four networks, there are 3")
    assert sizes_text(lone) == "3 networks, 1 seed, 1000 images"
    equal = verdict(clean(flat, noise=0), asked)
    assert (equal.verdict, equal.reason) == (OPEN, "all networks have the same value")


@pytest.mark.parametrize(
    ("value", "expected"), [(rising, SUPPORTED), (flat, SUPPORTED), (falling, REFUTED)]
)
def test_no_trend(clean, claim, verdict, value, expected):
    asked = claim("no_trend", between=[-2, 2], direction="down", margin=0.005)
    assert verdict(clean(value), asked).verdict == expected


def test_the_corruptions_that_choose_an_alpha_are_counted_too(made, claim, verdict):
    asked = claim(
        "difference",
        direction="up",
        choose={"reading": {"suite": "corruptions"}, "rule": "highest"},
    )
    rows = made(
        {
            ("clean", "clean", None, "accuracy"): rising,
            ("corruptions", "fog", 1, "accuracy"): rising,
        }
    )
    assert "only 1 of 15 corruptions" in verdict(rows, asked).reason


def test_each_condition_must_follow(made, claim, verdict):
    asked = claim(
        "trend", reading={"suite": "corruptions"}, between=[-2, 2], direction="up", each=True
    )

    def rows(**values):
        return made({("corruptions", name, 1, "accuracy"): f for name, f in values.items()})

    supported = verdict(rows(fog=rising, snow=rising), asked)
    assert (supported.verdict, supported.reason) == (SUPPORTED, "only 2 of 15 corruptions")
    assert sizes_text(supported) == "15 networks, 5 seeds, 1000 images, 2 corruptions"
    assert verdict(rows(fog=rising, snow=uneven), asked).verdict == TURNS
    refuted = verdict(rows(fog=rising, snow=falling), asked)
    assert refuted.verdict == REFUTED
    assert refuted.effect.label.startswith("snow, alpha from ")
    names = [each.label.split(",")[0] for each in refuted.finding.effects]
    assert names == ["fog", "fog", "snow", "snow"]


def test_values_that_differ_by_rounding_alone_have_no_trend(clean, claim, verdict):
    rows = clean(lambda alpha: 0.1 + 0.2 if alpha < 0 else 0.3, seeds=[0], noise=0)
    found = verdict(rows, claim("trend", between=[-2, 2], direction="up"))
    assert (found.verdict, found.reason) == (OPEN, "all networks have the same value")


def test_what_refutes_any_is_the_alpha_that_comes_nearest(clean, claim, verdict):
    some = claim("difference", between=[-2, -1], direction="up", quantifier="any")
    rows = clean(lambda alpha: {-2: 0.1, -1: 0.4}.get(alpha, 0.5))
    found = verdict(rows, some)
    assert found.verdict == REFUTED
    assert found.effect.value == pytest.approx(-10, abs=0.5)


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.04, SUPPORTED), (0.005, REFUTED), (0.0, REFUTED), (-0.04, REFUTED)]
)
def test_a_difference_reaches_its_size(clean, claim, verdict, gain, expected):
    asked = claim("difference", between=[-1, -1], direction="up", at_least=0.02)
    found = verdict(clean(lambda a: 0.5 + gain * (a == -1)), asked)
    assert found.verdict == expected
    assert found.effect.value == pytest.approx(100 * gain, abs=0.2)
    assert found.effect.low < found.effect.value < found.effect.high


def difference(first, second):
    return contrast(means_of({1: first, 0: second}), {1: 1, 0: -1})


def test_a_difference_near_its_size_stays_open():
    first, second = [0.505, 0.520, 0.512, 0.518, 0.510], [0.500, 0.490, 0.505, 0.495, 0.500]
    effect = claimed(difference(first, second), 1, 0.018)
    assert effect.value == pytest.approx(0.015)
    assert effect.low > 0  # the direction holds, the size is not reached
    assert effect.p_for == 1
    assert effect.p_against > 0.05
    assert claimed(difference(first, second), 1, 0.012).p_for < 0.05


def test_another_network_is_asked_for_the_direction_alone(clean, claim, verdict):
    asked = claim("difference", between=[-1, -1], direction="up", at_least=0.02)
    asked = asked.model_copy(update={"networks": ("resnet18/tiny-imagenet",)})
    rows = clean(lambda a: 0.5 + 0.005 * (a == -1), noise=0.0001)
    own = verdict(rows, asked, "resnet18/tiny-imagenet")
    assert (own.verdict, own.standing) == (REFUTED, "own")
    other = verdict(rows, asked, "resnet8/digits")
    assert (other.verdict, other.standing) == ("transfers", "other")
    assert other.power == pytest.approx(own.power)  # at the published size
    meant = asked.tests[0].model_copy(update={"meant": True})
    found = verdict(rows, asked.model_copy(update={"tests": (meant,)}))
    assert found.verdict == "does not transfer"


@pytest.mark.parametrize(
    ("network", "standing"),
    [
        ("resnet20/cifar10", "own"),
        ("resnet8/folder cifar10-jpeg, width=16", "kind"),
        ("resnet20/cifar100", "other"),
        ("resnet20/folder cifar100-jpeg", "other"),
        ("resnet18/cifar10", "other"),
        ("resnet20/cifar10, 5 classes", "other"),
        ("resnet20/cifar10, trained with augmix", "other"),
    ],
)
def test_sizes_count_for_networks_of_one_kind(clean, claim, verdict, network, standing):
    asked = claim("difference", between=[-1, -1], direction="up", at_least=0.02)
    asked = asked.model_copy(update={"networks": ("resnet20/cifar10",)})
    rows = clean(lambda a: 0.5 + 0.005 * (a == -1), noise=0.0001)
    found = verdict(rows, asked, network)
    assert found.standing == standing
    assert found.verdict == ("transfers" if standing == "other" else REFUTED)


def test_a_test_may_be_about_some_of_the_networks(clean, claim, verdict):
    up, down = (claim("trend", between=[-2, 2], direction=way).tests[0] for way in ("up", "down"))
    tests = (
        up.model_copy(update={"networks": ("resnet18/tiny-imagenet",)}),
        down.model_copy(update={"networks": ("resnet20/cifar10",)}),
    )
    names = ("resnet18/tiny-imagenet", "resnet20/cifar10")
    both = claim("flags").model_copy(update={"tests": tests, "networks": names})
    expected = [SUPPORTED, REFUTED, "transfers"]
    networks = [*names, "resnet8/digits"]
    assert [verdict(clean(rising), both, each).verdict for each in networks] == expected


def test_power_is_told_at_twice_the_smallest_size(clean, claim, verdict):
    asked = claim("difference", between=[1, 1], direction="up", at_least=0.01)
    powers = [verdict(clean(flat, seeds=range(n), noise=0.01), asked).power for n in (3, 5, 10, 20)]
    assert powers == sorted(powers)
    assert powers[0] < 0.8 < powers[-1] <= 1
    close = verdict(clean(flat, noise=0.01), claim("equivalence", between=[1, 1], margin=0.005))
    assert close.power == 0  # so few of these networks cannot show it


def test_all_alphas_or_any(clean, claim, verdict):
    rows = clean(lambda a: 0.5 - 0.04 * (a == 1))
    every = claim("difference", between=[0, 2], direction="down")
    some = claim("difference", between=[0, 2], direction="down", quantifier="any")
    assert verdict(rows, every).verdict == OPEN
    found = verdict(rows, some)
    assert (found.verdict, found.effect.label) == (SUPPORTED, "alpha = 1")
    assert verdict(clean(rising), some).verdict == REFUTED


def test_any_pays_for_its_choice():
    first, second = [0.50, 0.51, 0.52], [0.48, 0.49, 0.50]
    one = claimed(difference(first, second), 1, 0.0)
    assert any_of([one, one]).p_for == pytest.approx(2 * one.p_for)


@pytest.mark.parametrize(
    ("change", "losses_only", "expected"),
    [
        (0.0, False, SUPPORTED),
        (0.02, False, OPEN),
        (0.05, False, REFUTED),
        (-0.05, False, REFUTED),
        (0.02, True, SUPPORTED),
        (0.05, True, SUPPORTED),
        (-0.05, True, REFUTED),
    ],
)
def test_equivalence(clean, claim, verdict, change, losses_only, expected):
    asked = claim("equivalence", between=[1, 1], margin=0.02, losses_only=losses_only)
    rows = clean(lambda a: 0.5 + change * (a == 1), noise=0.004)
    assert verdict(rows, asked).verdict == expected


def test_few_networks_do_not_show_equivalence(clean, claim, verdict):
    asked = claim("equivalence", between=[1, 1], margin=0.02)
    assert verdict(clean(flat, seeds=[0, 1], noise=0.02), asked).verdict == OPEN


def test_equal_numbers_are_no_certainty(clean, claim, verdict):
    found = verdict(clean(flat, noise=0), claim("equivalence", between=[1, 1], margin=0.02))
    assert found.verdict == OPEN
    assert found.reason.startswith("all networks of each alpha have the same value")


def test_an_alpha_is_chosen_by_another_reading(made, claim, verdict):
    choose = {"reading": SI, "rule": "share", "share": [0.15, 0.5]}
    asked = claim("equivalence", choose=choose, margin=0.02)
    index = {-2: 0.1, -1: 0.2, 0: 0.5, 1: 0.24, 2: 0.7}  # only negative alphas are chosen

    def rows(chosen, other):
        accuracies = {-1: chosen, -2: other}
        return made({INDEX: index.get, CELL: lambda a: accuracies.get(a, 0.5)})

    found = verdict(rows(0.5, 0.3), asked)
    assert (found.verdict, found.effect.label) == (SUPPORTED, "alpha = -1")
    assert verdict(rows(0.3, 0.5), asked).verdict == REFUTED
    deep = claim("equivalence", choose=choose | {"share": [0.6, 0.8]}, margin=0.02)
    untested = verdict(rows(0.5, 0.5), deep)
    reason = "no alpha brings selectivity_index to 0.6 to 0.8 of that at alpha = 0: "
    assert untested.reason == reason + "train alpha = -0.5"
    assert untested.command.endswith("--alpha -0.5")


def test_the_best_alpha_is_compared_elsewhere(made, claim, verdict):
    choose = {"reading": {"suite": "corruptions"}, "rule": "highest"}
    asked = claim("difference", choose=choose, direction="down")

    def rows(best, accuracy):
        corrupted = ("corruptions", "fog", 1, "accuracy")
        return made({corrupted: lambda a: 0.5 - 0.1 * abs(a - best), CELL: accuracy})

    assert verdict(rows(-2, rising), asked).verdict == SUPPORTED
    assert verdict(rows(-2, falling), asked).verdict == REFUTED
    itself = verdict(rows(0, rising), asked)
    reason = "the chosen alpha is 0 itself; only 1 of 15 corruptions"
    assert (itself.verdict, itself.reason) == (OPEN, reason)


@pytest.mark.parametrize(("gain", "expected"), [(0.1, SUPPORTED), (0, OPEN), (-0.1, REFUTED)])
def test_two_readings_of_one_network(made, claim, verdict, gain, expected):
    asked = claim("within", less=SI, between=[0, 0], direction="up")
    # Networks differ by far more than the two readings of one do.
    rows = made({CELL: rising, INDEX: rising}, noise=0)
    spread = rows["seed"].map({0: 0.3, 1: -0.3, 2: 0.1, 3: 0.0, 4: -0.2})
    noise = pd.Series(np.random.default_rng(1).normal(0, 0.01, len(rows)), rows.index)
    rows["value"] += spread + noise + gain * (rows["suite"] == "clean")
    found = verdict(rows, asked)
    assert (found.verdict, found.effect.networks) == (expected, 5)


def test_two_readings_say_how_their_difference_goes_with_alpha(made, claim, verdict):
    rows = made({CELL: rising, INDEX: flat}, noise=0.001)
    asked = claim("within", less=SI, between=[-2, 2], direction="up")
    detail = verdict(rows, asked).effect.detail
    match = re.search(r"by alpha from (\S+) at (\S+) to (\S+) at (\S+)$", detail)
    assert [float(part) for part in match.groups()] == pytest.approx(
        [rising(-2) - flat(-2), -2, rising(2) - flat(2), 2], abs=0.003
    )


@pytest.mark.parametrize(("cost", "expected"), [(0.1, SUPPORTED), (0, OPEN), (-0.1, REFUTED)])
def test_alphas_that_change_selectivity_alike(made, claim, verdict, cost, expected):
    asked = claim("matched", match=SI, tolerance=0.2, direction="down")
    index = {-2: 0.01, -1: 0.25, 0: 0.5, 1: 1.1, 2: 20.0}  # only -1 and 1 match
    rows = made({INDEX: index.get, CELL: lambda a: 0.5 - cost * (a == 1)})
    found = verdict(rows, asked)
    assert (found.verdict, found.effect.label) == (expected, "alpha = 1 and -1")


def test_no_alphas_that_change_selectivity_alike(made, claim, verdict):
    asked = claim("matched", match=SI, tolerance=0.2, direction="down")
    found = verdict(made({INDEX: flat, CELL: flat}), asked)
    assert found.verdict == UNTESTED
    assert found.reason.startswith("no positive alpha changes selectivity_index by as much")


@pytest.mark.parametrize(
    ("scale", "details"),
    [
        ("ratio", "0.5 at alpha = -2, 0.5 at alpha = 2"),
        ("points", "-23.0 points at alpha = -2, -27.0 points at alpha = 2"),
        ("log odds", "-1.05 at alpha = -2, -1.15 at alpha = 2"),
    ],
)
def test_scales_beside_clean_accuracy(made, claim, verdict, scale, details):
    cells = {("corruptions", "fog", 1, "accuracy"): lambda a: 0.5 * rising(a), CELL: rising}
    reading = {"suite": "corruptions", "to_clean": scale}
    asked = claim("trend", reading=reading, between=[-2, 2], direction="up")
    below, above = verdict(made(cells, noise=1e-6), asked).finding.effects
    assert f"{below.detail.split(', ')[0]}, {above.detail.split(', ')[1]}" == details


def test_a_ratio_needs_clean_accuracy(made, claim, verdict):
    rows = made({("corruptions", "fog", 1, "accuracy"): lambda a: 0.4, CELL: rising})
    reading = {"suite": "corruptions", "to_clean": "ratio"}
    asked = claim("difference", reading=reading, between=[-2, 2], direction="down")
    own = (rows["suite"] == "clean") & (rows["alpha"] == 2)
    for without in (rows[~own], rows.assign(value=rows["value"].mask(own, 0.0))):  # none, or zero
        labels = [each.label for each in verdict(without, asked).finding.effects]
        assert labels == ["alpha = -2", "alpha = -1", "alpha = 1"]


def test_logarithms_make_shares_of_differences(clean, claim, verdict):
    reading = {"suite": "clean", "log": True}
    asked = claim("difference", reading=reading, between=[1, 1], direction="up")
    found = verdict(clean(lambda a: 0.5 * 1.2**a), asked)
    assert found.effect.value == pytest.approx(math.log(1.2), abs=0.01)
    assert found.effect.detail.startswith("0.6 at alpha = 1, ")


def test_levels_then_conditions_are_averaged(made, claim, verdict):
    cells = {("corruptions", "fog", level, "accuracy"): flat for level in (1, 2, 3)}
    cells[("corruptions", "snow", 1, "accuracy")] = lambda a: 0.9
    reading = {"suite": "corruptions"}
    found = verdict(
        made(cells, noise=1e-6), claim("trend", reading=reading, between=[-2, 2], direction="up")
    )
    assert found.effect.detail.startswith("70.0 % at alpha = ")


def test_only_conditions_of_all_networks_count(made, claim, verdict):
    cells = {
        ("corruptions", "fog", 1, "accuracy"): rising,
        ("corruptions", "snow", 1, "accuracy"): lambda a: 0.5 - 9 * a,
    }
    rows = made(cells)
    rows = rows[(rows["condition"] == "fog") | (rows["alpha"] != 2)]
    asked = {"between": [-2, 2], "direction": "up"}
    assert verdict(rows, claim("trend", reading={"suite": "corruptions"}, **asked)).verdict == (
        SUPPORTED
    )
    reading = {"suite": "corruptions", "conditions": ["fog", "snow"]}
    found = verdict(rows, claim("trend", reading=reading, **asked))
    assert (found.verdict, found.reason) == (UNTESTED, "snow of corruptions was not measured")


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ({"suite": "jacobian", "metric": "m"}, "jacobian was not measured"),
        ({"suite": "clean", "conditions": ["fog"]}, "fog of clean was not measured"),
        (
            {"suite": "clean", "metric": "accurasy"},
            "unknown metric of clean 'accurasy'; did you mean 'accuracy'?",
        ),
        ({"suite": "clean", "metric": "acc_of_best"}, "acc_of_best of clean was not measured"),
        ({"suite": "clean", "levels": [3, 4.5]}, "level 3, 4.5 of clean was not measured"),
    ],
)
def test_what_was_not_measured(clean, claim, verdict, reading, reason):
    found = verdict(clean(flat), claim("trend", reading=reading, between=[-2, 2], direction="up"))
    assert (found.verdict, found.reason) == (UNTESTED, reason)
    assert bool(found.command) == ("did you mean" not in reason)  # what is misspelt no run measures


def test_a_level_that_was_not_measured(made, claim, verdict):
    rows = made({("attacks", "fgsm-linf", 1.0, "accuracy"): flat})
    reading = {"suite": "attacks", "conditions": ["fgsm-linf"], "levels": [1, 2]}
    found = verdict(rows, claim("trend", reading=reading, between=[-2, 2], direction="up"))
    assert found.reason == "level 2 of attacks was not measured"
