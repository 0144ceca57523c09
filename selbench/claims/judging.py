"""Verdicts: what a study's measurements say about claims."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError
from selbench.claims.claim import Choice, Claim, NoTrend, Reading, Test, Trend
from selbench.claims.effects import NOT_MONOTONE, SCALED, Effect, Finding, joint_finding, labelled
from selbench.claims.kinds import of, run_test
from selbench.claims.labels import test_labels
from selbench.claims.readings import (
    Need,
    Networks,
    UntestedError,
    alpha_text,
    corruptions_of,
    merged,
    read,
)
from selbench.claims.scope import Standing, standing, tests_for
from selbench.statistics.intervals import holm
from selbench.store import StudyStore
from selbench.store.findings import finding_sentences, findings_in
from selbench.study import exactly
from selbench.tables.current import (
    RUNS,
    current_rows,
    data_name,
    hidden_limits,
    images_used,
    reading_once,
    study_words,
)

LEVEL = 0.05  # error probability, over all claims that are tested together
SUPPORTED, REFUTED = "supported", "refuted"
NO_ALPHA = "all its networks were brought, but claims are about networks trained with an alpha"
STANDARD = "standard"  # the training method that claims are about
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
TRANSFERS, DOES_NOT = "transfers", "does not transfer"  # for a network that the claim is not about
VERDICTS = (SUPPORTED, REFUTED, NOT_MONOTONE, SCALED, INCONCLUSIVE, NOT_TESTED)
ELSEWHERE = {SUPPORTED: TRANSFERS, REFUTED: DOES_NOT}
BENCHMARK = sum(not corruption.extra for corruption in CORRUPTIONS.values())


@dataclass(frozen=True)
class About:
    """The study that rows belong to.

    Attributes:
        study: its name.
        network: "model/data set", as claims name networks.
        limit: how many test images were used; None for all.
        store: the folder of results.
        words: the network and its data as words of the command line, if the study's name is not
            enough.
        diverged: networks that diverged in training.
        findings: the probe's findings on the networks.
    """

    study: str
    network: str
    limit: int | None = None
    store: Path = RUNS
    words: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def standing(self, claim: Claim) -> Standing:
        """Return whether a claim is about this study's network, its kind, or another."""
        return standing(self.network, claim)

    def tests(self, claim: Claim) -> tuple[Test, ...]:
        """Return the tests of a claim that apply to this study's network."""
        return tests_for(self.network, claim)

    def command(self, need: Need) -> str:
        """Return the command that measures what is missing."""
        words = ["selbench", "run", *(self.words or [self.study])]
        words += [word for suite in need.suites for word in ("--suite", suite)]
        words += ["--alpha", ",".join(map(exactly, need.alphas))] if need.alphas else []
        words += need.words
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        words += ["--store", str(self.store)] if self.store != RUNS else []
        return shlex.join(words)


Sample = tuple[Networks, About]  # a study's networks on one number of test images


@dataclass(frozen=True)
class Verdict:
    """The verdict of a study on a claim.

    Attributes:
        verdict: one of `VERDICTS`. If the claim is about another network, only the direction is
            tested and `ELSEWHERE` gives the words.
        standing: whether the claim is about the study's network, its kind, or another.
        reason: why it is inconclusive or not tested, or another remark.
        finding: the effects; None if not tested.
        p: p-value of the verdict, after Holm over `family` claims; None for a count or if not
            tested.
        power: upper bound of how often similar networks would support the claim if its published
            size were true; None for a count or if not tested.
        images: the smallest number of images behind a reading.
        corruptions: the smallest number of corruptions that a reading is the mean of; 0 if there
            are none, or if the claim names them.
        need: what a run would have to add; `command` is that run, "" if nothing is missing.
    """

    claim: Claim
    verdict: str
    standing: Standing
    reason: str = ""
    finding: Finding | None = None
    p: float | None = None
    power: float | None = None
    family: int = 0
    images: int | None = None
    corruptions: int = 0
    need: Need = field(default_factory=Need)
    command: str = ""

    @property
    def effect(self) -> Effect | None:
        """The effect that decides."""
        return self.finding.shown if self.finding else None


@dataclass(frozen=True)
class Judgement:
    """The verdicts of one study, in the order of the claims."""

    about: About
    verdicts: tuple[Verdict, ...]


def judge_study(
    store: StudyStore, claims: Sequence[Claim], limit: int | None = None, root: Path = RUNS
) -> Judgement:
    """Judge claims by the measurements of a study's latest run.

    Without a limit each claim is judged on the number of images on which most networks and
    conditions of its own were measured; of equals, the largest.

    Raises:
        SelbenchError: if there are none on `limit` images.
    """
    manifest = store.manifest()
    words = tuple(study_words(store.study, manifest))
    lost = tuple(name for name, facts in manifest["subjects"].items() if facts.get("diverged"))
    findings = tuple(finding_sentences(findings_in(manifest)))
    about = About(store.study, _network(manifest), None, root, words, lost, findings)
    with reading_once():
        tables = [current_rows(store, each) for each in (limit, *hidden_limits(store, limit)[::-1])]
    samples = [(_whole(rows), replace(about, limit=images_used(rows))) for rows in tables]
    return judged(samples, claims)


