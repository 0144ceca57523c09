"""Tests of the shape of a reading along alpha: slopes on each side of 0, and turns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import pandas as pd

from selbench.claims.claim import SCALES, SIGNS, NoTrend, Reading, Scale, Trend
from selbench.claims.effects import (
    ALIKE,
    NOT_MONOTONE,
    ONE,
    ROUNDING,
    SCALED,
    Effect,
    Finding,
    all_of,
    bounded,
    claimed,
    in_all,
    joint_finding,
    labelled,
    without_interval,
)
from selbench.claims.groups import REFERENCE, groups_of, in_unit, mean, no_alphas, text
from selbench.claims.readings import Networks, UntestedError, alpha_text, read, scaled
from selbench.statistics.intervals import Difference, holm
from selbench.statistics.spread import Mean, contrast, estimated, means_of

# How far an alpha's mean may lie from the line without making a trend, in standard deviations of
# one network: alpha also changes training by chance, which moves the mean of equal networks. If by
# one standard deviation, .84 leaves 5 % of false trends in a given direction however many the seeds
# are: 1.645 / 1.960.
WOBBLE = 0.84
DYING = 0.01  # share of units: alphas with more dead units on average are also left out once
INDEX = Reading(suite="selectivity", metric="selectivity_index", conditions=("clean",))
DEAD, UNITS = (INDEX.model_copy(update={"metric": name}) for name in ("dead_units", "units"))
Shape = Trend | NoTrend


def shape(networks: Networks, test: Shape, published: float | None) -> Finding:
    """Test a slope, on every scale that the test names.

    Args:
        networks: networks with an alpha.
        test: what to test.
        published: see `selbench.claims.effects.claimed`.
    """
    if not test.scales:
        return _shape(networks, test, published)
    found = []
    for scale in (scale for scale in SCALES if scale in test.scales):
        scaled_test = _on(test, scale, published is None)
        size = None if published is None else test.scales[scale]
        found.append(labelled(_shape(networks, scaled_test, size), scale))
    return in_all(found, SCALED)


def _on(test: Shape, scale: Scale, sized: bool) -> Shape:
    """Return the test on one of its scales."""
    size = test.scales[scale]
    sizes = {"margin": size} if isinstance(test, NoTrend) else {"at_least": size if sized else 0.0}
    reading = test.reading.model_copy(update={"to_clean": scale})
    return test.model_copy(update={"reading": reading, "scales": {}, **sizes})


def _shape(networks: Networks, test: Shape, published: float | None) -> Finding:
    if not (isinstance(test, Trend) and test.each):
        return _with_and_without(networks, test, read(networks, test.reading), published)
    conditions = networks.by_condition(test.reading)
    found = [
        labelled(
            _with_and_without(networks, test, scaled(networks, test.reading, values), published),
            str(name),
        )
        for name, values in conditions.iterrows()
    ]
    return joint_finding(found)


def _with_and_without(
    networks: Networks, test: Shape, values: pd.Series, published: float | None
) -> Finding:
    """Test with all alphas, and without those whose units die; both results must agree."""
    along = _along(networks, test)
    groups = {
        alpha: group for alpha, group in groups_of(networks, values).items() if alpha in along
    }
    found = _sides(groups, along, test, published)
    dying = [alpha for alpha in _dying(networks) if _inside(alpha, test.between)]
    rest = {alpha: group for alpha, group in groups.items() if alpha not in dying}
    if not dying or not _enough(rest, test.between):
        return found
    without = _sides(rest, along, test, published)
    name = f"without {' and '.join(map(alpha_text, dying))}, whose units die"
    return in_all([found, labelled(without, name)])


def _sides(
    groups: Mapping[float, Sequence[float]],
    along: Mapping[float, float],
    test: Shape,
    published: float | None,
) -> Finding:
    """Test the slope on each side of alpha = 0 that lies in the test's range."""
    if not _enough(groups, test.between):
        raise no_alphas(test.reading, test.between, 3)
    means = means_of(groups)
    parts = _parts(test.between)
    effects = [_slope(groups, means, along, side, test, published) for side in parts]
    if len(parts) > 1:
        effects = [
            replace(each, label=f"alpha from {low:g} to {high:g}")
            for each, (low, high) in zip(effects, parts, strict=True)
        ]
    if isinstance(test, NoTrend):
        return all_of(effects)
    ordered = sorted(_alphas(groups, test.between), key=lambda alpha: along[alpha])
    return all_of(effects, {NOT_MONOTONE: _p_of_a_turn(means, ordered)})


