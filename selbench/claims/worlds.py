"""Simulated worlds: how often each claim is decided rightly or wrongly.

`python -m selbench.claims.worlds` prints the tables of docs/claims.md; given a study's folder, it
uses that study's spread between networks.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from selbench.claims.claim import (
    SIGNS,
    Claim,
    Difference,
    Equivalence,
    Flags,
    Matched,
    Method,
    NoTrend,
    Reading,
    Test,
    Trend,
    Within,
)
from selbench.claims.effects import NOT_MONOTONE, SCALED, Finding
from selbench.claims.groups import groups_of
from selbench.claims.judging import LEVEL, NOT_TESTED, REFUTED, SUPPORTED, About, surest, tried
from selbench.claims.readings import CLEAN, Networks, UntestedError, read
from selbench.claims.scope import tests_for
from selbench.claims.shapes import INDEX, WOBBLE, fitted
from selbench.claims.sources import shipped_claims
from selbench.statistics.intervals import Difference as Estimate
from selbench.statistics.spread import contrast, means_of
from selbench.store import open_studies
from selbench.tables.current import current_rows

WORLDS = ("true", "flat", "reversed", "U-shaped")
SEEDS = (3, 5, 10, 20)
ALPHAS = (-10.0, -5.0, -3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0)
RUNS = 200
FAMILY = 25  # how many claims are tested together on a study
MIDDLE, CLEAR = 0.5, 0.6  # values without any effect: of any reading, and of clean accuracy
USUAL = 0.02  # the effect if the smallest that counts is 0
SPREAD = 0.007  # between seeds, for readings without measurements
CORRUPTIONS = ("fog", "snow")
WANDERING = (0.0, 0.5, 1.0)  # of means without a trend, in standard deviations of one network
Curve = Callable[[float], float]
Cell = tuple[str, str, float, str]


class MadeRows:
    """Rows of a claim's networks in a world: their means and their spread.

    Attributes:
        truth: whether the claim is true in this world; None if that is undefined.
        rows: without spread.
    """

    def __init__(self, claim: Claim, world: str, seeds: int, spreads: dict[Reading, float]) -> None:
        """Make the rows; `spreads` are known standard deviations between seeds."""
        self.world, self.claim, self.seeds = world, claim, seeds
        self.curves: dict[Cell, list[Curve]] = defaultdict(list)
        self.logs, self.sds = set[Cell](), dict[Cell, float]()
        self.brought: dict[str, float] = {}
        self.tests = tests_for((claim.networks or ("m/d",))[0], claim)
        for test in self.tests:
            self._needed(test, spreads)
        truths = [MAKERS[type(test)](self, test) for test in self.tests]
        self.truth = None if None in truths else all(truths)
        self.rows = self._rows()

    def drawn(self, runs: int) -> Iterator[Networks]:
        """Yield further networks as readings, without rows."""
        still, generator = Networks(self.rows), np.random.default_rng(0)
        readings = [reading for test in self.tests for reading in read_by(test)]
        tables = {}
        for reading in readings:
            plain = reading.model_copy(update={"to_clean": None, "log": False})
            tables[plain] = (still.by_condition(plain), self.sds[_cells(plain)[0]], reading.log)
        for _ in range(runs):
            yield still.reading(
                {
                    reading: _scattered(table, sd, log, generator)
                    for reading, (table, sd, log) in tables.items()
                }
            )

    def add(self, reading: Reading, curve: Curve) -> None:
        """Add a function of alpha to a reading."""
        for cell in _cells(reading):
            self.curves[cell].append(curve)

    def _needed(self, test: Test, spreads: dict[Reading, float]) -> None:
        for reading in read_by(test):
            for cell in _cells(reading):
                self.curves.setdefault(cell, [])
                self.sds[cell] = spreads.get(reading, SPREAD) * math.sqrt(
                    len({name for _, name, *_ in _cells(reading)})
                )
                self.logs |= {cell} if reading.log else set()

    def _rows(self) -> pd.DataFrame:
        rows = []
        for cell, curves in self.curves.items():
            for alpha in ALPHAS:
                value = _still(cell, alpha, bool(curves))
                shift = sum(curve(alpha) for curve in curves)
                value = value * math.exp(shift) if cell in self.logs else value + shift
                names = [(f"alpha={alpha:g} seed={n}", alpha, n) for n in range(self.seeds)]
                rows += [(*cell, *name, value, self.sds[cell], cell in self.logs) for name in names]
        for word, value in self.brought.items():
            names = [(f"{word}-{n}.pth", math.nan, n) for n in range(self.seeds)]
            for cell, mean in ((_cells(INDEX)[0], value), (_cells(CLEAN)[0], CLEAR)):
                rows += [(*cell, *name, mean, self.sds[cell], False) for name in names]
        columns = ["suite", "condition", "level", "metric", "subject", "alpha", "seed", "value"]
        return pd.DataFrame(rows, columns=[*columns, "sd", "log"]).assign(layer=None, n=1000)

    def way(self, up: bool = True) -> float:
        """Return the factor of the claim's effect: 1 in its direction, -1 against it."""
        return {"true": 1.0, "flat": 0.0, "reversed": -1.0, "U-shaped": 1.0 if up else -1.0}[
            self.world
        ]

    def trend(self, test: Trend) -> bool:
        """Make the reading follow alpha; in the U-shaped world only below 0."""
        size = SIGNS[test.direction] * _slope(test, test.at_least)
        self._along(test, size)
        return self.world == "true" or (self.world == "U-shaped" and test.between[1] <= 0)

    def no_trend(self, test: NoTrend) -> bool:
        """Keep the reading constant, or give it the trend that the claim denies."""
        if self.world in ("reversed", "U-shaped"):
            self._along(test, -SIGNS[test.direction] * _slope(test, test.margin))
        return self.world in ("true", "flat") or (self.world == "U-shaped" and test.between[1] <= 0)

    def _along(self, test: Trend | NoTrend, size: float) -> None:
        low, high = test.between

        def curve(alpha: float) -> float:
            inside = min(max(alpha, low), high)
            at = inside if test.along == "alpha" else _index(inside) - _index(0.0)
            return size * at * self.way(up=alpha < 0)

        self.add(test.reading, curve)

    def difference(self, test: Difference) -> bool:
        """Change the reading at the compared alphas."""
        size = SIGNS[test.direction] * 2 * (test.at_least or USUAL) * self.way()
        self.add(test.reading, lambda alpha: size * _compared(test, alpha))
        self._best(test)
        return self.world in ("true", "U-shaped")

    def equivalence(self, test: Equivalence) -> bool:
        """Keep the reading at the compared alphas, or lower it by twice the margin."""
        same = self.world in ("true", "flat")
        size = 0.0 if same else -2 * test.margin
        self.add(test.reading, lambda alpha: size * _compared(test, alpha))
        return same

    def _best(self, test: Difference) -> None:
        if test.choose and test.choose.rule == "highest":
            self.add(test.choose.reading, lambda alpha: 0.1 * (alpha == -1))

    def within(self, test: Within) -> bool | None:
        """Change the first of two readings; in the U-shaped world in proportion to |alpha|."""
        size = SIGNS[test.direction] * 2 * (test.at_least or USUAL) * self.way()
        bent, alike = self.world == "U-shaped", test.margin is not None
        if test.margin:
            size = SIGNS[test.direction] * 2 * test.margin * (self.world == "reversed")
        self.add(test.reading, lambda alpha: size * (abs(alpha) if bent else 1.0))
        return None if bent else self.world in (("true", "flat") if alike else ("true",))

    def method(self, test: Method) -> bool:
        """Change the networks of the method."""
        size = SIGNS[test.direction] * 2 * (test.at_least or USUAL)
        bent = self.world == "U-shaped"  # these networks have no alpha to bend a curve along
        self.brought[test.method] = _index(0.0) + (0.0 if bent else size * self.way())
        return self.world == "true"

    def matched(self, test: Matched) -> bool:
        """Change the reading at positive alphas; in the U-shaped world at all except 0."""
        size = SIGNS[test.direction] * 2 * (test.at_least or USUAL) * self.way()
        bent = self.world == "U-shaped"
        self.add(test.reading, lambda alpha: size * (alpha != 0 if bent else alpha > 0))
        return self.world == "true"

    def flags(self, test: Flags) -> bool:
        """Make no network raise a flag, or all."""
        value = 0.0 if self.world == "true" else 0.5
        check = ("attacks", "masking", 1.0, "masking_zero_gradients")
        for cell, mean in ((check, value), *((each, MIDDLE) for each in _further())):
            self.curves[cell].append(lambda alpha, mean=mean: mean - MIDDLE)  # type: ignore[misc]
            self.sds[cell] = 0.0
        return self.world == "true"


