"""Logits in outcomes: kept for networks that can be recalibrated, and read as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from selbench.statistics.logit_layers import compact
from selbench.store import Cell
from selbench.store.outcomes import (
    from_table,
    outcome,
    recalibrated,
    recalibrations,
    to_table,
)

FACTS = dict.fromkeys(("condition", "group", "source", "data", "training", "architecture"), "")
FACTS |= {"suite": "clean", "subject": "a", "level": None, "limit": None, "version": 1}
TRAINED = Cell(**FACTS, alpha=0.0, seed=0, weights="w")
ALL = {"spline", "temperature", "g_layer"}


def columns(classes=3, n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator)
    labels = torch.arange(n) % classes
    own = {"example": torch.arange(n), "label": labels, "logits": compact(logits)}
    return own | outcome(logits, labels)


def test_logits_come_back_and_networks_of_users_have_none():
    brought = replace(TRAINED, subject="mine", seed=None, alpha=None)
    several = replace(TRAINED, seed=1)
    wide = columns(classes=7)
    table = to_table([TRAINED, brought, several], [columns(), columns(), wide])
    found = from_table(table)
    assert torch.equal(found[TRAINED.key]["logits"], columns()["logits"])
    assert torch.equal(found[several.key]["logits"], wide["logits"])
    assert "logits" not in found[brought.key]
    assert "logits" not in to_table([brought], [columns()]).column_names
    assert len(table["logits"][0].as_py()) == 2 * 3


def test_what_lacks_logits_of_its_classes_has_the_spline_alone():
    fitted = recalibrations(columns())
    assert set(fitted) == ALL
    bare = {name: column for name, column in columns(seed=1).items() if name != "logits"}
    for other in (bare, columns(classes=7)):
        names = {each.metric for each in recalibrated(TRAINED, other, fitted).measurements}
        assert names == {f"{e}_spline{n}" for e in ("ece", "ks_error") for n in ("", "_null")}
    assert set(recalibrations(bare)) == {"spline"}


def test_a_g_layer_alone_has_an_accuracy():
    rows = recalibrated(TRAINED, columns(seed=1), recalibrations(columns())).measurements
    values = {each.metric: each.value for each in rows}
    assert [name for name in values if name.startswith("accuracy")] == ["accuracy_g_layer"]
    kinds = {name.removesuffix("_null").split("_", 1)[1] for name in values if "ece" in name}
    assert kinds == ALL
    assert all(each.n == 30 for each in rows)


def test_one_class_is_fitted_by_the_spline_alone():
    one = columns() | {"label": torch.zeros(30, dtype=torch.int64)}
    assert set(recalibrations(one)) == {"spline"}


@pytest.mark.parametrize("where", ["held out", "tested"])
def test_what_is_not_finite_has_no_number(where):
    broken = columns() | {"confidence": torch.full((30,), np.nan)}
    pair = (columns(seed=1), broken) if where == "held out" else (broken, columns())
    assert recalibrated(TRAINED, pair[0], recalibrations(pair[1])).measurements == []
