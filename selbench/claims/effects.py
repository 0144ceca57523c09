"""Effects with their intervals, and how well they agree with a claim: the claims' statistics.

Networks are what an interval generalises over: it holds for further seeds on these images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from selbench.stats import Difference, holm, seed_difference, tost
from selbench.trends import DIGITS, p_of_rho, spearman_trend

RHO, POINTS, SHARE, PLAIN = "rho", "points", "%", ""  # units of effects
ROUNDING = 1e-12  # standard errors below it are of equal numbers
ONE = "one network of each: there is no interval without a second seed"
ALIKE = "the networks of an alpha have all the same value: there is no interval"


@dataclass(frozen=True)
class Effect:
    """An effect, and how surely it is what a claim says or what refutes it.

    Attributes:
        label: of what: "fog", "alpha = -1".
        unit: of value, low and high: "rho", "points" (percentage points), "%" or "".
        value, low, high: the effect and its 95 % interval; NaN where there is none.
        p_for: two-sided, of no effect; 1 where the effect is not what the claim says.
        p_against: two-sided, of the smallest effect that the claim allows; 1 where it is larger.
        networks, seeds: how many; seeds are the fewest of an alpha.
        reason: what stands in the way of a verdict.
        detail: the numbers behind it, for people.
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


@dataclass(frozen=True)
class Finding:
    """What a test, or all tests of a claim, come to.

    Attributes:
        shown: the effect that decides for the claim: the one that agrees least with it.
        refuting: the one that decides against it.
        effects: all of them.
        certain: whether it is a count that no chance is in.
    """

    shown: Effect
    refuting: Effect
    effects: tuple[Effect, ...]
    p_for: float
    p_against: float
    certain: bool = False


def trend_effect(x: Sequence[float], y: Sequence[float], sign: int, at_least: float) -> Effect:
    """Measure whether y goes with x as `sign` says, with rho of at least so much."""
    if problem := _no_trend_from(x, y):
        return Effect("", RHO, math.nan, networks=len(x), reason=problem)
    found = spearman_trend(x, y)
    rho = sign * found.value
    return Effect(
        "",
        RHO,
        found.value,
        found.low,
        found.high,
        p_for=found.p if rho > 0 and rho >= at_least else 1.0,
        p_against=p_of_rho(x, y, sign * at_least) if rho < at_least else 1.0,
        networks=len(x),
    )


def no_trend_effect(x: Sequence[float], y: Sequence[float], sign: int, margin: float) -> Effect:
    """Measure whether y does not go with x as `sign` says, by a rho of more than the margin."""
    if problem := _no_trend_from(x, y):
        return Effect("", RHO, math.nan, networks=len(x), reason=problem)
    found = spearman_trend(x, y)
    p = p_of_rho(x, y, sign * margin)
    inside = sign * found.value < margin
    p_for, p_against = (p, 1.0) if inside else (1.0, p)
    return Effect("", RHO, found.value, found.low, found.high, p_for, p_against, networks=len(x))


def difference_effect(
    first: Sequence[float],
    second: Sequence[float],
    sign: int,
    at_least: float,
    paired: bool = False,
) -> Effect:
    """Measure whether the first exceeds the second as `sign` says, by at least so much."""
    effect, found = _compared(first, second, paired)
    if found is None:
        return effect
    value = sign * found.value
    bound = _p_of(first, second, sign * at_least, paired)
    return replace(
        effect,
        p_for=found.p if value > 0 and value >= at_least else 1.0,
        p_against=bound if value < at_least else 1.0,
    )


def equivalence_effect(
    first: Sequence[float], second: Sequence[float], margin: float, losses_only: bool
) -> Effect:
    """Measure whether the first is the second within the margin, or not below it by more."""
    effect, found = _compared(first, second, paired=False)
    if found is None:
        return effect
    bound = _p_of(first, second, math.copysign(margin, -1 if losses_only else found.value), False)
    outside = found.value < -margin or (found.value > margin and not losses_only)
    if outside:
        return replace(effect, p_against=bound)
    return replace(effect, p_for=bound if losses_only else tost(found, margin).p)


def all_of(effects: Sequence[Effect]) -> Finding:
    """Return what all effects together say: one that fails refutes, so Holm counts for that.

    That all hold is an intersection-union test, as sure as the least sure of them. Berger, 1982,
    doi:10.1080/00401706.1982.10487790.
    """
    p_for = max(each.p_for for each in effects)
    against = holm([each.p_against for each in effects])
    shown = max(effects, key=lambda each: (each.p_for, -each.p_against))
    refuting = min(effects, key=lambda each: each.p_against)
    return Finding(shown, refuting, tuple(effects), p_for, min(against))


def any_of(effects: Sequence[Effect]) -> Finding:
    """Return what the best of the effects says: Holm counts for the choice, so none is biased."""
    p_for = min(holm([each.p_for for each in effects]))
    shown = min(effects, key=lambda each: (each.p_for, -each.p_against))
    return Finding(shown, shown, tuple(effects), p_for, max(each.p_against for each in effects))


def labelled(finding: Finding, name: str) -> Finding:
    """Return a finding whose effects say of which test they are."""
    effects = tuple(
        replace(each, label=", ".join(filter(None, [name, each.label]))) for each in finding.effects
    )
    shown, refuting = (
        effects[finding.effects.index(each)] for each in (finding.shown, finding.refuting)
    )
    return replace(finding, shown=shown, refuting=refuting, effects=effects)


def together(findings: Sequence[Finding]) -> Finding:
    """Return what all tests of a claim come to; all must hold."""
    if len(findings) == 1:
        return findings[0]
    against = holm([each.p_against for each in findings])
    weakest = max(findings, key=lambda each: (each.p_for, -each.p_against))
    effects = tuple(effect for each in findings for effect in each.effects)
    return Finding(
        weakest.shown,
        min(findings, key=lambda each: each.p_against).refuting,
        effects,
        weakest.p_for,
        min(against),
        all(each.certain for each in findings),
    )


def _no_trend_from(x: Sequence[float], y: Sequence[float]) -> str:
    """Say why there is no rho of these points; "" where there is one."""
    if len(x) < 4:
        return f"a trend needs four networks, there are {len(x)}"
    if len({float(f"{value:.{DIGITS}g}") for value in y}) == 1:
        return "all networks have the same value"
    return ""


def _compared(
    first: Sequence[float], second: Sequence[float], paired: bool
) -> tuple[Effect, Difference | None]:
    """Return the effect without p-values, and the difference if seeds give it an interval."""
    value = sum(first) / len(first) - sum(second) / len(second)
    few = min(len(first), len(second))
    networks = few if paired else len(first) + len(second)
    effect = Effect("", PLAIN, value, networks=networks, seeds=few, reason=ONE)
    if few < 2:
        return effect, None
    found = seed_difference(first, second, paired=paired)
    if found.error <= ROUNDING:
        return replace(effect, reason=ALIKE), None
    return replace(effect, low=found.low, high=found.high, reason=""), found


def _p_of(
    first: Sequence[float], second: Sequence[float], difference: float, paired: bool
) -> float:
    """Return the two-sided p of this difference."""
    moved = [value - difference for value in first]
    return seed_difference(moved, second, paired=paired).p