MAKERS: dict[type, Callable[..., bool | None]] = {
    Trend: MadeRows.trend,
    NoTrend: MadeRows.no_trend,
    Difference: MadeRows.difference,
    Equivalence: MadeRows.equivalence,
    Within: MadeRows.within,
    Method: MadeRows.method,
    Matched: MadeRows.matched,
    Flags: MadeRows.flags,
}


def _scattered(
    table: pd.DataFrame, sd: float, log: bool, generator: np.random.Generator
) -> pd.DataFrame:
    noise = sd * generator.standard_normal(table.shape)
    return table * np.exp(noise) if log else table + noise


def _further() -> list[Cell]:
    """Return the attacks that the claim on flags needs besides the checks."""
    return [
        ("attacks-strong", name, 1.0, "accuracy") for name in ("hopskipjump-l2", "transfer-linf")
    ]


def _index(alpha: float) -> float:
    """Return an alpha's selectivity: a third of that at 0 for -3, twice that at 0 for 2."""
    return 0.2 * math.exp(0.35 * alpha)


def _still(cell: Cell, alpha: float, tested: bool) -> float:
    """Return the value of a cell without any effect."""
    if cell == _cells(INDEX)[0]:
        return MIDDLE if tested else _index(alpha)
    return CLEAR if cell == _cells(CLEAN)[0] else MIDDLE


