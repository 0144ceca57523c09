"""The spread between seeds, pooled over groups of networks, and contrasts of group means."""

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

PRIOR = 4.0  # the most degrees of freedom that the pooled variance adds
OUTLYING = 0.1  # p-value of a variance below which it is not pooled


@dataclass(frozen=True)
class Mean:
    """The mean of a group of networks.

    Attributes:
        variance: the moderated variance of one network; NaN if every group has only one network.
        freedom: its degrees of freedom.
        count: the number of networks.
    """

    value: float
    variance: float
    freedom: float
    count: int


def means_of(groups: Mapping[Key, Sequence[float]]) -> dict[Key, Mean]:
    """Return the groups' means, with variances shrunk towards their common value.

    Three networks estimate their spread badly, so that of other alphas is used too. A variance far
    above the common value is kept: networks that hardly learn do vary more.

    Phipson et al., 2016, doi:10.1214/16-AOAS920, on outlying variances.
    """
    values = {key: finite("values of a group", group, 1) for key, group in groups.items()}
    variances = {key: _variance(group) for key, group in values.items()}
    found = {}
    for key, group in values.items():
        others = [each for other, each in variances.items() if other != key]
        found[key] = Mean(float(group.mean()), *_lent(variances[key], others), len(group))
    return found


def _variance(values: Vector) -> Variance:
    several = len(values) > 1
    return (float(values.var(ddof=1)) if several else math.nan, len(values) - 1.0)


def contrast(
    means: Mapping[Key, Mean], weights: Mapping[Key, float], wobble: float = 0.0
) -> Difference:
    """Estimate the weighted sum of groups' means, for other networks.

    Args:
        means: from `means_of`.
        weights: by group; 0 for others.
        wobble: how far each mean may deviate from the line that the contrast tests, in median
            standard deviations of one network.

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
    """Return an estimate with its 95 % interval and the p-value of 0; NaN if the error is NaN."""
    half = float(stdtrit(freedom, 0.975)) * error
    found = Difference(value, value - half, value + half, 0.95, networks, None, error, freedom, 1.0)
    return replace(found, p=p_of(found, 0.0))


def p_of(found: Difference, value: float) -> float:
    """Return the two-sided p-value of a true difference of `value`."""
    if found.error == 0:
        return float(found.value == value)
    return float(2 * stdtr(found.freedom, -abs(found.value - value) / found.error))


def moderated(variances: Vector, freedom: float, prior: float = PRIOR) -> tuple[Vector, float]:
    """Shrink variances of conditions towards their common value; also return degrees of freedom.

    With three networks, the variance of one condition is so uncertain that no drop could be
    significant after correction. The common value adds at most `prior` degrees of freedom.

    Smyth, 2004, doi:10.2202/1544-6115.1027.
    """
    positive = variances[variances > 0]
    if len(positive) < 3:
        return variances, freedom
    lent, common = _common(positive, np.full(len(positive), float(freedom)))
    lent = min(lent, prior)
    return (lent * common + freedom * variances) / (lent + freedom), lent + freedom


def _lent(estimate: Variance, others: Sequence[Variance]) -> Variance:
    """Shrink a group's variance towards that of the others, unless it is far larger."""
    variance, freedom = estimate
    known = [(v, d) for v, d in others if d > 0 and v > 0]
    if len(known) < 3:
        return estimate
    common_freedom, common = _common(*np.array(known).T)
    if freedom and fdtrc(freedom, common_freedom, variance / common) < OUTLYING:
        return estimate
    lent = min(common_freedom, PRIOR)
    held = freedom * variance if freedom else 0.0
    return (lent * common + held) / (lent + freedom), lent + freedom


def _common(variances: Vector, freedom: Vector) -> tuple[float, float]:
    """Return the degrees of freedom of the prior on variances, and its scale."""
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    lent = _prior(float(logs.var(ddof=1) - zeta(2, freedom / 2).mean()))
    return lent, math.exp(logs.mean() + float(digamma(lent / 2)) - math.log(lent / 2))


def _prior(excess: float) -> float:
    """Solve trigamma(freedom / 2) = `excess` for the prior's degrees of freedom, by Newton."""
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
