"""Confidence intervals and tests of measurements.

Networks (seeds) and examples are both samples: an interval holds for other networks on other
examples only if it includes the variance of both. Three to five seeds are too few for the
bootstrap: percentile intervals over seeds cover 44 to 78 % instead of 95 %, over seeds and examples
87 to 97 %. Therefore intervals use Student's t with variance components, which also needs no random
numbers; tests/statistics/test_stats_coverage.py simulates their coverage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float64, Shaped

Outcomes = Shaped[np.ndarray, "_seeds _examples ..."]  # bool or numbers; further axes: conditions
Correct = Shaped[np.ndarray, " _examples"]  # whether one network is right, bool
Table = Float64[np.ndarray, "_seeds _examples"]  # outcomes averaged over conditions
Vector = Float64[np.ndarray, " _"]
Variance = tuple[float, float]  # of a mean, with its degrees of freedom
Spread = tuple[float, float]  # standard error, with its degrees of freedom
Sizes = tuple[int | None, int | None]  # networks and examples of an `Interval`


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        level: the confidence level, such as 0.95.
        networks: the number of networks (seeds per subject) that it generalises from; None if it
            only holds for these networks, as with one seed.
        examples: the number of examples that it generalises from; None if it only holds for these.
    """

    value: float
    low: float
    high: float
    level: float
    networks: int | None
    examples: int | None


@dataclass(frozen=True)
class Difference(Interval):
    """The first subject's mean minus the second's, with the two-sided p-value of no difference."""

    error: float  # standard error
    freedom: float  # its degrees of freedom
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Whether the interval of level 1 - 2 alpha is within the margin, with the p-value."""

    equivalent: bool
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Numbers of examples that only the first or only the second has right, with the p-value."""

    first: int
    second: int
    discordant: int
    p: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half width of its Student's t interval.

    Missing values (NaN) are left out. The half width is NaN for fewer than two values: a single
    value has no spread between seeds.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if len(kept) == 0:
        return math.nan, math.nan
    if len(kept) == 1:
        return float(kept[0]), math.nan
    quantile = scipy.special.stdtrit(len(kept) - 1, (1 + level) / 2)  # of Student's t
    return float(kept.mean()), float(quantile * kept.std(ddof=1) / math.sqrt(len(kept)))


