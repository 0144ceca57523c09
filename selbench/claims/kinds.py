"""The kinds of test: each a function of a store's rows, of what networks came to."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pandas as pd

from selbench.claims.claim import (
    SIGNS,
    Against,
    Choice,
    Difference,
    Equivalence,
    Matched,
    Method,
    NoTrend,
    Reading,
    Test,
    Trend,
    Within,
)
from selbench.claims.effects import (
    PLAIN,
    POINTS,
    ROUNDING,
    Effect,
    Finding,
    all_of,
    any_of,
    difference_effect,
    equivalence_effect,
    no_trend_effect,
    trend_effect,
)
from selbench.claims.flags import flags
from selbench.claims.reading import (
    UntestedError,
    alphas_of,
    at,
    by_condition,
    merged,
    needed,
    read,
    written,
)
from selbench.stats import holm

REFERENCE = 0.0
SIZED = Difference | Within | Method | Matched  # tests of a size in the reading's unit
MATCHING = (-2.0, -1.0, -0.4, 0.1, 0.2, 0.4)  # alphas of which two may change it equally
SMALLEST_CHANGE = 0.1  # of the logarithm of what `matched` matches: less is no change


def found(rows: pd.DataFrame, test: Test, sizes: bool) -> Finding:
    """Make a test.

    Args:
        rows: of one study's networks, as `selbench.leaderboard.current_rows` returns them.
        test: what to test.
        sizes: whether the sizes of differences count, or their directions alone; a size that the
            claim's sentence means counts all the same.

    Raises:
        UntestedError: where the rows lack what the test reads.
    """
    meant = isinstance(test, Difference) and test.meant
    if isinstance(test, SIZED) and not (sizes or meant):
        test = test.model_copy(update={"at_least": 0.0})
    return _KINDS[test.kind](of(test, rows), test)


def of(test: Test, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that a test is about: of networks that have an alpha, mostly."""
    kept: pd.DataFrame = rows if isinstance(test, Method) else rows[rows["alpha"].notna()]
    return kept


def _trend(rows: pd.DataFrame, test: Trend) -> Finding:
    if not test.each:
        effects = [_one_trend(_within(rows, read(rows, test.reading), test), test, "")]
    else:
        conditions = by_condition(rows, test.reading)
        effects = [
            _one_trend(_within(rows, values, test), test, str(name))
            for name, values in conditions.iterrows()
        ]
    return all_of(effects)


def _one_trend(table: pd.DataFrame, test: Trend, label: str) -> Effect:
    sign = SIGNS[test.direction]
    effect = trend_effect(list(table["alpha"]), list(table["value"]), sign, test.at_least)
    if test.strict:
        effect = _strict(effect, table, sign)
    return _described(effect, table, test, label)


def _strict(effect: Effect, table: pd.DataFrame, sign: int) -> Effect:
    """Ask that the means rise or fall at every step: a step back leaves it open, a sure one not."""
    groups = _groups(table)
    steps = list(pairwise(groups))
    means = {alpha: _mean(group) for alpha, group in groups.items()}
    back = [
        (low, high)
        for low, high in steps
        if sign * (means[high] - means[low]) <= ROUNDING * abs(means[low])
    ]
    if not back:
        return effect
    against = [
        difference_effect(groups[high], groups[low], sign, 0.0).p_against for low, high in steps
    ]
    low, high = back[0]
    return replace(
        effect,
        p_for=1.0,
        p_against=min(holm([effect.p_against, *against])),
        reason=f"not at every step: not from {at(low)} to {at(high)}",
    )


def _no_trend(rows: pd.DataFrame, test: NoTrend) -> Finding:
    table = _within(rows, read(rows, test.reading), test)
    x, y = list(table["alpha"]), list(table["value"])
    effect = no_trend_effect(x, y, SIGNS[test.direction], test.margin)
    return all_of([_described(effect, table, test, "")])


def _difference(rows: pd.DataFrame, test: Difference) -> Finding:
    groups, alphas = _compared_alphas(rows, test)
    if alphas == [REFERENCE]:
        return all_of([_nothing_chosen(test.reading)])
    effects = [
        _in_unit(
            difference_effect(
                groups[alpha], groups[REFERENCE], SIGNS[test.direction], test.at_least
            ),
            test.reading,
            at(alpha),
            f"{_text(groups[alpha], test.reading)} at {at(alpha)}, "
            f"{_text(groups[REFERENCE], test.reading)} at {at(REFERENCE)}",
        )
        for alpha in alphas
    ]
    return all_of(effects) if test.quantifier == "all" else any_of(effects)