def _slope(test: Trend | NoTrend, size: float) -> float:
    """Return twice the smallest slope that counts, over all scales."""
    if test.scales:
        ways = {"points": 1.0, "ratio": CLEAR, "log odds": MIDDLE * (1 - MIDDLE)}
        return 2 * max(each * ways[scale] for scale, each in test.scales.items())
    return 2 * (size or USUAL)


def _compared(test: Difference | Equivalence, alpha: float) -> bool:
    low, high = test.between or (-math.inf, math.inf)
    return low <= alpha <= high and alpha != 0


def read_by(test: Test) -> list[Reading]:
    """Return all readings of a test, including those that it compares with."""
    named = [getattr(test, name, None) for name in ("reading", "less", "match")]
    choice = getattr(test, "choose", None)
    named += [choice.reading if choice else None]
    if getattr(test, "along", "") == "selectivity":
        named += [INDEX]
    if getattr(test, "scales", None) or isinstance(test, Method):
        named += [CLEAN]
    return [each for each in named if each is not None]


def _cells(reading: Reading) -> list[Cell]:
    every = {"corruptions": CORRUPTIONS, "representation": (CORRUPTIONS[0], "paper-pgd")}
    names = reading.conditions or every.get(reading.suite, ("clean",))
    return [
        (reading.suite, name, level, reading.metric)
        for name in names
        if name not in reading.without
        for level in reading.levels or (1.0,)
    ]


def outcomes(made: MadeRows, runs: int) -> list[tuple[str, float]]:
    """Return verdicts and p-values of a claim that is tested alone, each on further networks.

    A count has a p of 0.
    """
    about = About("made", (made.claim.networks or ("m/d",))[0])
    found = [tried(networks, made.claim, about) for networks in made.drawn(runs)]
    return [surest(each, 1.0) if isinstance(each, Finding) else (NOT_TESTED, 1.0) for each in found]


def wrong(made: MadeRows, found: Sequence[tuple[str, float]]) -> float:
    """Return the share of verdicts that are wrong in a world."""
    refuted = [REFUTED, NOT_MONOTONE, SCALED]
    false = {True: refuted, False: [SUPPORTED], None: []}[made.truth]
    return sum(verdict in false for verdict, _ in found) / len(found)


def power(found: Sequence[tuple[str, float]], family: int = FAMILY) -> float:
    """Return the share of supporting verdicts if `family` claims are tested together."""
    return sum(verdict == SUPPORTED and p * family <= LEVEL for verdict, p in found) / len(found)


