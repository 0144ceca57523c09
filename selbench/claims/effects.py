"""Effects with their intervals, and how well they agree with a claim: the claims' statistics.

Networks are what an interval generalises over: it holds for further seeds on these images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scipy.special import stdtr, stdtrit

from selbench.statistics.intervals import Difference, holm, tost
from selbench.statistics.spread import p_of

POINTS, SHARE, PLAIN = "points", "%", ""  # units of effects
NOT_MONOTONE, SCALED = "not monotone", "depends on the scale"  # verdicts of a test's shape
ROUNDING = 1e-12  # standard errors below it are of equal numbers
ONE = "one network of each: there is no interval without a second seed"
ALIKE = "the networks of an alpha have all the same value: there is no interval"


@dataclass(frozen=True)
class Target:
    """What an estimate must reach, in the claim's direction, to support the claim.

    Attributes:
        beyond: what its interval must exclude.
        least: what it must itself reach.
        truth: the true effect for which power is given.
        both: whether the interval must exclude -`beyond` on the other side as well.
    """

    beyond: float
    least: float
    truth: float
    both: bool = False


@dataclass(frozen=True)
class Effect:
    """An effect, and how surely it is what a claim says or what refutes it.

    Attributes:
        label: of what: "fog", "alpha = -1".
        unit: of value, low and high: "points" (percentage points), "%" or "".
        per: "alpha" or "selectivity" where it is a slope.
        value, low, high: the effect and its 95 % interval; NaN where there is none.
        p_for: two-sided, of no effect; 1 where the effect is not what the claim says.
        p_against: two-sided, of the smallest effect that the claim allows; 1 where it is larger.
        networks, seeds: how many; seeds are the fewest of an alpha.
        reason: what stands in the way of a verdict.
        detail: the numbers behind it, for people.
        error, freedom: standard error, with its degrees of freedom, in the reading's unit.
        target: what supports the claim, in the reading's unit; None for a count.
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
        """Return how often networks like these would support the claim, were the target true."""
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
    """What a test, or all tests of a claim, come to.

    Attributes:
        shown: the effect that decides for the claim: the one that agrees least with it.
        refuting: the one that decides against it.
        effects: all of them.
        shapes: p-values of further verdicts, by name, such as "not monotone".
        certain: whether it is a count that no chance is in.
        some: whether one of the effects is enough.
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
        """Return the power of the effect that decides, at most that of all."""
        chances = [each.power(level) for each in self.effects]
        return (max if self.some else min)(chances)


def claimed(
    found: Difference, sign: int, at_least: float, published: float | None = None
) -> Effect:
    """Measure whether an estimate goes as `sign` says, by at least so much.

    `published`: the smallest size in the source, where it is no part of the test; power is given
    for twice that.
    """
    value, least = sign * found.value, at_least if published is None else published
    return replace(
        _effect(found),
        p_for=p_of(found, 0.0) if value > 0 and value >= at_least else 1.0,
        p_against=p_of(found, sign * at_least) if value < at_least else 1.0,
        target=Target(0.0, at_least, 2 * least),
    )


def bounded(found: Difference, margin: float, sign: int = 0, published: float = 0.0) -> Effect:
    """Measure whether an estimate stays within the margin; with a sign, on that side alone."""
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
    """Return an effect that nothing can be said of."""
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
    """Return what all effects together say: one that fails refutes, so Holm counts for that.

    That all hold is an intersection-union test, as sure as the least sure of them. Berger, 1982,
    doi:10.1080/00401706.1982.10487790.
    """
    p_for = max(each.p_for for each in effects)
    against = holm([each.p_against for each in effects])
    shown = max(effects, key=lambda each: (each.p_for, -each.p_against))
    refuting = min(effects, key=lambda each: each.p_against)
    return Finding(shown, refuting, tuple(effects), p_for, min(against), shapes or {})


def any_of(effects: Sequence[Effect]) -> Finding:
    """Return what the best of the effects says: Holm counts for the choice, so none is biased."""
    p_for = min(holm([each.p_for for each in effects]))
    shown = min(effects, key=lambda each: (each.p_for, -each.p_against))
    against = max(each.p_against for each in effects)
    return Finding(shown, shown, tuple(effects), p_for, against, some=True)


def in_all(findings: Sequence[Finding], apart: str = "") -> Finding:
    """Return what findings of one question say that must agree, as those of several scales must.

    `apart`: the verdict where one supports what another refutes.
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
    """Return a finding whose effects say of which test they are."""
    effects = tuple(
        replace(each, label=", ".join(filter(None, [name, each.label]))) for each in finding.effects
    )
    shown, refuting = (
        effects[finding.effects.index(each)] for each in (finding.shown, finding.refuting)
    )
    return replace(finding, shown=shown, refuting=refuting, effects=effects)


def joint_finding(findings: Sequence[Finding]) -> Finding:
    """Return what all tests of a claim come to; all must hold."""
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