def _network(manifest: dict[str, Any]) -> str:
    """Return "model/data set", and everything that differs from the plain network of that name."""
    study = manifest.get("study", {})
    model, classes = study.get("model", {}), study.get("dataset", {}).get("classes")
    method = study.get("recipe", {}).get("method", STANDARD)
    apart = [f"{classes} classes"] if classes else []
    options = model.get("options", {}).items()
    apart += [f"{name}={value}" for name, value in options if name != "shortcut"]  # both fit
    apart += [f"trained with {method}"] if method != STANDARD else []
    return ", ".join([f"{model.get('name')}/{data_name(manifest)}", *apart])


def judge(rows: pd.DataFrame, claims: Sequence[Claim], about: About) -> Judgement:
    """Judge claims by rows of one study's networks; claims tested together form a family.

    A claim is supported or refuted if its p-value, after Holm over the family, is at most `LEVEL`;
    otherwise it is inconclusive. Finner, 1999, doi:10.1214/aos/1018031107, on directions.
    """
    return judged([(_whole(rows), about)], claims)


def _whole(rows: pd.DataFrame) -> Networks:
    return Networks(rows[rows["layer"].isna()])  # claims are about whole networks


def judged(samples: Sequence[Sample], claims: Sequence[Claim]) -> Judgement:
    """Judge claims by one or more numbers of images, the largest first; see `judge_study`."""
    chosen = [_widest(samples, claim) for claim in claims]
    results = [result for _, result in chosen]
    tested = {
        place: result
        for place, result in enumerate(results)
        if isinstance(result, Finding) and not result.certain
    }
    factors = _factors({place: _raw_p(result) for place, result in tested.items()}, claims)
    family = len({_member(claims[place]) for place in tested})
    verdicts = []
    for place, (claim, ((networks, about), result)) in enumerate(zip(claims, chosen, strict=True)):
        if isinstance(result, UntestedError):
            command = about.command(result.need) if result.need != Need() else ""
            rest = {"reason": str(result), "need": result.need, "command": command}
            verdicts.append(Verdict(claim, NOT_TESTED, about.standing(claim), **rest))  # type: ignore[arg-type]
        else:
            verdicts.append(_decided(networks, claim, about, result, factors.get(place), family))
    return Judgement(samples[0][1], tuple(verdicts))


def _widest(samples: Sequence[Sample], claim: Claim) -> tuple[Sample, Finding | UntestedError]:
    """Return the sample that covers most of what a claim reads, and what its tests find there."""
    found = [(sample, tried(sample[0], claim, sample[1])) for sample in samples]
    return max(found, key=lambda each: _extent(each[0], each[1], claim))  # the first of equals


def _extent(sample: Sample, result: Finding | UntestedError, claim: Claim) -> tuple[bool, int, int]:
    """Return whether a claim was tested, then how many networks and conditions it could use."""
    networks, about = sample
    if isinstance(result, UntestedError):
        return False, len(networks.rows), 0
    readings = _readings(networks, about.tests(claim))
    conditions = min((len(part.by_condition(reading)) for part, reading in readings), default=0)
    return (
        True,
        min((len(read(*each).dropna()) for each in readings), default=result.shown.networks),
        conditions,
    )


def _member(claim: Claim) -> str:
    """Return the id of the claim that represents this one in the family."""
    return claim.counted_with or claim.id


def _factors(raw: Mapping[int, float], claims: Sequence[Claim]) -> dict[int, float]:
    """Return Holm's factor for each claim's p-value; claims that are counted together are one."""
    least: dict[str, float] = {}
    for place, p in raw.items():
        least[_member(claims[place])] = min(p, least.get(_member(claims[place]), 1.0))
    if not least:
        return {}
    adjusted = dict(zip(least, holm(list(least.values())), strict=True))
    factors = {name: adjusted[name] / p if p > 0 else len(least) for name, p in least.items()}
    return {place: max(factors[_member(claims[place])], 1.0) for place in raw}


def check_tested(judgements: Sequence[Judgement]) -> None:
    """Refuse studies on which no claim can be tested; the message says what to run."""
    if any(each.verdict != NOT_TESTED for found in judgements for each in found.verdicts):
        return
    about, verdicts = judgements[0].about, judgements[0].verdicts
    needs = [each.need for each in verdicts]
    if not all(need.alphas for need in needs):  # ask for suites first: each alpha costs a training
        needs = [replace(need, alphas=()) for need in needs]
    if any(need.alphas or not need.words for need in needs):  # ask for brought networks last
        needs = [replace(need, words=()) for need in needs]
    alone, need = len(verdicts) == 1, merged(needs)
    who = f"claim {verdicts[0].claim.id} cannot" if alone else f"none of {len(verdicts)} claims can"
    what = f"{who} be tested on the study {about.study}"
    if alone or need == Need():
        what += f": {verdicts[0].reason}"
    if need != Need():
        what += f"; run `{about.command(need)}` first"
    raise SelbenchError(what)


