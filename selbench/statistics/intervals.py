"""Statistics of measurements.

Networks (seeds) and examples are both drawn from what a claim is about, so an interval holds for
further networks on further examples only if it counts both. Three to five seeds are too few to
resample: the percentile bootstrap over seeds covers 44 to 78 % instead of 95 %, and 87 to 97 % over
seeds and examples. Student's t with variance components stands here instead; it needs no random
numbers, and tests/statistics/test_stats_coverage.py simulates what it covers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float64, Shaped

Outcomes = Shaped[np.ndarray, "_seeds _examples ..."]  # bool or numbers; further axes: conditions
Correct = Shaped[np.ndarray, " _examples"]  # bool, of one network
Table = Float64[np.ndarray, "_seeds _examples"]  # outcomes averaged over conditions
Vector = Float64[np.ndarray, " _"]
Variance = tuple[float, float]  # of a mean, with its degrees of freedom
Spread = tuple[float, float]  # standard error, with its degrees of freedom
Sizes = tuple[int | None, int | None]  # networks and examples of an `Interval`


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        level: how often such intervals hold the truth, such as 0.95.
        networks: how many networks (seeds, of each subject) it generalises from; None where it is
            of these networks alone, as with one seed.
        examples: how many examples it generalises from; None where it is of these examples alone.
    """

    value: float
    low: float
    high: float
    level: float
    networks: int | None
    examples: int | None


@dataclass(frozen=True)
class Difference(Interval):
    """The first subject's mean minus the second's; p is two-sided, of no difference."""

    error: float  # standard error
    freedom: float  # its degrees of freedom
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Whether a difference's interval of level 1 - 2 alpha is inside the margin; p else."""

    equivalent: bool
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """How many examples only the first or only the second network has right; p of no difference."""

    first: int
    second: int
    discordant: int
    p: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half width of Student's t interval for it.

    Missing values (NaN) are left out. The half width is NaN for fewer than two values: a lone
    value tells nothing of the spread between seeds.
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
    """Return where a further value lies with this probability, if values are normal.

    Student's t interval, wider than that of the mean by the spread of the further value itself;
    NaN for fewer than two values. Missing values (NaN) are left out.
    """
    mean, half = mean_interval(values, level)
    reach = half * math.sqrt(np.count_nonzero(~np.isnan(values)) + 1)
    return mean - reach, mean + reach