def false_trends(wandering: float, seeds: int, wobble: float, runs: int) -> float:
    """Return how often means without a trend rise significantly from alpha = -3 to 0.

    `wandering`: how far they lie off by chance, in standard deviations of one network.
    """
    generator, found = np.random.default_rng(0), 0
    for _ in range(runs):
        off = wandering * generator.standard_normal((len(ALPHAS), 1))
        values = off + generator.standard_normal((len(ALPHAS), seeds))
        means = means_of(dict(zip(ALPHAS, values.tolist(), strict=True)))
        side = {alpha: means[alpha] for alpha in ALPHAS if -3 <= alpha <= 0}
        slope = fitted(side, dict(zip(ALPHAS, ALPHAS, strict=True)), wobble)
        found += isinstance(slope, Estimate) and slope.value > 0 and slope.p <= LEVEL
    return found / runs


def coverage(scatter: str, seeds: int, runs: int) -> float:
    """Return how often the 95 % interval of the difference of two equal alphas, of six, holds 0."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(runs):
        groups = {alpha: SCATTERS[scatter](generator, seeds) for alpha in range(6)}
        found = contrast(means_of(groups), {1: 1.0, 0: -1.0})
        held += found.low <= 0 <= found.high
    return held / runs


def _normal(generator: np.random.Generator, seeds: int) -> list[float]:
    return list(generator.standard_normal(seeds))


def _skewed(generator: np.random.Generator, seeds: int) -> list[float]:
    """Draw seeds of which a few fall far below the others, further at some alphas than others."""
    return list(generator.uniform(0.5, 2.0) * -(generator.lognormal(size=seeds) - math.exp(0.5)))


def _outlying(generator: np.random.Generator, seeds: int) -> list[float]:
    """Draw seeds of which one in ten scatters eight times as far."""
    return list(
        generator.standard_normal(seeds) * np.where(generator.random(seeds) < 0.1, 8.0, 1.0)
    )


SCATTERS = {"normal": _normal, "skewed": _skewed, "outlying": _outlying}


def spreads(folder: Path, claims: list[Claim]) -> dict[Reading, float]:
    """Return a study's standard deviations between seeds, for the readings of claims."""
    ((store,), known) = open_studies(folder.parent, folder.name), {}
    rows = current_rows(store, None)
    networks = Networks(rows[rows["layer"].isna()]).trained
    for reading in {each for claim in claims for test in claim.tests for each in read_by(test)}:
        try:
            means = means_of(groups_of(networks, read(networks, reading)))
        except UntestedError:
            continue
        known[reading] = math.sqrt(float(np.median([each.variance for each in means.values()])))
    return known


def main(path: str | None = None) -> None:
    """Print the power of each claim, and how often it is decided wrongly, as Markdown."""
    claims = [claim for claim in shipped_claims() if not isinstance(claim.tests[0], Flags)]
    known = spreads(Path(path), claims) if path else {}
    sizes = [str(each) for each in SEEDS]
    _print(["claim", *(f"power, {n} seeds" for n in sizes), "wrongly decided", "at"])
    _print(["---"] * (len(sizes) + 3))
    for claim in claims:
        powers, worst = [], (0.0, "-")
        for seeds, world in product(SEEDS, WORLDS):
            made = MadeRows(claim, world, seeds, known)
            found = outcomes(made, RUNS)
            worst = max(worst, (wrong(made, found), f"{world}, {seeds} seeds"))
            powers += [f"{power(found):.2f}"] if world == "true" else []
        _print([claim.id, *powers, f"{100 * worst[0]:.1f} %", worst[1]])
    _print(["seeds scatter", *(f"coverage, {n} seeds" for n in sizes)])
    _print(["---"] * (len(sizes) + 1))
    for name in SCATTERS:
        _print([name, *(f"{coverage(name, n, 10 * RUNS):.2f}" for n in SEEDS)])
    _print(["means wander by", *(f"false trends, {n} seeds" for n in sizes)])
    _print(["---"] * (len(sizes) + 1))
    for wandering, wobble in product(WANDERING, (0.0, WOBBLE)):
        shares = [false_trends(wandering, seeds, wobble, 10 * RUNS) for seeds in SEEDS]
        name = f"{wandering:g} SD, {'with' if wobble else 'without'} the allowance"
        _print([name, *(f"{100 * share:.1f} %" for share in shares)])


def _print(words: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(words)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:2])
