"""The claims' statistics: effects with intervals, and how well they agree with a claim.

Intervals generalise over networks: they hold for further seeds on the same images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scipy.special import stdtr, stdtrit

from selbench.statistics.intervals import Difference, holm, tost
from selbench.statistics.spread import p_of

POINTS, SHARE, PLAIN = "points", "%", ""  # units of effects
NOT_MONOTONE, SCALED = "not monotone", "depends on the scale"  # verdicts on the shape of a trend
ROUNDING = 1e-12  # smaller standard errors are rounding: the numbers are equal
ONE = "one network per alpha: there is no interval without a second seed"
ALIKE = "all networks of each alpha have the same value: there is no interval"


@dataclass(frozen=True)
class Target:
    """The value that an estimate must reach, in the claim's direction, to support the claim.

    Attributes:
        beyond: the value that the interval must exclude.
        least: the value that the estimate itself must reach.
        truth: the assumed true effect, for the power.
        both: whether the interval must exclude -`beyond` too, on the other side.
    """

    beyond: float
    least: float
    truth: float
    both: bool = False


@dataclass(frozen=True)
class Effect:
    """An effect, and how strongly it supports or refutes a claim.

    Attributes:
        label: what it was measured for: "fog", "alpha = -1".
        unit: of value, low and high: "points" (percentage points), "%" or "".
        per: "alpha" or "selectivity" if it is a slope.
        value, low, high: the effect and its 95 % interval; NaN where there is none.
        p_for: two-sided p-value against no effect; 1 if the effect does not fit the claim.
        p_against: two-sided p-value against the smallest effect that the claim allows; 1 if the
            effect is larger.
        networks, seeds: how many; seeds are those of the alpha with fewest.
        reason: why no verdict is possible.
        detail: the numbers behind it, for people to read.
        error, freedom: standard error in the reading's unit, and its degrees of freedom.
        target: what would support the claim, in the reading's unit; None for a count.
    """

    label: str
    unit: str
    value: float
    low: float = math.nan
    high: float = math.nan
    p_for: float = 1.0
    p_against: float = 1.0
    networks: int = 0
    seeds: int = 0
    reason: str = ""
    detail: str = ""
    per: str = ""
    error: float = math.nan
    freedom: float = math.nan
    target: Target | None = None

    def power(self, level: float) -> float:
        """Return how often similar networks would support the claim if the target were true."""
        target = self.target
        if target is None or not self.error > 0:
            return 0.0
        side = level if target.both else level / 2
        reach = float(stdtrit(self.freedom, 1 - side)) * self.error
        least = max(target.beyond + reach, target.least)
        found = float(stdtr(self.freedom, (target.truth - least) / self.error))
        return max(2 * found - 1, 0.0) if target.both else found


@dataclass(frozen=True)
class Finding:
    """The result of one test, or of all tests of a claim.

    Attributes:
        shown: the effect that decides for the claim: the one that fits it least.
        refuting: the effect that decides against it.
        effects: all of them.
        shapes: p-values of further verdicts by name, such as "not monotone".
        certain: whether it is a count, which involves no chance.
        some: whether one of the effects suffices.
    """

    shown: Effect
    refuting: Effect
    effects: tuple[Effect, ...]
    p_for: float
    p_against: float
    shapes: Mapping[str, float] = field(default_factory=dict)
    certain: bool = False
    some: bool = False

    def power(self, level: float) -> float:
        """Return the power of the deciding effect, an upper bound of the finding's."""
        chances = [each.power(level) for each in self.effects]
        return (max if self.some else min)(chances)


def claimed(
    found: Difference, sign: int, at_least: float, published: float | None = None
) -> Effect:
    """Test whether an estimate has this sign and at least this size.

    `published`: the smallest size in the source if the test itself has none; the power is given for
    twice that.
    """
    value, least = sign * found.value, at_least if published is None else published
    return replace(
        _effect(found),
        p_for=p_of(found, 0.0) if value > 0 and value >= at_least else 1.0,
        p_against=p_of(found, sign * at_least) if value < at_least else 1.0,
        target=Target(0.0, at_least, 2 * least),
    )


