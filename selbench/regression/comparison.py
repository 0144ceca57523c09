"""Decide whether a model got worse, from which examples its networks classify correctly.

A model is one network or several with different seeds. A drop counts if it is larger than the
tolerance, and significant both over examples and over seeds. For equal models, the mean over
perturbed conditions has an error rate of `MEAN_SHARE`, all conditions together of
`CONDITION_SHARE`. Their sum is below 5 %, because the spread between seeds is estimated from few
networks; `selbench.regression.simulation` measures the error rates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit, logit, nctdtrinc, stdtr, stdtrit

from selbench.statistics.intervals import Spread, holm, mcnemar, paired_difference
from selbench.statistics.spread import PRIOR, moderated

Correct = Bool[np.ndarray, "_networks _examples"]
# The share of conditions in which an example is right.
Shares = Float64[np.ndarray, "_networks _examples"]
Vector = Float64[np.ndarray, " _"]
Groups = tuple[Vector, Vector]  # one value per network, for the model before and after

TOLERANCE = 0.01
MEAN_SHARE, CONDITION_SHARE = 0.03, 0.01
LEVEL = MEAN_SHARE + CONDITION_SHARE
POWER = 0.9  # share of runs that find the stated detectable drop
NEVER = 0.98  # share of the accuracy; larger drops count as undetectable
# A single network may be an outlier among seeds, which cannot be seen: its p-values are multiplied,
# # and Student's t with few degrees of freedom models the spread of seeds.
LONE, LONE_FREEDOM = 5.0, 2.0
CLEAN = "clean/clean"
SHIFTED = "shifted/"
MEAN = "mean"


@dataclass(frozen=True)
class Change:
    """The change under one condition; accuracies and differences are fractions of 1.

    Attributes:
        name: the condition, or `MEAN`.
        before, after: accuracy, mean over networks.
        low, high: 95 % interval of after - before, before correction for many conditions.
        worse, better: p-values of no drop and of no gain, corrected; significant up to `LEVEL`.
        verdict: "worse", "better" or "same".
    """

    name: str
    before: float
    after: float
    low: float
    high: float
    worse: float
    better: float
    verdict: str

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with its baseline.

    Attributes:
        changes: the change of the mean over perturbed conditions, if any; then of each condition.
        tolerance: larger drops count.
        networks: the number of networks before and after.
        examples: the number of examples compared.
        conditions: the number of conditions in the mean.
        detectable: the true drop of the mean (or of clean accuracy, without a mean) that this check
            finds in about 90 % of runs; 1 if it finds none.
        limited_by: "seeds" or "examples": more of these would make smaller drops detectable.
    """

    changes: tuple[Change, ...]
    tolerance: float
    networks: tuple[int, int]
    examples: int
    conditions: int
    detectable: float
    limited_by: str

    @property
    def worse(self) -> list[Change]:
        """The changes for the worse; the check fails if there are any."""
        return [change for change in self.changes if change.verdict == "worse"]

    @property
    def better(self) -> list[Change]:
        """The changes for the better."""
        return [change for change in self.changes if change.verdict == "better"]

    @property
    def knows_seeds(self) -> bool:
        """Whether the spread between seeds is known: some model has several networks."""
        return max(self.networks) > 1


@dataclass(frozen=True)
class _Row:
    """A difference with its two-sided 95 % interval, and p-values of no drop and of no gain.

    `spreads` are its standard errors with degrees of freedom: over examples, and, for log odds,
    over networks.
    """

    low: float
    high: float
    drop: float
    gain: float
    spreads: tuple[Spread, ...]


def compare(
    before: Mapping[str, Correct], after: Mapping[str, Correct], tolerance: float = TOLERANCE
) -> Comparison:
    """Compare a model before and after, on the same conditions and examples.

    Args:
        before: networks x examples for every condition, whether the network is right.
        after: the same conditions and examples; any number of networks.
        tolerance: drops up to it are accepted, as a fraction of 1.

    McNemar, 1947, doi:10.1007/BF02295996; Smyth, 2004, doi:10.2202/1544-6115.1027.
    """
    names = list(before)
    perturbed = _perturbed(names)
    rows = _rows([before[name] for name in names], [after[name] for name in names])
    changes = _changes(names, before, after, rows, tolerance, bool(perturbed))
    means, share, row = (before[names[0]], after[names[0]]), LEVEL, rows[0]
    if perturbed:
        means, share = (_mean(before, perturbed), _mean(after, perturbed)), MEAN_SHARE
        (row,) = _rows([means[0]], [means[1]])
        changes = [_mean_change(means[0], means[1], row, tolerance), *changes]
    networks = (len(means[0]), len(means[1]))
    share /= LONE if min(networks) == 1 < max(networks) else 1.0
    examples = before[names[0]].shape[1]
    drops = _detectable(row, share, tolerance, means[0])
    return Comparison(
        changes=tuple(changes),
        tolerance=tolerance,
        networks=networks,
        examples=examples,
        conditions=len(perturbed),
        detectable=max(drops.values()),
        limited_by=max(drops, key=drops.__getitem__),
    )