def _slope(
    groups: Mapping[float, Sequence[float]],
    means: Mapping[float, Mean],
    along: Mapping[float, float],
    side: tuple[float, float],
    test: Shape,
    published: float | None,
) -> Effect:
    alphas = _alphas(groups, side)
    wobble = 0.0 if isinstance(test, NoTrend) else WOBBLE  # a margin allows for it already
    found = fitted({alpha: means[alpha] for alpha in alphas}, along, wobble)
    sign, networks = SIGNS[test.direction], sum(means[alpha].count for alpha in alphas)
    if isinstance(found, str):
        effect = without_interval(math.nan, networks, min(means[a].count for a in alphas), found)
    elif isinstance(test, NoTrend):
        effect = bounded(found, test.margin, sign)
    else:
        effect = claimed(found, sign, test.at_least, published)
    if isinstance(test, Trend) and test.strict:
        effect = _strict(effect, means, alphas, sign)
    ends = ", ".join(
        f"{text(groups[a], test.reading)} at {alpha_text(a)}" for a in (alphas[0], alphas[-1])
    )
    seeds = min(means[alpha].count for alpha in alphas)
    effect = replace(effect, networks=networks, seeds=seeds, per=test.along)
    return in_unit(effect, test.reading, "", ends)


def fitted(
    means: Mapping[float, Mean], along: Mapping[float, float], wobble: float
) -> Difference | str:
    """Return the slope of a line through the means, or say why it has no interval.

    Means may lie off the line (see `WOBBLE`). If each alpha has one network, the scatter around the
    line is the spread; its degrees of freedom are two fewer than the alphas.
    """
    middle = mean([along[alpha] for alpha in means])
    off = {alpha: along[alpha] - middle for alpha in means}
    square = sum(each * each for each in off.values())
    if square <= ROUNDING:
        return "selectivity is the same at all alphas"
    if (
        max(each.value for each in means.values()) - min(m.value for m in means.values())
        <= ROUNDING
    ):
        return "all networks have the same value"
    found = contrast(means, {alpha: each / square for alpha, each in off.items()}, wobble)
    if math.isnan(found.error):
        return _scattered(means, off, found.value)
    return found if found.error > ROUNDING else ALIKE


def _scattered(
    means: Mapping[float, Mean], off: Mapping[float, float], slope: float
) -> Difference | str:
    """Return a slope whose interval comes from the scatter around the line."""
    if any(each.count > 1 for each in means.values()):
        return ONE
    freedom = len(means) - 2
    if freedom < 2:
        return f"a trend needs four networks, there are {len(means)}"
    middle = mean([each.value for each in means.values()])
    rest = sum((each.value - middle - slope * off[a]) ** 2 for a, each in means.items())
    square = sum(each * each for each in off.values())
    return estimated(slope, math.sqrt(rest / freedom / square), float(freedom), 1)


def _strict(effect: Effect, means: Mapping[float, Mean], alphas: list[float], sign: int) -> Effect:
    """Require that the means rise or fall at every step; one step back leaves the test open."""
    back = [
        (low, high)
        for low, high in pairwise(alphas)
        if sign * (means[high].value - means[low].value) <= ROUNDING * abs(means[low].value)
    ]
    if not back:
        return effect
    low, high = back[0]
    reason = f"not at every step: not from {alpha_text(low)} to {alpha_text(high)}"
    return replace(effect, p_for=1.0, reason=effect.reason or reason)


def _p_of_a_turn(means: Mapping[float, Mean], alphas: Sequence[float]) -> float:
    """Return the p-value that the means rise between some alphas and fall between others."""
    found = [contrast(means, {b: 1.0, a: -1.0}, WOBBLE) for a, b in combinations(alphas, 2)]
    found = [each for each in found if each.error > ROUNDING]
    if not found:
        return 1.0
    up, down = (
        min(holm([each.p if sign * each.value > 0 else 1.0 for each in found])) for sign in (1, -1)
    )
    return max(up, down)


def _along(networks: Networks, test: Shape) -> dict[float, float]:
    """Return the position of each alpha on the axis of the slope."""
    if test.along == "alpha":
        return {alpha: alpha for alpha in networks.alphas.dropna().unique()}
    return {
        alpha: mean(group) for alpha, group in groups_of(networks, read(networks, INDEX)).items()
    }


def _dying(networks: Networks) -> list[float]:
    """Return the alphas at which units die; empty if that was not measured."""
    try:
        shares = read(networks, DEAD) / read(networks, UNITS)
    except UntestedError:
        return []
    return [alpha for alpha, group in groups_of(networks, shares).items() if mean(group) > DYING]


def _parts(between: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the parts of a range on either side of alpha = 0."""
    low, high = between
    return [(low, REFERENCE), (REFERENCE, high)] if low < REFERENCE < high else [between]


def _enough(groups: Mapping[float, Sequence[float]], between: tuple[float, float]) -> bool:
    """Whether a range has at least three alphas, and two on each side."""
    sides = all(len(_alphas(groups, side)) >= 2 for side in _parts(between))
    return sides and len(_alphas(groups, between)) >= 3


def _alphas(groups: Mapping[float, Sequence[float]], side: tuple[float, float]) -> list[float]:
    return sorted(alpha for alpha in groups if _inside(alpha, side))


def _inside(alpha: float, side: tuple[float, float]) -> bool:
    return side[0] <= alpha <= side[1]
