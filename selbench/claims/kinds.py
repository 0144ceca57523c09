"""The kinds of test: each is a function of the measurements of a study's networks."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
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
    Reading,
    Test,
    Trend,
    Within,
)
from selbench.claims.effects import (
    ALIKE,
    ONE,
    ROUNDING,
    Effect,
    Finding,
    all_of,
    any_of,
    bounded,
    claimed,
    without_interval,
)
from selbench.claims.flags import flags
from selbench.claims.groups import REFERENCE, groups_of, in_unit, mean, no_alphas, text
from selbench.claims.readings import (
    CLEAN,
    Need,
    Networks,
    UntestedError,
    alpha_text,
    merged,
    needed,
    read,
)
from selbench.claims.shapes import shape
from selbench.statistics.intervals import Difference as Estimate
from selbench.statistics.spread import contrast, means_of

STANDARD = "standard"  # the word in the file names of networks that a method's are compared with
SIZED = Trend | Difference | Within | Method | Matched  # tests of a size, in the reading's unit
MATCHING = (-2.0, -1.0, -0.4, 0.1, 0.2, 0.4)  # suggested alphas, for a matching pair
SMALLEST_CHANGE = 0.1  # in the logarithm of the matched reading; less counts as no change


def run_test(networks: Networks, test: Test, sizes: bool) -> Finding:
    """Run a test.

    Args:
        networks: the networks of one study.
        test: what to test.
        sizes: whether the sizes of differences count, or only their directions. A size that the
            claim's sentence implies always counts.

    Raises:
        UntestedError: if the networks lack what the test reads.
    """
    sized = isinstance(test, Difference) and test.meant
    published = None
    if isinstance(test, SIZED) and not (sizes or sized):
        published = test.at_least
        test = test.model_copy(update={"at_least": 0.0})
    return _KINDS[test.kind](of(test, networks), test, published)


def of(test: Test, networks: Networks) -> Networks:
    """Return the networks that a test covers: those with an alpha, except for `Method`."""
    return networks if isinstance(test, Method) else networks.trained


def _difference(networks: Networks, test: Difference, published: float | None) -> Finding:
    def judged(found: Estimate) -> Effect:
        return claimed(found, SIGNS[test.direction], test.at_least, published)

    effects = _against(networks, test, judged)
    return all_of(effects) if test.quantifier == "all" else any_of(effects)


def _equivalence(networks: Networks, test: Equivalence, published: float | None) -> Finding:
    def judged(found: Estimate) -> Effect:
        return bounded(found, test.margin, -1 if test.losses_only else 0, test.published)

    return all_of(_against(networks, test, judged))


def _against(
    networks: Networks, test: Against, judged: Callable[[Estimate], Effect]
) -> list[Effect]:
    """Compare each alpha that the test covers with alpha = 0."""
    groups, alphas = _compared_alphas(networks, test)
    if alphas == [REFERENCE]:
        effect = without_interval(math.nan, 0, 0, "the chosen alpha is 0 itself")
        return [in_unit(effect, test.reading, alpha_text(REFERENCE), "")]
    return [
        _compared(groups, {alpha: 1.0, REFERENCE: -1.0}, test.reading, judged, alpha_text(alpha))
        for alpha in alphas
    ]


def _compared(
    groups: Mapping[float, Sequence[float]],
    weights: Mapping[float, float],
    reading: Reading,
    judged: Callable[[Estimate], Effect],
    label: str,
    name: Callable[[float], str] = lambda alpha: f"at {alpha_text(alpha)}",
) -> Effect:
    """Judge a contrast of groups' means, with a spread pooled over all groups."""
    parts = [groups[key] for key in weights]
    found = contrast(means_of(groups), weights)
    networks, seeds = sum(map(len, parts)), min(map(len, parts))
    if math.isnan(found.error) or found.error <= ROUNDING:
        effect = without_interval(found.value, networks, seeds, ONE if seeds < 2 else ALIKE)
    else:
        effect = replace(judged(found), networks=networks, seeds=seeds)
    details = [f"{text(groups[key], reading)} {name(key)}" for key in weights]
    return in_unit(effect, reading, label, ", ".join(details))