def _mean(tables: Mapping[str, Correct], names: Sequence[str]) -> Shares:
    shares: Shares = np.mean([tables[name] for name in names], axis=0)
    return shares


def _perturbed(names: Sequence[str]) -> list[str]:
    """Return the conditions of the mean: corruptions, or else all that are not clean.

    Folders of shifted images have other images, so they are not averaged with other conditions.
    """
    others = [name for name in names if name != CLEAN]
    made = [name for name in others if not name.startswith(SHIFTED)]
    return [name for name in made if name.startswith("corruptions")] or made or others[:1]


def _detectable(
    row: _Row, share: float, tolerance: float, before: Correct | Shares
) -> dict[str, float]:
    """Return the true drops that each test finds, above the tolerance, in 90 % of runs.

    A drop adds variance over examples, so drops are not underestimated for equal networks on few
    examples.
    """
    drops = {"examples": _detectable_drop(row.spreads[0], share, tolerance, before.shape[1])}
    for spread in row.spreads[1:]:
        drops["seeds"] = _found_over_seeds(spread, share, tolerance, float(_logits(before).mean()))
    return drops


def _detectable_drop(spread: Spread, share: float, tolerance: float, examples: int) -> float:
    """Return the drop that the test over examples detects."""
    least, power = _reach(spread[1], share)
    drop = 0.0
    for _ in range(40):  # converges: the detectable drop grows with the root of the drop
        error = math.sqrt(spread[0] ** 2 + drop / examples)
        drop = min(max(least * error, tolerance) + power * error, 1.0)
    return drop


def _found_over_seeds(spread: Spread, share: float, tolerance: float, start: float) -> float:
    """Return the drop from log odds `start` that the test over networks detects; 1 for none."""
    (error, freedom), accuracy = spread, float(expit(start))
    least, power = _reach(freedom, share)
    significant = accuracy - float(expit(start - (least + power) * error))
    left = max(accuracy - tolerance, 0.0)
    tolerated = accuracy - float(expit(logit(left) - power * error)) if left else 1.0
    drop = max(significant, tolerated)
    return drop if drop < NEVER * accuracy else 1.0


def _reach(freedom: float, share: float) -> tuple[float, float]:
    """Return how many standard errors are significant, and how many more `POWER` needs.

    The second comes from the noncentral t distribution, since few networks also leave the spread
    uncertain.
    """
    least = float(stdtrit(freedom, 1 - share))
    return least, float(nctdtrinc(freedom, 1 - POWER, least)) - least


def _mean_change(before: Shares, after: Shares, row: _Row, tolerance: float) -> Change:
    """Return the change of the mean over conditions, from each example's share of them."""
    scale = LEVEL / MEAN_SHARE
    worse, better = min(row.drop * scale, 1.0), min(row.gain * scale, 1.0)
    return _change(MEAN, before, after, row, worse, better, tolerance)


def _changes(
    names: Sequence[str],
    before: Mapping[str, Correct],
    after: Mapping[str, Correct],
    rows: Sequence[_Row],
    tolerance: float,
    shared: bool,
) -> list[Change]:
    """Return the changes of conditions; if `shared`, their mean has a part of the level."""
    scale = LEVEL / CONDITION_SHARE if shared else 1.0
    drops, gains = (
        [min(p * scale, 1.0) for p in holm(values)]
        for values in ([row.drop for row in rows], [row.gain for row in rows])
    )
    return [
        _change(name, before[name], after[name], row, drop, gain, tolerance)
        for name, row, drop, gain in zip(names, rows, drops, gains, strict=True)
    ]


def _change(
    name: str,
    before: Correct | Shares,
    after: Correct | Shares,
    row: _Row,
    worse: float,
    better: float,
    tolerance: float,
) -> Change:
    first, then = float(before.mean()), float(after.mean())
    verdict = "same"
    if first - then > tolerance and worse <= LEVEL:
        verdict = "worse"
    elif then - first > tolerance and better <= LEVEL:
        verdict = "better"
    return Change(name, first, then, row.low, row.high, worse, better, verdict)


