"""Record a model in a baseline, and compare a model with a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from selbench import __version__
from selbench._kit.errors import SelbenchError
from selbench.datasets import Split, limited
from selbench.regression.baseline import Baseline, RecordedNetwork, facts
from selbench.regression.budget import choose, forward_seconds
from selbench.regression.comparison import TOLERANCE, Comparison, Correct, compare
from selbench.regression.correctness import (
    Candidate,
    Facts,
    Place,
    comparable,
    correctness,
    facts_of,
)
from selbench.sets.stored import Stored
from selbench.store import condition_id
from selbench.suites import Setting, Work


@dataclass(frozen=True)
class Plan:
    """The conditions and the number of examples to record, or to compare with a baseline.

    `suites` are the requested suites, without repeats; `setting` selects conditions from them.
    """

    suites: tuple[str, ...]
    setting: Setting
    pieces: list[Work]
    examples: int


def plan_baseline(suites: Sequence[str], setting: Setting, test: Split, limit: int | None) -> Plan:
    """Return the plan of a baseline; raise `SelbenchError` if a check could not compare it."""
    names = tuple(dict.fromkeys(suites))
    return Plan(names, setting, comparable(names, setting), _examples_compared(limit, len(test)))


def record(candidate: Candidate, chosen: Plan, place: Place) -> Baseline:
    """Evaluate a model, and return its baseline."""
    made, test = correctness(candidate, chosen.pieces, chosen.examples, place), place.dataset.test
    networks = candidate.networks
    return Baseline(
        selbench=__version__,
        torch=version("torch"),
        study=candidate.study,
        subject=candidate.subject,
        model=candidate.architecture,
        training=candidate.networks[0].training,
        dataset=candidate.dataset,
        data=test.checksum,
        test=len(test),
        examples=chosen.examples,
        suites=chosen.suites,
        corruptions=chosen.setting.corruptions,
        attacks=chosen.setting.attacks,
        networks=tuple(RecordedNetwork(name=n.name, weights=n.weights) for n in networks),
        conditions=facts(made, facts_of(chosen.pieces), chosen.examples),
    )


def check_tolerance(tolerance: object) -> None:
    """Refuse a tolerance that is not a fraction of 1."""
    if not isinstance(tolerance, float | int | np.floating) or not 0 <= tolerance < 1:
        raise SelbenchError(
            f"--tolerance is a fraction of 1 such as 0.01 for one point, got {tolerance!r}"
        )


def check_detect(detect: object, tolerance: float) -> None:
    """Refuse a drop to detect that is not a number of points, or that the tolerance accepts."""
    if detect is None:
        return
    if isinstance(detect, bool) or not isinstance(detect, float | int) or not 0 < detect < 100:
        raise SelbenchError(f"--detect is a drop in points such as 3, above 0, got {detect!r}")
    if detect <= 100 * tolerance:
        raise SelbenchError(
            f"--detect {detect:g} asks for a drop of {detect:g} points, and --tolerance "
            f"{tolerance:g} accepts {100 * tolerance:g} points; detect more, or tolerate less"
        )


def check_data(baseline: Baseline, dataset: str, test: Split, limit: int | None) -> None:
    """Refuse a baseline of other images, or with fewer examples than requested."""
    if baseline.data != test.checksum:
        raise SelbenchError(
            f"the baseline is of {baseline.dataset} (checksum {baseline.data}, {baseline.test} "
            f"images), this is {dataset} (checksum {test.checksum}, {len(test)} images); compare "
            "on the same data, or make a baseline of this"
        )
    if limit is not None and min(limit, len(test)) > baseline.examples:
        raise SelbenchError(
            f"the baseline holds {baseline.examples} examples, --limit asks for "
            f"{min(limit, len(test))}; ask for at most {baseline.examples}"
        )


def plan(baseline: Baseline, suites: Sequence[str], setting: Setting, limit: int | None) -> Plan:
    """Return the plan of a check.

    Raises:
        SelbenchError: for a suite that the baseline lacks or that has no outcomes, and for a
            condition that differs in this version, or is missing.
    """
    names = tuple(dict.fromkeys(suites))
    chosen, some = comparable(names, setting), setting.corruptions or setting.attacks
    if some:
        _check_held(baseline, chosen)
    elif baseline.partial:
        chosen = [each for each in chosen if facts_of([each]).keys() <= baseline.conditions.keys()]
    for name in names:
        _check_recorded(baseline, name, setting)
    complete = {*names} == {*baseline.suites} and not some
    _check_conditions(baseline, facts_of(chosen), complete)
    return Plan(names, setting, chosen, _examples_compared(limit, baseline.examples))


def _check_held(baseline: Baseline, chosen: Sequence[Work]) -> None:
    """Refuse corruptions and attacks that the baseline leaves out."""
    for each in chosen:
        if baseline.partial and not facts_of([each]).keys() <= baseline.conditions.keys():
            held = ", ".join([*baseline.corruptions, *baseline.attacks])
            raise SelbenchError(
                f"the baseline holds only {held}, not {each.name}; make it with all that checks "
                "should compare"
            )


def _check_recorded(baseline: Baseline, suite: str, setting: Setting) -> None:
    """Refuse a suite that was not recorded, unless all of its conditions are in others."""
    if suite in baseline.suites or setting.corruptions or setting.attacks:
        return
    if not facts_of(comparable([suite], setting)).keys() <= baseline.conditions.keys():
        raise SelbenchError(
            f"the baseline holds the suites {', '.join(baseline.suites)}, not {suite}; make it "
            f"with --suite {suite}"
        )


def _examples_compared(limit: int | None, held: int) -> int:
    """Return the number of the baseline's examples that a limit leaves."""
    examples = held if limit is None else min(limit, held)
    if examples < 2:
        raise SelbenchError("a comparison needs at least 2 test images; give --limit 2 or more")
    return examples


