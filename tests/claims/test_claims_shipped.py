"""The shipped claims: all there, about things that exist, and each of them can fail."""

from collections import defaultdict

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from selbench.claims.claim import (
    KINDS,
    SIGNS,
    Difference,
    Equivalence,
    Flags,
    Matched,
    Method,
    NoTrend,
    Reading,
    Trend,
    Within,
    makers,
)
from selbench.claims.loading import shipped_claims
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import ModelSpec
from selbench.suites import SUITES, Analysis, Comparison, HeldOut, Setting

CLAIMS = {claim.id: claim for claim in shipped_claims()}
SETTING = Setting(32, 32, validation=HeldOut("", 100, lambda seed: None))
GRID = (-10.0, -5.0, -2.0, -1.0, -0.7, -0.4, -0.2, 0.0, 0.2, 0.4, 0.7, 1.0, 2.0)


def readings(claim):
    for test in claim.tests:
        named = [getattr(test, name, None) for name in ("reading", "less", "match")]
        chosen = getattr(test, "choose", None)
        yield from (each for each in [*named, chosen and chosen.reading] if each)


def test_all_of_the_protocol_are_there():
    counts = {"A": 10, "B": 8, "C": 8, "D": 6}
    assert list(CLAIMS) == [
        f"{part}{n}" for part, count in counts.items() for n in range(1, count + 1)
    ]
    assert {test.kind for claim in CLAIMS.values() for test in claim.tests} == set(KINDS)
    assert len({claim.hash for claim in CLAIMS.values()}) == len(CLAIMS)


def test_suites_conditions_and_levels_exist():
    assert set(makers().values()) <= set(SUITES)
    made = defaultdict(set)
    for suite in set(makers().values()):
        for piece in SUITES[suite](SETTING):
            made[piece.suite, piece.name] |= set(piece.levels)
    assert {suite for suite, _ in made} - {"validation"} == set(makers())  # it measures nothing
    for suite, maker in makers().items():
        assert suite in {piece.suite for piece in SUITES[maker](SETTING)}
    for each in (reading for claim in CLAIMS.values() for reading in readings(claim)):
        for name in (*each.conditions, *each.without):
            assert set(each.levels) <= made[each.suite, name], each
            assert made[each.suite, name], each


@pytest.fixture
def metrics(few_probes):
    """Return the metrics of whole networks by suite and condition, as suites measure them."""
    torch.manual_seed(0)
    spec = ModelSpec(name="resnet8", options={"width": 4})
    model = build_model(spec, 4, ((0.5,) * 3, (0.25,) * 3))
    low = torch.rand(12, 3, 4, 4)
    smooth = F.interpolate(low, size=(16, 16), mode="bilinear")
    split = make_split((255 * smooth).to(torch.uint8), torch.arange(12) % 4)
    found = {}
    for suite in ("selectivity", "dimensionality", "gradients", "jacobian"):
        for piece in SUITES[suite](SETTING):
            if isinstance(piece, Analysis):
                rows = piece.measure(model.eval().requires_grad_(False), split, 4)
            elif isinstance(piece, Comparison) and piece.name == "contrast":
                (rows,) = piece.measure(model.eval(), split, [255 - split.images], 4)
            else:
                continue
            found[piece.suite, piece.name] = {m.metric for m in rows if m.layer is None}
    return found


def test_metrics_exist(metrics):
    for claim in CLAIMS.values():
        for each in readings(claim):
            if each.metric == "accuracy":
                continue
            suite = {name: known for (of, name), known in metrics.items() if of == each.suite}
            names = each.conditions or [name for name in suite if name not in each.without]
            assert names
            for name in names:
                assert each.metric in suite[name], (claim.id, each)