def tried(networks: Networks, claim: Claim, about: About) -> Finding | UntestedError:
    """Run all tests of a claim, or return what they lack."""
    tests, sizes = about.tests(claim), about.standing(claim) != "other"
    if all(of(test, networks).rows.empty for test in tests):
        return UntestedError(NO_ALPHA, Need())
    findings, lacking = [], []
    for name, test in zip(test_labels(tests), tests, strict=True):
        try:
            findings.append(labelled(run_test(networks, test, sizes), name))
        except UntestedError as problem:
            lacking.append(problem)
    if not lacking:
        return joint_finding(findings)
    reasons = "; ".join(dict.fromkeys(map(str, lacking)))
    return UntestedError(reasons, merged([problem.need for problem in lacking]))


def _parts(networks: Networks, tests: Sequence[Test], corruptions: int) -> list[str]:
    """Say which corruptions and alphas were missing when a claim was tested; empty if none."""
    few = 0 < corruptions < BENCHMARK
    parts = [f"only {corruptions} of {BENCHMARK} corruptions"] if few else []
    trends = [test for test in tests if isinstance(test, Trend | NoTrend)]
    ends = [(alpha, test) for test in trends for alpha in test.between]
    lacking = sorted(
        {alpha for alpha, test in ends if alpha not in _alphas(of(test, networks), test)}
    )
    return [*parts, f"without {' and '.join(map(alpha_text, lacking))}"] if lacking else parts


def _alphas(networks: Networks, test: Trend | NoTrend) -> set[float]:
    return set(networks.alphas[read(networks, test.reading).dropna().index])


def _raw_p(result: Finding | UntestedError) -> float:
    assert isinstance(result, Finding)
    return min(result.p_for, result.p_against, *result.shapes.values())


def _decided(
    networks: Networks,
    claim: Claim,
    about: About,
    finding: Finding,
    factor: float | None,
    family: int,
) -> Verdict:
    """Return the verdict after multiplying p-values by Holm's factor; None decides by count."""
    tests, where = about.tests(claim), about.standing(claim)
    verdict, p = surest(finding, factor or 1.0)
    shown = finding.refuting if verdict in (REFUTED, NOT_MONOTONE) else finding.shown
    corruptions = min(
        filter(None, (corruptions_of(*e) for e in _readings(networks, tests))), default=0
    )
    open_ = _why_open(finding, family) if verdict == INCONCLUSIVE else ""
    reason = shown.reason or open_
    return Verdict(
        claim,
        ELSEWHERE.get(verdict, verdict) if where == "other" else verdict,
        where,
        "; ".join(filter(None, (reason, *_parts(networks, tests, corruptions)))),
        replace(finding, shown=shown),
        None if factor is None else min(p, 1.0),
        None if factor is None else finding.power(LEVEL / family),
        0 if factor is None else family,
        min(
            (part_networks.images(part) for part_networks, part in _readings(networks, tests)),
            default=None,
        ),
        corruptions,
    )


def surest(finding: Finding, factor: float) -> tuple[str, float]:
    """Return the verdict and its p-value after Holm; "not monotone" comes before any slope."""
    shapes = {name: factor * p for name, p in finding.shapes.items()}
    for name in (SCALED, NOT_MONOTONE):
        if shapes.get(name, 1.0) <= LEVEL:
            return name, shapes[name]
    p_for, p_against = factor * finding.p_for, factor * finding.p_against
    if min(p_for, p_against) <= LEVEL:
        return (SUPPORTED, p_for) if p_for < p_against else (REFUTED, p_against)
    return INCONCLUSIVE, min(p_for, p_against, *shapes.values())


def _why_open(finding: Finding, family: int) -> str:
    verdict, _ = surest(finding, 1.0)
    if verdict != INCONCLUSIVE:
        return f"{verdict} if tested alone, but not among {family} claims (Holm)"
    return "the interval allows both"


def _readings(networks: Networks, tests: Sequence[Test]) -> list[tuple[Networks, Reading]]:
    """Return all readings of the tests, including those that choose an alpha or are compared with.

    Each comes with the networks that its test covers.
    """
    found: list[tuple[Networks, Reading]] = []
    for test in tests:
        parts = [part for _, part in test]
        parts += [part.reading for part in parts if isinstance(part, Choice)]
        found += [(of(test, networks), part) for part in parts if isinstance(part, Reading)]
    return found