def _equivalence(rows: pd.DataFrame, test: Equivalence) -> Finding:
    groups, alphas = _compared_alphas(rows, test)
    if alphas == [REFERENCE]:
        return all_of([_nothing_chosen(test.reading)])
    effects = [
        _in_unit(
            equivalence_effect(groups[alpha], groups[REFERENCE], test.margin, test.losses_only),
            test.reading,
            at(alpha),
            f"{_text(groups[alpha], test.reading)} at {at(alpha)}, "
            f"{_text(groups[REFERENCE], test.reading)} at {at(REFERENCE)}",
        )
        for alpha in alphas
    ]
    return all_of(effects)


def _within_networks(rows: pd.DataFrame, test: Within) -> Finding:
    first, second = read(rows, test.reading), read(rows, test.less)
    alphas = alphas_of(rows)
    both = pd.DataFrame({"first": first, "second": second, "alpha": alphas}).dropna()
    both = both[both["alpha"].between(*test.between)]
    if both.empty:
        raise _no_alphas(test.reading, test.between, 1)
    one, other = list(both["first"]), list(both["second"])
    effect = difference_effect(one, other, SIGNS[test.direction], test.at_least, paired=True)
    effect = replace(effect, seeds=int(both["alpha"].value_counts().min()))
    apart = _groups(both.assign(value=both["first"] - both["second"]))
    ends = sorted((_mean(group), alpha) for alpha, group in apart.items())
    (least, low), (most, high) = ends[0], ends[-1]
    detail = (
        f"{_text(one, test.reading)} against {_text(other, test.less)}, by alpha from "
        f"{least:+.3g} at {low:g} to {most:+.3g} at {high:g}"
    )
    return all_of([_in_unit(effect, test.reading, "", detail)])


def _method(rows: pd.DataFrame, test: Method) -> Finding:
    subjects = rows.loc[rows["alpha"].isna(), "subject"].unique()
    named = [name for name in subjects if _words(test.method) in _words(Path(name).name)]
    need = replace(needed(test.reading), words=("--checkpoint", f"{test.method}.pth"))
    if not named:
        raise UntestedError(f"no network's file has {test.method} in its name", need)
    kept = rows[rows["alpha"].notna() | rows["subject"].isin(named)]
    values, alphas = read(kept, test.reading), alphas_of(kept)
    first = list(values[[name for name in named if name in values.index]])
    second = list(values[alphas[values.index] == REFERENCE])
    if not first:
        raise UntestedError(f"{test.reading.suite} was not measured of {named[0]}", need)
    if not second:
        raise _no_alphas(test.reading, (REFERENCE, REFERENCE), 1)
    effect = difference_effect(first, second, SIGNS[test.direction], test.at_least)
    detail = (
        f"{_text(first, test.reading)} with {test.method}, "
        f"{_text(second, test.reading)} at {at(REFERENCE)}"
    )
    return all_of([_in_unit(effect, test.reading, test.method, detail)])


def _words(name: str) -> str:
    """Return a name's words, each between spaces, so that "pgd" is not in "apgd"."""
    return f" {' '.join(re.findall('[a-z0-9]+', name.casefold()))} "


def _matched(rows: pd.DataFrame, test: Matched) -> Finding:
    low, high = _matched_alphas(rows, test)
    groups = _alpha_groups(rows, test.reading)
    if not {low, high} <= set(groups):
        raise UntestedError(
            f"{test.reading.suite} was not measured at {at(low)} and {high:g}",
            needed(test.reading, (low, high)),
        )
    effect = difference_effect(groups[high], groups[low], SIGNS[test.direction], test.at_least)
    detail = (
        f"{_text(groups[high], test.reading)} at {at(high)}, "
        f"{_text(groups[low], test.reading)} at {at(low)}"
    )
    return all_of([_in_unit(effect, test.reading, f"{at(high)} and {low:g}", detail)])


def _matched_alphas(rows: pd.DataFrame, test: Matched) -> tuple[float, float]:
    """Return the negative and the positive alpha of the pair, chosen by `match` alone."""
    means = {alpha: _mean(group) for alpha, group in _alpha_groups(rows, test.match).items()}
    if means.get(REFERENCE, 0.0) <= 0:
        raise _no_alphas(test.match, (REFERENCE, REFERENCE), 1)
    change = {a: math.log(mean / means[REFERENCE]) for a, mean in means.items() if mean > 0}
    pairs = [
        (min(change[high], -change[low]), low, high)
        for low, high in product(change, change)
        if low < 0 < high
        and min(change[high], -change[low]) >= SMALLEST_CHANGE
        and abs(change[high] + change[low]) <= test.tolerance
    ]
    if not pairs:
        raise UntestedError(
            f"no positive alpha changes {test.match.metric} by as much as a negative one",
            merged([needed(each, MATCHING) for each in (test.match, test.reading)]),
        )
    _, low, high = max(pairs)
    return low, high