class Rows:
    """Rows of networks for which all tests of a claim hold, or none."""

    def __init__(self, claim, holds):
        self.sign = 1 if holds else -1
        self.effects = defaultdict(list)  # of cells: functions of alpha
        self.brought = defaultdict(dict)
        for test in claim.tests:
            for reading in (each for each in readings(claim)):
                self.add(reading, lambda alpha: 0.0)
                if reading.over_clean:
                    self.add(Reading(suite="clean", conditions=("clean",)), lambda alpha: 0.0)
            KNOWN[type(test)](self, test)

    def add(self, reading, effect):
        every = {"corruptions": ("fog", "snow"), "representation": ("fog", "paper-pgd")}
        names = reading.conditions or every.get(reading.suite, ("clean",))
        for name in names:
            if name not in reading.without:
                for level in reading.levels or (1.0,):
                    self.effects[reading.suite, name, level, reading.metric].append(effect)

    def trend(self, test):
        sign = self.sign * SIGNS[test.direction] * (-1 if isinstance(test, NoTrend) else 1)
        low, high = test.between
        self.add(test.reading, lambda alpha: 0.02 * sign * min(max(alpha, low), high))

    def range_of(self, test):
        """Return the alphas that are compared; make a choice come out at the lowest of the grid."""
        if test.between:
            low, high = test.between
            return lambda alpha: low <= alpha <= high and alpha != 0
        share = test.choose.share or 3.0
        self.add(test.choose.reading, lambda alpha: 0.5 * (share * 0.9 - 1) * (alpha == GRID[0]))
        return lambda alpha: alpha == GRID[0]

    def difference(self, test):
        change = self.sign * SIGNS[test.direction] * (2 * test.at_least + 0.02)
        inside = self.range_of(test)
        self.add(test.reading, lambda alpha: change * inside(alpha))

    def equivalence(self, test):
        inside = self.range_of(test)
        change = 0.0 if self.sign > 0 else -4 * test.margin
        self.add(test.reading, lambda alpha: change * inside(alpha))

    def within(self, test):
        self.add(test.reading, lambda alpha: self.sign * SIGNS[test.direction] * 0.1)

    def method(self, test):
        value = 0.5 + self.sign * SIGNS[test.direction] * 0.1
        for number in range(3):
            self.brought[f"{test.method}-{number}.pth"] = value + 0.001 * number

    def matched(self, test):
        self.add(test.match, lambda alpha: 0.5 * (1.5 ** min(max(alpha, -1), 1) - 1))
        change = self.sign * SIGNS[test.direction] * 0.1
        self.add(test.reading, lambda alpha: change * (alpha > 0))

    def flags(self, test):
        check = Reading(suite="attacks", conditions=("masking",), metric="masking_zero_gradients")
        self.add(check, lambda alpha: -0.5 if self.sign > 0 else 0.0)
        for name in ("hopskipjump-l2", "transfer-linf"):
            self.add(Reading(suite="attacks-strong", conditions=(name,)), lambda alpha: 0.0)


KNOWN = {
    Trend: Rows.trend,
    NoTrend: Rows.trend,
    Difference: Rows.difference,
    Equivalence: Rows.equivalence,
    Within: Rows.within,
    Method: Rows.method,
    Matched: Rows.matched,
    Flags: Rows.flags,
}


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_can_be_supported_and_refuted(made, brought, verdict, name, holds):
    claim = CLAIMS[name]
    wanted = Rows(claim, holds)
    cells = {
        cell: lambda alpha, effects=effects: 0.5 + sum(effect(alpha) for effect in effects)
        for cell, effects in wanted.effects.items()
    }
    noise = 0.0 if name == "C4" else 0.001
    rows = made(cells, alphas=GRID, noise=noise)
    if wanted.brought:
        files = brought("selectivity", "selectivity_index", wanted.brought)
        rows = pd.concat([rows, files.assign(level=1.0)], ignore_index=True)
    found = verdict(rows, claim, (claim.networks or ("m/d",))[0])
    assert found.verdict == ("supported" if holds else "refuted"), found
    assert found.own


def test_the_hash_is_of_all_that_decides():
    claim = CLAIMS["B1"]
    (test,) = claim.tests
    assert claim.hash == claim.model_copy().hash
    others = [
        claim.model_copy(update={"sentence": "Another."}),
        claim.model_copy(update={"published": "1 point"}),
        claim.model_copy(update={"networks": ()}),
        claim.model_copy(update={"tests": (test, test)}),
        *(
            claim.model_copy(update={"tests": (test.model_copy(update=change),)})
            for change in (
                {"between": (-1.0, 0.0)},
                {"direction": "up"},
                {"at_least": 0.4},
                {"strict": False},
                {"reading": test.reading.model_copy(update={"levels": (1.0,)})},
            )
        ),
    ]
    assert len({claim.hash, *(each.hash for each in others)}) == len(others) + 1