def _check_conditions(baseline: Baseline, today: dict[str, Facts], complete: bool) -> None:
    """Refuse conditions that differ from the baseline's; if `complete`, also missing ones."""
    for name in sorted({*today, *baseline.conditions} if complete else today):
        old, new = baseline.conditions.get(name), today.get(name)
        then = "none" if old is None else _source_text((old.source, old.version, old.data))
        now = "none" if new is None else _source_text(new)
        if then != now:
            raise SelbenchError(
                f"{name} is {then} in the baseline (selbench {baseline.selbench}) and {now} in "
                "this version or setting; make a new baseline, or use the version that wrote it"
            )


def _source_text(made: Facts) -> str:
    source, number, data = made
    return f"version {number} ({source}{', ' + data if data else ''})"


def within(seconds: float, chosen: Plan, candidate: Candidate, test: Split) -> Plan:
    """Return the part of a plan that fits into a number of nominal seconds."""
    height, width = test.images.shape[-2:]
    forward = sum(forward_seconds(network.load(), height, width) for network in candidate.networks)
    kept, examples = choose(chosen.pieces, chosen.examples, seconds, forward, height * width)
    return replace(chosen, pieces=[*kept], examples=examples)


def run(
    candidate: Candidate,
    baseline: Baseline,
    chosen: Plan,
    place: Place,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Evaluate a model by a plan, and compare it with the baseline."""
    after = correctness(candidate, chosen.pieces, chosen.examples, place)
    before = _recorded(baseline, chosen, place.dataset.test)
    return compare({name: before[name] for name in after}, after, tolerance)


def _recorded(baseline: Baseline, chosen: Plan, test: Split) -> dict[str, Correct]:
    """Return the baseline's outcomes for the conditions and examples of a plan."""
    limits, correct, found = (baseline.examples, chosen.examples), baseline.correct(), {}
    limits_of_others = [None if limit >= len(test) else limit for limit in limits]
    tests = [limited(test, limit) for limit in limits]
    for piece in chosen.pieces:
        pairs: Sequence[Split | Stored] = tests
        if piece.images_elsewhere is not None:
            pairs = [piece.images_elsewhere.limited(limit) for limit in limits_of_others]
        held, wanted = (each.examples.numpy() for each in pairs)
        # A larger limit includes the examples of a smaller one.
        places = np.searchsorted(held, wanted)
        for level in piece.levels:
            name = condition_id(piece.suite, piece.name, level)
            found[name] = correct[name][:, places]
    return found