def bounded(found: Difference, margin: float, sign: int = 0, published: float = 0.0) -> Effect:
    """Test whether an estimate stays within the margin: on both sides, or on that of the sign."""
    one_sided = sign != 0
    side = sign or math.copysign(1.0, found.value)
    bound = p_of(found, side * margin)
    effect = replace(
        _effect(found), target=Target(-margin, -margin, -abs(published), both=not one_sided)
    )
    if side * found.value > margin:
        return replace(effect, p_against=bound)
    return replace(effect, p_for=bound if one_sided else tost(found, margin).p)


def without_interval(value: float, networks: int, seeds: int, reason: str = ONE) -> Effect:
    """Return an effect that cannot be judged."""
    return Effect("", PLAIN, value, networks=networks, seeds=seeds, reason=reason)


def _effect(found: Difference) -> Effect:
    return Effect(
        "",
        PLAIN,
        found.value,
        found.low,
        found.high,
        seeds=found.networks or 1,
        error=found.error,
        freedom=found.freedom,
    )


def all_of(effects: Sequence[Effect], shapes: Mapping[str, float] | None = None) -> Finding:
    """Combine effects that must all hold: one that fails refutes, so Holm corrects for that.

    Their joint support is an intersection-union test: as certain as the least certain effect.
    Berger, 1982, doi:10.1080/00401706.1982.10487790.
    """
    p_for = max(each.p_for for each in effects)
    against = holm([each.p_against for each in effects])
    shown = max(effects, key=lambda each: (each.p_for, -each.p_against))
    refuting = min(effects, key=lambda each: each.p_against)
    return Finding(shown, refuting, tuple(effects), p_for, min(against), shapes or {})


def any_of(effects: Sequence[Effect]) -> Finding:
    """Combine effects of which one suffices: the best counts, and Holm corrects for its choice."""
    p_for = min(holm([each.p_for for each in effects]))
    shown = min(effects, key=lambda each: (each.p_for, -each.p_against))
    against = max(each.p_against for each in effects)
    return Finding(shown, shown, tuple(effects), p_for, against, some=True)


def in_all(findings: Sequence[Finding], apart: str = "") -> Finding:
    """Combine findings on one question that must agree, such as those on several scales.

    `apart`: the verdict if one of them supports the claim and another refutes it.
    """
    if len(findings) == 1:
        return findings[0]
    shapes = {
        name: max(each.shapes.get(name, 1.0) for each in findings) for name in _names(findings)
    }
    if apart:
        best = (min(holm([each.p_for for each in findings])),)
        worst = (min(holm([each.p_against for each in findings])),)
        shapes[apart] = max(*best, *worst)
    weakest = max(findings, key=lambda each: (each.p_for, -each.p_against))
    contrary = max(findings, key=lambda each: each.p_against)
    return Finding(
        weakest.shown,
        contrary.refuting,
        tuple(effect for each in findings for effect in each.effects),
        weakest.p_for,
        contrary.p_against,
        shapes,
    )


def labelled(finding: Finding, name: str) -> Finding:
    """Return a finding whose effects name their test."""
    effects = tuple(
        replace(each, label=", ".join(filter(None, [name, each.label]))) for each in finding.effects
    )
    shown, refuting = (
        effects[finding.effects.index(each)] for each in (finding.shown, finding.refuting)
    )
    return replace(finding, shown=shown, refuting=refuting, effects=effects)


def joint_finding(findings: Sequence[Finding]) -> Finding:
    """Combine the findings of all tests of a claim; all must hold."""
    if len(findings) == 1:
        return findings[0]
    against = holm([each.p_against for each in findings])
    weakest = max(findings, key=lambda each: (each.p_for, -each.p_against))
    return Finding(
        weakest.shown,
        min(findings, key=lambda each: each.p_against).refuting,
        tuple(effect for each in findings for effect in each.effects),
        weakest.p_for,
        min(against),
        {
            name: min(holm([each.shapes.get(name, 1.0) for each in findings]))
            for name in _names(findings)
        },
        all(each.certain for each in findings),
    )


def _names(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(name for each in findings for name in each.shapes))
