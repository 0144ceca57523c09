"""The spread between seeds, pooled over groups of networks, and contrasts of the groups' means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float64
from scipy.special import digamma, fdtrc, stdtr, stdtrit, zeta

from selbench.statistics.intervals import Difference, Variance, finite, welch

Vector = Float64[np.ndarray, " _"]
Key = TypeVar("Key")

PRIOR = 4.0  # at most so many degrees of freedom are lent
OUTLYING = 0.1  # the share of equal spreads that are as large as one that nothing is lent to


@dataclass(frozen=True)
class Mean:
    """The mean of a group of networks.

    Attributes:
        variance: of one network, moderated; NaN where no group has a second network.
        freedom: its degrees of freedom.
        count: how many networks.
    """

    value: float
    variance: float
    freedom: float
    count: int


def means_of(groups: Mapping[Key, Sequence[float]]) -> dict[Key, Mean]:
    """Return groups' means, with variances that are drawn towards their common size.

    Three networks say little of their spread; those of other alphas say more. A spread that is far
    larger than the common one stays as it is: networks at the edge of learning do scatter more.

    Phipson et al., 2016, doi:10.1214/16-AOAS920, on outlying variances.
    """
    values = {key: finite("values of a group", group, 1) for key, group in groups.items()}
    own = {key: _variance(group) for key, group in values.items()}
    found = {}
    for key, group in values.items():
        others = [each for other, each in own.items() if other != key]
        found[key] = Mean(float(group.mean()), *_lent(own[key], others), len(group))
    return found


def _variance(values: Vector) -> Variance:
    several = len(values) > 1
    return (float(values.var(ddof=1)) if several else math.nan, len(values) - 1.0)


def contrast(
    means: Mapping[Key, Mean], weights: Mapping[Key, float], wobble: float = 0.0
) -> Difference:
    """Estimate the weighted sum of groups' means, over further networks.

    Args:
        means: of `means_of`.
        weights: of groups by their names; those of others are 0.
        wobble: how far each mean may lie off whatever line the contrast is to find, in the median
            standard deviation of one network.

    Welch, 1947, doi:10.1093/biomet/34.1-2.28.
    """
    parts = [(means[key], weight) for key, weight in weights.items()]
    value = float(sum(weight * each.value for each, weight in parts))
    few = min(each.count for each, _ in parts)
    if any(math.isnan(each.variance) for each, _ in parts):
        return estimated(value, math.nan, 1.0, few)
    off = wobble * wobble * float(np.nanmedian([each.variance for each in means.values()]))
    error, freedom = welch([(w * w * (m.variance / m.count + off), m.freedom) for m, w in parts])
    return estimated(value, error, freedom, few)


def estimated(value: float, error: float, freedom: float, networks: int | None) -> Difference:
    """Return an estimate with its 95 % interval and the p-value of 0; NaN without an error."""
    half = float(stdtrit(freedom, 0.975)) * error
    found = Difference(value, value - half, value + half, 0.95, networks, None, error, freedom, 1.0)
    return replace(found, p=p_of(found, 0.0))


def p_of(found: Difference, value: float) -> float:
    """Return the two-sided p-value of a true difference of `value`."""
    if found.error == 0:
        return float(found.value == value)
    return float(2 * stdtr(found.freedom, -abs(found.value - value) / found.error))


def moderated(variances: Vector, freedom: float, prior: float = PRIOR) -> tuple[Vector, float]:
    """Draw variances of many conditions towards their common size; return degrees of freedom too.

    With three networks a condition's own variance says so little that no drop could be
    significant after correction. What is lent is at most `prior` degrees of freedom.

    Smyth, 2004, doi:10.2202/1544-6115.1027.
    """
    positive = variances[variances > 0]
    if len(positive) < 3:
        return variances, freedom
    lent, common = _common(positive, np.full(len(positive), float(freedom)))
    lent = min(lent, prior)
    return (lent * common + freedom * variances) / (lent + freedom), lent + freedom


def _lent(own: Variance, others: Sequence[Variance]) -> Variance:
    """Draw a group's variance towards that of the others, unless it is far larger."""
    variance, freedom = own
    known = [(v, d) for v, d in others if d > 0 and v > 0]
    if len(known) < 3:
        return own
    whole, common = _common(*np.array(known).T)
    if freedom and fdtrc(freedom, whole, variance / common) < OUTLYING:
        return own
    lent = min(whole, PRIOR)
    held = freedom * variance if freedom else 0.0
    return (lent * common + held) / (lent + freedom), lent + freedom


def _common(variances: Vector, freedom: Vector) -> tuple[float, float]:
    """Return the degrees of freedom that equal variances would lend, and their common size."""
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    lent = _prior(float(logs.var(ddof=1) - zeta(2, freedom / 2).mean()))
    return lent, math.exp(logs.mean() + float(digamma(lent / 2)) - math.log(lent / 2))


def _prior(excess: float) -> float:
    """Return the prior's degrees of freedom: trigamma of half of them is `excess`, by Newton."""
    smallest, largest = 1e-2, 1e4
    if excess <= float(zeta(2, largest)):
        return 2 * largest
    if excess >= float(zeta(2, smallest)):
        return 2 * smallest
    half, step = 0.5 + 1 / excess, 1.0
    while abs(step) > 1e-9 * half:
        value = float(zeta(2, half))  # trigamma; its derivative is -2 zeta(3, half)
        step = value * (1 - value / excess) / (-2 * float(zeta(3, half)))
        half += step
    return 2 * half