def prediction_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the interval that holds a new value with this probability, for normal values.

    Student's t interval, which is wider than that of the mean, since it includes the spread of one
    value; NaN for fewer than two values. Missing values (NaN) are left out.
    """
    mean, half = mean_interval(values, level)
    reach = half * math.sqrt(np.count_nonzero(~np.isnan(values)) + 1)
    return mean - reach, mean + reach


def crossed_interval(values: Outcomes, *, level: float = 0.95, bounded: bool = True) -> Interval:
    """Estimate the mean over networks and examples, which are crossed random effects.

    Conditions are averaged, as fixed effects. The variance comes from an analysis of variance,
    networks x examples, with Satterthwaite's degrees of freedom, as for readers who judge cases.
    Because it covers only 92 % if the spread of three networks dominates, the interval is never
    narrower than Student's t on the networks' means. With one network it holds for this one only.

    Args:
        values: seeds x examples (x conditions), bool or numbers.
        level: the confidence level.
        bounded: values are in [0, 1], like correctness. The interval (not its `value`) then adds
            two examples that all networks have right and two that all have wrong, so that it has a
            width even for 200 errors of 200.

    Raises:
        ValueError: for other shapes, NaN, or values outside [0, 1].

    Hillis, 2007, doi:10.1002/sim.2532; Agresti & Coull, 1998, doi:10.1080/00031305.1998.10480550.
    """
    check_level(level)
    table = _table(values, bounded)
    padded = _padded(table, (0, 0, 1, 1)) if bounded else table
    low, high = _reach(float(padded.mean()), _crossed([padded], padded.mean(0), level), level)
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(float(table.mean()), low, high, level, _several(table), table.shape[1])


def paired_difference(
    first: Outcomes,
    second: Outcomes,
    *,
    pair_seeds: bool = False,
    level: float = 0.95,
    bounded: bool = True,
) -> Difference:
    """Estimate the difference of two subjects on the same examples and conditions.

    As `crossed_interval`, for the difference of each example; if either subject has one seed, it
    only holds for these networks.

    Args:
        first: seeds x examples (x conditions), bool or numbers.
        second: the same, with any number of seeds.
        pair_seeds: whether the n-th networks of both are pairs. Networks of one seed are hardly
            similar after different training, and pairing halves the degrees of freedom; if pairs
            are similar, the unpaired variances of Welch are conservative.
        level: the confidence level.
        bounded: values are in [0, 1]. Interval and p-value then add one example in favour of each
            subject, as large as the largest, so that there is a width without discordant examples.

    Raises:
        ValueError: as `crossed_interval`; for other examples; for unequal seeds in pairs.

    Hillis, 2007, doi:10.1002/sim.2532; Bonett & Price, 2012, doi:10.3102/1076998611411915.
    """
    check_level(level)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"pairs need the same examples, got {first.shape} and {second.shape}")
    one, other = _table(first, bounded), _table(second, bounded)
    if pair_seeds:
        check_pairs(len(one), len(other))
    value, sizes = float(one.mean() - other.mean()), (_several(one, other), first.shape[1])
    if bounded:
        apart = float(abs(one.mean(0) - other.mean(0)).max()) or 1.0
        one, other = _padded(one, (0, apart)), _padded(other, (apart, 0))
    contrast = one.mean(0) - other.mean(0)
    spread = _crossed([one - other] if pair_seeds else [one, other], contrast, level)
    return _difference(value, float(contrast.mean()), spread, level, sizes)


def seed_difference(
    first: Sequence[float], second: Sequence[float], *, paired: bool = False, level: float = 0.95
) -> Difference:
    """Estimate the difference of the means of two subjects, from one value per seed.

    Welch's t, or, if `paired`, Student's t of the differences; `paired_difference` says why that is
    not the default. If values do not vary, the interval has no width. Raises ValueError for fewer
    than two seeds, NaN, or unequal numbers in pairs.

    Welch, 1947, doi:10.1093/biomet/34.1-2.28.
    """
    check_level(level)
    one, other = finite("values of the first", first, 2), finite("of the second", second, 2)
    if paired:
        check_pairs(len(one), len(other))
    groups = [one - other] if paired else [one, other]
    value, sizes = float(one.mean() - other.mean()), (min(len(one), len(other)), None)
    return _difference(value, value, welch([_variance(each) for each in groups]), level, sizes)


def tost(difference: Difference, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Test whether two subjects differ by less than `margin`: two one-sided t tests.

    A difference that is not significant may still be large; this shows that it is small.

    Args:
        difference: from `paired_difference` or `seed_difference`.
        margin: the smallest difference that matters, above 0, in units of the difference.
        alpha: the error rate for a true difference of the margin, below 0.5.

    Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    if not (0 < margin < math.inf and 0 < alpha < 0.5):
        raise ValueError(f"margin is above 0 and alpha in (0, 0.5), got {margin} and {alpha}")
    middle = (difference.low + difference.high) / 2  # differs from `value` if bounded
    spread = difference.error, difference.freedom
    p = _tail(margin - abs(middle), spread)
    low, high = _reach(middle, spread, 1 - 2 * alpha)
    return Equivalence(p <= alpha, p, low, high)


def mcnemar(first: Correct, second: Correct, *, mid: bool = True) -> McNemar:
    """Test whether two networks are right equally often on the same examples.

    Only examples that one network has right and the other wrong count. The exact p-value is
    conservative; mid-p is closer to its nominal level. Raises ValueError for other shapes, no
    examples, or values that are not bool.

    Fagerland, Lydersen & Laake, 2013, doi:10.1186/1471-2288-13-91.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"one outcome per example, got shapes {first.shape} and {second.shape}")
    if first.dtype != np.bool_ or second.dtype != np.bool_:
        raise ValueError(f"outcomes are bool, got {first.dtype} and {second.dtype}")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    if b + c == 0:
        return McNemar(0, 0, 0, 1.0)
    fewer = min(b, c)
    below, to = (
        scipy.special.bdtr(fewer - 1, b + c, 0.5) if fewer else 0.0,
        scipy.special.bdtr(fewer, b + c, 0.5),
    )
    p = min(2 * to, 1.0)
    if mid:  # half of the observed outcome's probability; subtracted once if both tails include it
        p -= (to - below) * (0.5 if b == c else 1)
    return McNemar(b, c, b + c, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family, to bound the chance of any false one below alpha by alpha.

    They keep their order. Raises ValueError for no values, or values outside [0, 1].

    Holm, 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    p = finite("p-values", p_values, 1)
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values lie in [0, 1], got {p.min():g} to {p.max():g}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return [float(each) for each in adjusted.clip(max=1)]


def _table(values: Outcomes, bounded: bool) -> Table:
    """Check outcomes, and average them over conditions."""
    if values.ndim < 2 or values.size == 0 or values.shape[1] < 2:
        rule = "outcomes are seeds x examples (x conditions) of two examples or more"
        raise ValueError(f"{rule}, got shape {values.shape}")
    low, high = float(values.min()), float(values.max())  # NaN if any value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("outcomes must be finite, got NaN or infinity")
    if bounded and not 0 <= low <= high <= 1:
        raise ValueError(f"bounded outcomes lie in [0, 1], got {low:g} to {high:g}")
    table: Table = values.mean(axis=tuple(range(2, values.ndim)), dtype=np.float64)
    return table


def finite(noun: str, values: Sequence[float], least: int) -> Vector:
    """Return numbers as a vector; raise ValueError for too few, NaN or infinity."""
    vector = np.asarray(values, dtype=np.float64)
    if len(vector) < least:
        raise ValueError(f"{noun} must be at least {least}, got {len(vector)}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{noun} must be finite, got NaN or infinity")
    return vector


def check_level(level: float) -> None:
    """Raise ValueError unless a confidence level is between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, got {level}")


def check_pairs(first: int, second: int) -> None:
    """Raise ValueError if the two sides of pairs have unequal numbers."""
    if first != second:
        raise ValueError(f"pairs need equal numbers, got {first} and {second}")


def _padded(table: Table, ends: Sequence[float]) -> Table:
    """Append examples on which all networks have the same outcome."""
    return np.hstack([table, np.tile(np.asarray(ends, dtype=np.float64), (len(table), 1))])


def _several(*tables: Table) -> int | None:
    fewest = min(len(table) for table in tables)
    return fewest if fewest > 1 else None


def _crossed(groups: Sequence[Table], contrast: Vector, level: float) -> Spread:
    """Return the spread of the contrast's mean for crossed networks and examples.

    `contrast` has a value for each example: a sum or difference of the groups' means over networks.
    """
    examples, freedom = _variance(contrast)
    if any(len(group) == 1 for group in groups):
        return welch([(examples, freedom)])
    networks = [_variance(group.mean(1)) for group in groups]
    # Both variances include the interaction of networks and examples: count it once.
    shared = sum(_interaction(group) for group in groups)
    both = welch([*networks, (max(examples - shared, 0.0), freedom)])
    return max(welch(networks), both, key=lambda spread: _half(spread, level))


def _variance(values: Vector) -> Variance:
    """Return the variance of the values' mean."""
    return float(values.var(ddof=1)) / len(values), len(values) - 1


def _interaction(table: Table) -> float:
    """Return the part of the mean's variance from the interaction of networks and examples."""
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    seeds, examples = table.shape
    return float(np.square(rest).sum() / ((seeds - 1) * (examples - 1) * table.size))


def welch(variances: Sequence[Variance]) -> Spread:
    """Add variances, with Satterthwaite's degrees of freedom."""
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return 0.0, float(sum(freedom for _, freedom in variances))
    return math.sqrt(total), 1 / sum((part / total) ** 2 / freedom for part, freedom in variances)


def _half(spread: Spread, level: float) -> float:
    error, freedom = spread
    return float(scipy.special.stdtrit(freedom, (1 + level) / 2)) * error


def _reach(middle: float, spread: Spread, level: float) -> tuple[float, float]:
    half = _half(spread, level)
    return middle - half, middle + half


def _tail(distance: float, spread: Spread) -> float:
    """Return the one-sided p-value of a distance."""
    error, freedom = spread
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(scipy.special.stdtr(freedom, -distance / error))


def _difference(
    value: float, middle: float, spread: Spread, level: float, sizes: Sizes
) -> Difference:
    p = min(2 * _tail(abs(middle), spread), 1.0)
    return Difference(value, *_reach(middle, spread, level), level, *sizes, *spread, p)