def crossed_interval(values: Outcomes, *, level: float = 0.95, bounded: bool = True) -> Interval:
    """Estimate the mean over networks and examples, both drawn at random and crossed.

    Conditions are averaged and stay as they are. The variance is of an analysis of variance,
    networks x examples, with Satterthwaite's degrees of freedom, as where readers judge cases. That
    alone covers 92 % where three networks' spread outweighs the examples', so the interval is never
    narrower than Student's t on the networks' means. With one network it is of that one alone.

    Args:
        values: seeds x examples (x conditions), bool or numbers.
        level: of confidence.
        bounded: values lie in [0, 1], as correctness does. Two examples that all networks have
            right and two that all have wrong then count into the interval (not into its `value`),
            so that 200 errors of 200 do not promise 0.

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
    """Estimate by how much two subjects differ on the same examples, under the same conditions.

    As `crossed_interval`, of each example's difference; where either subject has one seed, it is of
    these networks alone.

    Args:
        first: seeds x examples (x conditions), bool or numbers.
        second: the same, of any number of seeds.
        pair_seeds: take the n-th networks of both as a pair. Networks that share a seed are hardly
            alike once trained differently, and pairing halves the degrees of freedom; unpaired,
            Welch's variances err on the safe side where pairs are alike.
        level: of confidence.
        bounded: values lie in [0, 1]. One more example in favour of each subject, as far as any is,
            then counts into interval and p, so that none discordant does not promise none.

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
    """Estimate by how much the means of two subjects differ, from one value per seed.

    Welch's t, or Student's t of the differences where `paired`; see `paired_difference` for why
    that is not the default. Where values do not vary at all, the interval has no width. Fewer than
    two seeds, NaN, or unequal numbers in pairs are a ValueError.

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

    No difference found is not no difference; this shows one to be small.

    Args:
        difference: of `paired_difference` or `seed_difference`.
        margin: the smallest difference that matters, above 0, in units of the difference.
        alpha: how often a difference of the margin may pass for none; below 0.5.

    Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    if not (0 < margin < math.inf and 0 < alpha < 0.5):
        raise ValueError(f"margin is above 0 and alpha in (0, 0.5), got {margin} and {alpha}")
    middle = (difference.low + difference.high) / 2  # `value` is off it, where bounded
    spread = difference.error, difference.freedom
    p = _tail(margin - abs(middle), spread)
    low, high = _reach(middle, spread, 1 - 2 * alpha)
    return Equivalence(p <= alpha, p, low, high)


def mcnemar(first: Correct, second: Correct, *, mid: bool = True) -> McNemar:
    """Test whether two networks are right equally often on the same examples.

    Only examples that one has right and the other wrong tell. The exact p-value errs on the safe
    side; mid-p is nearer to what it says. Other shapes, no examples, or values that are not bool
    are a ValueError.

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
    if mid:  # half of what is as likely as what was seen; once where both tails are that
        p -= (to - below) * (0.5 if b == c else 1)
    return McNemar(b, c, b + c, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of one family: at most alpha of families then have a false one below alpha.

    They keep their order. None, or one outside [0, 1], is a ValueError.

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
    low, high = float(values.min()), float(values.max())  # NaN where any is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("outcomes must be finite, got NaN or infinity")
    if bounded and not 0 <= low <= high <= 1:
        raise ValueError(f"bounded outcomes lie in [0, 1], got {low:g} to {high:g}")
    table: Table = values.mean(axis=tuple(range(2, values.ndim)), dtype=np.float64)
    return table


def finite(noun: str, values: Sequence[float], least: int) -> Vector:
    """Return numbers as a vector; too few, or NaN or infinity among them: ValueError."""
    vector = np.asarray(values, dtype=np.float64)
    if len(vector) < least:
        raise ValueError(f"{noun} must be at least {least}, got {len(vector)}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{noun} must be finite, got NaN or infinity")
    return vector


def check_level(level: float) -> None:
    """Raise ValueError where a level of confidence is none."""
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, got {level}")


def check_pairs(first: int, second: int) -> None:
    """Raise ValueError where numbers of two sides of pairs are not equal."""
    if first != second:
        raise ValueError(f"pairs need equal numbers, got {first} and {second}")


def _padded(table: Table, ends: Sequence[float]) -> Table:
    """Append examples on which all networks have the same outcome."""
    return np.hstack([table, np.tile(np.asarray(ends, dtype=np.float64), (len(table), 1))])


def _several(*tables: Table) -> int | None:
    fewest = min(len(table) for table in tables)
    return fewest if fewest > 1 else None


def _crossed(groups: Sequence[Table], contrast: Vector, level: float) -> Spread:
    """Return the spread of the contrast's mean, where networks and examples are crossed.

    `contrast` holds each example's value: sums and differences of the groups' means over networks.
    """
    examples, freedom = _variance(contrast)
    if any(len(group) == 1 for group in groups):
        return welch([(examples, freedom)])
    networks = [_variance(group.mean(1)) for group in groups]
    # What networks and examples do together is in both variances: count it once.
    shared = sum(_interaction(group) for group in groups)
    both = welch([*networks, (max(examples - shared, 0.0), freedom)])
    return max(welch(networks), both, key=lambda spread: _half(spread, level))


def _variance(values: Vector) -> Variance:
    """Return the variance of the values' mean."""
    return float(values.var(ddof=1)) / len(values), len(values) - 1


def _interaction(table: Table) -> float:
    """Return what networks x examples, beyond the sum of both, adds to the variance of the mean."""
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    seeds, examples = table.shape
    return float(np.square(rest).sum() / ((seeds - 1) * (examples - 1) * table.size))


def welch(variances: Sequence[Variance]) -> Spread:
    """Add variances up, with Satterthwaite's degrees of freedom."""
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
    """Return the probability that chance alone goes this far, or farther, to one side."""
    error, freedom = spread
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(scipy.special.stdtr(freedom, -distance / error))


def _difference(
    value: float, middle: float, spread: Spread, level: float, sizes: Sizes
) -> Difference:
    p = min(2 * _tail(abs(middle), spread), 1.0)
    return Difference(value, *_reach(middle, spread, level), level, *sizes, *spread, p)