def _within(rows: pd.DataFrame, values: pd.Series, test: Trend | NoTrend) -> pd.DataFrame:
    """Return alpha and value of the networks in the test's range; of at least three alphas."""
    table = pd.DataFrame({"alpha": alphas_of(rows), "value": values}).dropna()
    table = table[table["alpha"].between(*test.between)].sort_values("alpha", kind="stable")
    if table["alpha"].nunique() < 3:
        raise _no_alphas(test.reading, test.between, 3)
    return table


def _groups(table: pd.DataFrame) -> dict[float, list[float]]:
    """Return the values of each alpha, in rising order."""
    return {float(a): list(part["value"]) for a, part in table.groupby("alpha")}  # type: ignore[arg-type]


def _alpha_groups(rows: pd.DataFrame, reading: Reading) -> dict[float, list[float]]:
    return _groups(pd.DataFrame({"alpha": alphas_of(rows), "value": read(rows, reading)}).dropna())


def _compared_alphas(
    rows: pd.DataFrame, test: Against
) -> tuple[dict[float, list[float]], list[float]]:
    """Return the values of each alpha, and the alphas to compare with alpha = 0.

    A chosen alpha is chosen by another reading than the one that is tested, so that chance in the
    latter does not choose.
    """
    groups = _alpha_groups(rows, test.reading)
    if REFERENCE not in groups:
        raise _no_alphas(test.reading, (REFERENCE, REFERENCE), 1)
    if test.choose:
        alphas = [_chosen_alpha(rows, test.choose, test.reading)]
        if alphas[0] not in groups:
            raise UntestedError(
                f"{test.reading.suite} was not measured at {at(alphas[0])}",
                needed(test.reading, tuple(alphas)),
            )
        return groups, alphas
    low, high = test.between or (-math.inf, math.inf)
    alphas = [alpha for alpha in groups if low <= alpha <= high and alpha != REFERENCE]
    if not alphas:
        raise _no_alphas(test.reading, (low, high), 1)
    return groups, alphas


def _chosen_alpha(rows: pd.DataFrame, choice: Choice, reading: Reading) -> float:
    """Return the alpha that is chosen for the `reading` that is tested."""
    means = {alpha: _mean(group) for alpha, group in _alpha_groups(rows, choice.reading).items()}
    if choice.rule == "highest":
        return max(means, key=lambda alpha: (means[alpha], -abs(alpha)))
    if REFERENCE not in means:
        raise _no_alphas(choice.reading, (REFERENCE, REFERENCE), 1)
    bound = (choice.share or 0.0) * means[REFERENCE]
    below = [alpha for alpha, mean in means.items() if alpha < 0 and mean <= bound]
    if not below:
        raise UntestedError(
            f"no alpha brings {choice.reading.metric} to {choice.share} of that at alpha = 0",
            merged([needed(each, (-5.0, -10.0)) for each in (choice.reading, reading)]),
        )
    return max(below, key=lambda alpha: means[alpha])


def _no_alphas(reading: Reading, between: tuple[float, float], least: int) -> UntestedError:
    low, high = between
    if low == high:
        return UntestedError(f"there is no network of {at(low)}", needed(reading, (low,)))
    alphas = (low, (low + high) / 2, high) if least > 1 else (low, high)
    number = {1: "one alpha", 3: "three alphas"}[least]
    reason = f"it takes networks of {number} between {low:g} and {high:g}"
    return UntestedError(reason, needed(reading, alphas))


def _nothing_chosen(reading: Reading) -> Effect:
    return Effect(
        at(REFERENCE),
        POINTS if reading.points else PLAIN,
        math.nan,
        reason="the alpha that is chosen is 0 itself",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _text(values: Sequence[float], reading: Reading) -> str:
    return written(_mean(values), reading)


def _described(effect: Effect, table: pd.DataFrame, test: Trend | NoTrend, label: str) -> Effect:
    """Add to a trend how many seeds it has, and its ends."""
    groups = _groups(table)
    ends = [f"{_text(groups[a], test.reading)} at {at(a)}" for a in (min(groups), max(groups))]
    seeds = min(len(group) for group in groups.values())
    return replace(effect, label=label, seeds=seeds, detail=", ".join(ends))


def _in_unit(effect: Effect, reading: Reading, label: str, detail: str) -> Effect:
    """Tell a difference of accuracies in percentage points."""
    factor, unit = (100, POINTS) if reading.points else (1, PLAIN)
    return replace(
        effect,
        unit=unit,
        value=factor * effect.value,
        low=factor * effect.low,
        high=factor * effect.high,
        label=label,
        detail=detail,
    )


_KINDS: dict[str, Callable[..., Finding]] = {
    "trend": _trend,
    "no_trend": _no_trend,
    "difference": _difference,
    "equivalence": _equivalence,
    "within": _within_networks,
    "method": _method,
    "matched": _matched,
    "flags": flags,
}