def _rows(before: Sequence[Correct | Shares], after: Sequence[Correct | Shares]) -> list[_Row]:
    """Test every condition over examples and over networks; use the weaker evidence."""
    over_examples = [_over_examples(*pair) for pair in zip(before, after, strict=True)]
    if len(before[0]) + len(after[0]) == 2:
        return over_examples
    over_networks = _over_networks(before, after)
    return [
        _Row(
            min(one.low, two.low),
            max(one.high, two.high),
            max(one.drop, two.drop),
            max(one.gain, two.gain),
            one.spreads + two.spreads,
        )
        for one, two in zip(over_examples, over_networks, strict=True)
    ]


def _over_examples(before: Correct | Shares, after: Correct | Shares) -> _Row:
    """Test whether the change holds for other examples: McNemar's mid-p, or a paired t test."""
    old, new = (table.mean(0, keepdims=True) for table in (before, after))
    found = paired_difference(new, old)
    p = found.p
    if len(before) == len(after) == 1 and before.dtype == np.bool_:
        p = mcnemar(after[0], before[0], mid=True).p
    gain = p / 2 if new.mean() > old.mean() else 1 - p / 2
    drop = p / 2 if new.mean() < old.mean() else 1 - p / 2
    return _Row(found.low, found.high, drop, gain, ((found.error, found.freedom),))


def _over_networks(
    before: Sequence[Correct | Shares], after: Sequence[Correct | Shares]
) -> list[_Row]:
    """Test whether the change holds for other networks: Student's t with moderated variances.

    Intervals are for accuracies, p-values for their logits: near 100 %, accuracies of seeds are
    skewed downwards.
    """
    pairs = [*zip(before, after, strict=True)]
    plain = [(old.mean(1), new.mean(1)) for old, new in pairs]
    logits = [(_logits(old), _logits(new)) for old, new in pairs]
    lone = min(map(len, plain[0])) == 1
    # Few conditions are weak evidence.
    prior = min(PRIOR, max(len(pairs) - 2, 0) / 2) if lone else PRIOR
    spreads = (_spreads(plain, prior), _spreads(logits, prior), _spreads(logits, 0.0))
    return [_over_seeds(*row, lone) for row in zip(plain, logits, *spreads, strict=True)]


def _over_seeds(
    plain: Groups, logits: Groups, spread: Spread, scale: Spread, unpooled: Spread, lone: bool
) -> _Row:
    difference, gain = (float(new.mean() - old.mean()) for old, new in (plain, logits))
    half = float(stdtrit(spread[1], 0.975)) * spread[0]
    drop, rise = (_tail(x, scale) for x in (-gain, gain))
    if lone:
        drop, rise = (_lone(x, scale, unpooled) for x in (-gain, gain))
        scale = (unpooled[0], min(unpooled[1], LONE_FREEDOM))
    return _Row(difference - half, difference + half, drop, rise, (scale,))


def _lone(difference: float, scale: Spread, unpooled: Spread) -> float:
    """Return the p-value of a single network: its condition's own if large, else pooled."""
    alone = LONE * _tail(difference, (unpooled[0], min(unpooled[1], LONE_FREEDOM)))
    p = LONE * _tail(difference, scale)
    return min(max(p, alone) if alone > MEAN_SHARE else p, 1.0)


def _logits(table: Correct | Shares) -> Vector:
    """Return the log odds of each network's accuracy."""
    right = table.sum(1)
    odds: Vector = np.log((right + 0.5) / (table.shape[1] - right + 0.5))
    return odds


def _spreads(groups: Sequence[Groups], prior: float) -> list[Spread]:
    """Return the standard errors of differences between means, with degrees of freedom."""
    sizes = [len(each) for each in groups[0]]
    variances = np.array([_pooled(*pair) for pair in groups])
    variances, freedom = moderated(variances, sum(sizes) - 2, prior)
    errors = np.sqrt(variances * sum(1 / size for size in sizes))
    return [(error, freedom) for error in errors.tolist()]


def _pooled(before: Vector, after: Vector) -> float:
    """Return the pooled variance of networks within each model."""
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in (before, after))
    return squares / (len(before) + len(after) - 2)


def _tail(difference: float, spread: Spread) -> float:
    """Return the one-sided p-value of a difference."""
    error, freedom = spread
    if error == 0:
        return 0.0 if difference > 0 else 1.0
    return float(stdtr(freedom, -difference / error))