def _within_networks(networks: Networks, test: Within, published: float | None) -> Finding:
    """Compare two readings of each network, averaged over alphas with equal weight."""
    first, second = read(networks, test.reading), read(networks, test.less)
    groups = groups_of(networks, first - second)
    low, high = test.between
    alphas = [alpha for alpha in groups if low <= alpha <= high]
    if not alphas:
        raise no_alphas(test.reading, test.between, 1)

    def judged(found: Estimate) -> Effect:
        if test.margin:
            return bounded(found, test.margin, SIGNS[test.direction])
        return claimed(found, SIGNS[test.direction], test.at_least, published)

    effect = _compared(groups, dict.fromkeys(alphas, 1 / len(alphas)), test.reading, judged, "")
    one, other = (
        text([mean(each[alpha]) for alpha in alphas], reading)
        for each, reading in (
            (groups_of(networks, first), test.reading),
            (groups_of(networks, second), test.less),
        )
    )
    pairs = sorted((mean(groups[alpha]), alpha) for alpha in alphas)
    (least, at_low), (most, at_high) = pairs[0], pairs[-1]
    ends = f"from {least:+.3g} at {at_low:g} to {most:+.3g} at {at_high:g}"
    detail = f"{one} against {other}, by alpha {ends}"
    return all_of([replace(effect, detail=detail)])


def _method(networks: Networks, test: Method, published: float | None) -> Finding:
    """Compare networks of two methods with similar clean accuracy."""
    need = replace(needed(test.reading), words=("--checkpoint", f"{test.method}.pth"))
    named = _named(networks, test.method)
    if not named:
        raise UntestedError(f"no network's file name contains {test.method}", need)
    alphas = networks.alphas
    zero = list(alphas.index[alphas == REFERENCE])
    kept = networks.only([*named, *zero, *_named(networks, STANDARD)])
    values = read(kept, test.reading)
    first = values.reindex(named).dropna()
    if first.empty:
        raise UntestedError(f"{test.reading.suite} was not measured for {named[0]}", need)
    clean = read(kept, CLEAN)
    goal = float(clean.reindex(first.index).mean())
    sides = [values.reindex(each).dropna() for each in (zero, _named(networks, STANDARD))]
    like = [s for s in sides if len(s) and abs(clean[s.index].mean() - goal) <= test.tolerance]
    if not like:
        raise UntestedError(*_unlike(test, goal, clean.reindex(zero).dropna(), need))
    groups = {1.0: list(first), REFERENCE: list(like[0])}

    def judged(found: Estimate) -> Effect:
        return claimed(found, SIGNS[test.direction], test.at_least, published)

    def name(key: float) -> str:
        return f"with {test.method if key else 'standard training'}"

    return all_of(
        [_compared(groups, {1.0: 1, REFERENCE: -1}, test.reading, judged, test.method, name)]
    )


def _unlike(test: Method, goal: float, clean: pd.Series, need: Need) -> tuple[str, Need]:
    """Say that no standard network has similar clean accuracy, and which would have."""
    has = f"{100 * goal:.1f} % of clean images right with {test.method}"
    other = f", {100 * clean.mean():.1f} % at {alpha_text(REFERENCE)}" if len(clean) else ""
    how = f"standard networks within {100 * test.tolerance:g} points, trained for fewer epochs"
    words = ("--checkpoint", f"{STANDARD}.pth")
    return f"{has}{other}: the claim needs {how}", replace(need, words=words)


def _named(networks: Networks, word: str) -> list[str]:
    """Return the brought networks whose file names contain a word."""
    subjects = networks.alphas.index[networks.alphas.isna()]
    return [name for name in subjects if _words(word) in _words(Path(name).name)]


def _words(name: str) -> str:
    """Return a name's words between spaces, so that "pgd" is not found in "apgd"."""
    return f" {' '.join(re.findall('[a-z0-9]+', name.casefold()))} "


