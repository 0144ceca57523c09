"""The shipped claims: all there, about things that exist, and each of them can fail."""

from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from selbench.claims.claim import KINDS, makers
from selbench.claims.sources import shipped_claims
from selbench.claims.worlds import SEEDS, WORLDS, MadeRows, outcomes, read_by, wrong
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import ModelSpec
from selbench.suites import SUITES, Analysis, Comparison, HeldOut, Setting
from selbench.suites.ablation import Ablation
from selbench.suites.stability import Stable

CLAIMS = {claim.id: claim for claim in shipped_claims()}
SETTING = Setting(32, 32, validation=HeldOut("", 100, lambda seed: None))


def readings(claim):
    return [each for test in claim.tests for each in read_by(test)]


def test_all_of_the_protocol_are_there():
    counts = {"A": 10, "B": 8, "C": 8, "D": 6, "E": 4, "F": 3}
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
    for suite in (
        "selectivity",
        "dimensionality",
        "gradients",
        "jacobian",
        "ablation",
        "stability",
    ):
        for piece in SUITES[suite](SETTING):
            if isinstance(piece, Analysis):
                rows = piece.measure(model.eval().requires_grad_(False), split, 4)
            elif isinstance(piece, Ablation):
                few = replace(piece, shares_removed=(0.0,))
                (rows,) = few.measure(model.eval().requires_grad_(False), split, split.images)
            elif isinstance(piece, Stable):
                rows = piece.measure(model.eval().requires_grad_(False), split)[0]
            elif isinstance(piece, Comparison) and piece.name == "contrast":
                (rows,) = piece.measure(model.eval(), split, [255 - split.images], 4)
            else:
                continue
            found[piece.suite, piece.name] = {m.metric for m in rows if m.layer is None}
    return found


@pytest.mark.soak
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


CERTAIN = {"true": "supported", "reversed": "refuted"}


@pytest.mark.parametrize("world", CERTAIN)
@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.sample("name")
def test_every_claim_can_be_supported_and_refuted(name, world):
    claim = CLAIMS[name]
    still = dict.fromkeys(readings(claim), 1e-4)
    ((verdict, _),) = outcomes(MadeRows(claim, world, 3, still), 1)
    assert verdict == CERTAIN[world]


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in CLAIMS if name != "C4"])
def test_claims_are_rarely_decided_wrongly(name):
    """In every made world, at every number of seeds; C4 is a count."""
    runs = {}
    for seeds, world in product(SEEDS, WORLDS):
        made = MadeRows(CLAIMS[name], world, seeds, {})
        runs[seeds, world] = wrong(made, outcomes(made, 60))
    mean = sum(runs.values()) / len(runs)
    assert mean <= 0.05, runs
    assert max(runs.values()) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5, runs  # 60 draws scatter


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
