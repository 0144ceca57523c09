"""The papers' own figure, digitised, through the claims' code: one value for each alpha."""

import pytest
from published import published

from selbench.claims.judging import About, judge
from selbench.claims.sources import chosen, shipped_claims


@pytest.fixture(scope="module")
def rows(test_data):
    return published(test_data)


def test_the_figure_reads_as_the_protocol_says(rows):
    claims = chosen(shipped_claims(), ["B1", "B2", "B3", "B4", "B5"])
    found = judge(rows, claims, About("published", "resnet18/tiny-imagenet")).verdicts
    by_id = {each.claim.id: each for each in found}
    assert {name: each.verdict for name, each in by_id.items()} == {
        "B1": "supported",
        "B2": "inconclusive",  # with one value for each alpha, sure of each alone but not of five
        "B3": "supported",
        "B4": "inconclusive",  # one value for each alpha has no interval
        "B5": "supported",  # what positive alpha loses, it loses on clean images
    }
    assert all(each.standing == "own" for each in found)
    effects = by_id["B2"].finding.effects
    assert len(effects) == 12
    assert all(each.value < 0 and each.p_for < 0.05 for each in effects)
    assert by_id["B1"].effect.detail == "16.1 % at alpha = -2, 12.6 % at alpha = 0"
    ratio, *_ = by_id["B3"].finding.effects
    assert ratio.detail == "0.305 at alpha = -2, 0.244 at alpha = 0"
    scales = {each.label: each.value for each in by_id["B5"].finding.effects}
    assert list(scales) == ["ratio", "log odds", "points"]
    assert scales["ratio"] > 0
    changes = [each.value for each in by_id["B4"].finding.effects]
    assert changes == pytest.approx([-0.30, -0.32, -0.28, -0.20, -0.81], abs=0.02)


def test_by_itself_accuracy_falls_a_little_at_positive_alpha(rows):
    (b5,) = chosen(shipped_claims(), ["B5"])
    raw = b5.tests[0].model_copy(update={"scales": {}, "margin": 0.003})
    claim = b5.model_copy(update={"tests": (raw,)})
    (found,) = judge(rows, [claim], About("published", "resnet18/tiny-imagenet")).verdicts
    assert found.verdict == "inconclusive"
    assert found.effect.value < 0