def _matched(networks: Networks, test: Matched, published: float | None) -> Finding:
    low, high = _matched_alphas(networks, test)
    groups = groups_of(networks, read(networks, test.reading))
    if not {low, high} <= set(groups):
        raise UntestedError(
            f"{test.reading.suite} was not measured at {alpha_text(low)} and {high:g}",
            needed(test.reading, (low, high)),
        )

    def judged(found: Estimate) -> Effect:
        return claimed(found, SIGNS[test.direction], test.at_least, published)

    label = f"{alpha_text(high)} and {low:g}"
    return all_of([_compared(groups, {high: 1.0, low: -1.0}, test.reading, judged, label)])


def _matched_alphas(networks: Networks, test: Matched) -> tuple[float, float]:
    """Return the negative and the positive alpha of the pair, chosen only by `match`."""
    means = {
        alpha: mean(group)
        for alpha, group in groups_of(networks, read(networks, test.match)).items()
    }
    if means.get(REFERENCE, 0.0) <= 0:
        raise no_alphas(test.match, (REFERENCE, REFERENCE), 1)
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


def _compared_alphas(
    networks: Networks, test: Against
) -> tuple[dict[float, list[float]], list[float]]:
    """Return the values of each alpha, and the alphas to compare with alpha = 0.

    An alpha is chosen by a reading other than the tested one, so that the tested one's chance does
    not influence the choice.
    """
    groups = groups_of(networks, read(networks, test.reading))
    if REFERENCE not in groups:
        raise no_alphas(test.reading, (REFERENCE, REFERENCE), 1)
    if test.choose:
        alphas = [_chosen_alpha(networks, test.choose, test.reading)]
        if alphas[0] not in groups:
            raise UntestedError(
                f"{test.reading.suite} was not measured at {alpha_text(alphas[0])}",
                needed(test.reading, tuple(alphas)),
            )
        return groups, alphas
    low, high = test.between or (-math.inf, math.inf)
    alphas = [alpha for alpha in groups if low <= alpha <= high and alpha != REFERENCE]
    if not alphas:
        raise no_alphas(test.reading, (low, high), 1)
    return groups, alphas


def _chosen_alpha(networks: Networks, choice: Choice, reading: Reading) -> float:
    """Return the alpha that the rule chooses; `reading` is the tested one."""
    means = {
        alpha: mean(group)
        for alpha, group in groups_of(networks, read(networks, choice.reading)).items()
    }
    if choice.rule == "highest":
        return max(means, key=lambda alpha: (means[alpha], -abs(alpha)))
    if REFERENCE not in means:
        raise no_alphas(choice.reading, (REFERENCE, REFERENCE), 1)
    least, most = (each * means[REFERENCE] for each in choice.share or (0.0, 0.0))
    inside = [alpha for alpha, value in means.items() if alpha < 0 and least <= value <= most]
    if not inside:
        words = " to ".join(f"{each:g}" for each in choice.share or ())
        wanted = _interpolated(means, (least + most) / 2)
        raise UntestedError(
            f"no alpha brings {choice.reading.metric} to {words} of that at alpha = 0: "
            f"train {alpha_text(wanted)}",
            merged([needed(each, (wanted,)) for each in (choice.reading, reading)]),
        )
    return max(inside, key=lambda alpha: means[alpha])


def _interpolated(means: Mapping[float, float], wanted: float) -> float:
    """Return the negative alpha for a wanted mean: between two alphas, or twice the lowest."""
    below = sorted(alpha for alpha in means if alpha <= REFERENCE)
    for low, high in pairwise(below):
        if means[low] <= wanted <= means[high]:
            share = (wanted - means[low]) / (means[high] - means[low])
            return round(low + share * (high - low), 1)
    return 2 * min(below) if min(below) < 0 else -5.0


_KINDS: dict[str, Callable[..., Finding]] = {
    "trend": shape,
    "no_trend": shape,
    "difference": _difference,
    "equivalence": _equivalence,
    "within": _within_networks,
    "method": _method,
    "matched": _matched,
    "flags": flags,
}
