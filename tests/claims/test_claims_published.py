"""The papers' own figure, digitised, through the claims' code: one value for each alpha."""

import json

import pandas as pd
import pytest

from selbench.claims.judging import About, judge
from selbench.claims.loading import chosen, shipped_claims

HIDDEN = {"jpeg", "snow", "elastic"}  # partly behind the legend or other curves
# Clean accuracy in per cent, ResNet18, off a figure of arXiv 2003.01262.
CLEAN = {
    -2: 52.95, -1: 53.62, -0.7: 53.36, -0.4: 53.24, -0.2: 52.69, 0: 51.57,
    0.2: 50.44, 0.4: 49.43, 0.7: 49.37, 1: 49.29, 2: 47.12,
}  # fmt: skip


LEGEND = {36.3, 26.32, 26.34}  # marks of the legend, not of a curve


def severities(blobs):
    """Return five accuracies of [value, height] blobs; the tallest are two marks that touch."""
    found = [(height, value) for value, height in blobs if value not in LEGEND]
    while len(found) < 5:
        height, value = max(found)
        found.remove((height, value))
        found += [(height / 2, value)] * 2
    assert len(found) == 5
    return sorted((value for _, value in found), reverse=True)


def row(suite, condition, level, alpha, accuracy):
    return {
        "suite": suite,
        "condition": condition,
        "level": level,
        "metric": "accuracy",
        "subject": f"alpha={alpha:g}",
        "alpha": float(alpha),
        "seed": 0,
        "layer": pd.NA,
        "value": accuracy / 100,
        "n": 10000,
    }


@pytest.fixture(scope="module")
def rows(test_data):
    path = test_data / "published" / "leavitt2020_tiny_imagenet_c_resnet18.json"
    figure = json.loads(path.read_text())
    cells = [
        row("corruptions", name, severity, float(alpha), value)
        for name, alphas in figure.items()
        if name not in HIDDEN
        for alpha, blobs in alphas.items()
        for severity, value in enumerate(severities(blobs), 1)
    ]
    return pd.DataFrame([*cells, *(row("clean", "clean", None, a, v) for a, v in CLEAN.items())])


def test_the_figure_reads_as_the_protocol_says(rows):
    claims = chosen(shipped_claims(), ["B1", "B2", "B3", "B4", "B5"])
    found = judge(rows, claims, About("published", "resnet18/tiny-imagenet")).verdicts
    by_id = {each.claim.id: each for each in found}
    assert {name: each.verdict for name, each in by_id.items()} == {
        "B1": "supported",
        "B2": "supported",  # on every corruption that can be read
        "B3": "supported",
        "B4": "inconclusive",  # one value for each alpha has no interval
        "B5": "supported",  # what positive alpha loses, it loses on clean images
    }
    assert all(each.own for each in found)
    effects = by_id["B2"].finding.effects
    assert [each.value for each in effects] == pytest.approx([-1] * 12)
    assert by_id["B1"].effect.detail == "16.1 % at alpha = -2, 12.6 % at alpha = 0"
    assert by_id["B3"].effect.detail == "0.305 at alpha = -2, 0.244 at alpha = 0"
    assert by_id["B5"].effect.value > 0
    changes = [each.value for each in by_id["B4"].finding.effects]
    assert changes == pytest.approx([-0.30, -0.32, -0.28, -0.20, -0.81], abs=0.02)


def test_without_division_the_loss_at_positive_alpha_is_not_excluded(rows):
    (b5,) = chosen(shipped_claims(), ["B5"])
    (test,) = b5.tests
    raw = test.model_copy(update={"reading": test.reading.model_copy(update={"over_clean": False})})
    claim = b5.model_copy(update={"tests": (raw,)})
    (found,) = judge(rows, [claim], About("published", "resnet18/tiny-imagenet")).verdicts
    assert found.verdict == "inconclusive"
    assert found.effect.value < 0
