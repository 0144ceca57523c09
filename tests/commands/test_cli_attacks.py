"""Attacks as users meet them: the command, what it keeps, and the figure of it."""

from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from selbench.attacks import gradient, strong
from selbench.store import StudyStore
from selbench.suites import attacked as suites
from selbench.tables.current import current_rows


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """Take a tenth of the steps: what attacks find is for tests of attacks."""
    monkeypatch.setattr(suites, "STEPS", 4)
    monkeypatch.setattr(strong, "STEPS", 4)


@pytest.fixture
def attacked(selbench, tiny_study, monkeypatch):
    """Attack one of the tiny study's networks on six images; return how the command ended."""
    words = ("--alpha", "0", "--suite", "attacks", "--limit", "6", "--save-adversarials", "6")
    return selbench("run", tiny_study, *words)


@pytest.mark.soak
def test_attacks_are_run_shown_kept_and_drawn(attacked, selbench, tiny_study, monkeypatch):
    assert attacked.code == 0
    assert "tiny: attacks" in attacked.out
    assert "masking flags" in " ".join(attacked.out.split())
    rows = pd.read_csv("runs/tiny/measurements.csv")
    accuracy = rows[(rows["suite"] == "attacks") & (rows["metric"] == "accuracy")]
    counts = accuracy.groupby("condition")["level"].nunique().to_dict()
    assert counts == {"fgsm-linf": 7, "pgd-linf": 7, "pgd-l2": 5, "paper-pgd": 4}
    for _, curve in accuracy[accuracy["condition"] != "fgsm-linf"].groupby(
        ["subject", "condition"]
    ):
        assert curve.sort_values("level")["value"].is_monotonic_decreasing
    saved = list(Path("runs/tiny/adversarials").iterdir())
    assert len(saved) == 4  # one for each attack
    tensors = load_file(next(path for path in saved if path.name.startswith("pgd-linf")))
    apart = (tensors["adversarial 16"] - tensors["clean"]).abs().amax()
    assert 0 < apart <= 16 / 255 + 1e-6

    monkeypatch.setattr(gradient, "gradients_of", None)  # nothing is attacked again
    again = selbench("run", tiny_study, "--alpha", "0", "--suite", "attacks", "--limit", "6")
    assert again.out == attacked.out
    assert selbench("figure", "attacks", "--output", "a.svg").out == "a.svg shows attacks of tiny\n"
    assert Path("a.svg").read_text().startswith("<?xml")


def test_only_the_attacks_that_are_named_are_made(selbench, tiny_study):
    words = ("run", tiny_study, "--alpha", "0", "--suite", "attacks", "--limit", "6")
    ended = selbench(*words, "--attack", "fgsm-linf,pgd-l2")
    assert (ended.code, "PGD L2" in ended.out, "paper PGD" in ended.out) == (0, True, False)
    rows = pd.read_csv("runs/tiny/measurements.csv")
    assert set(rows["condition"]) == {"clean", "fgsm-linf", "pgd-l2"}


@pytest.mark.soak
def test_a_later_run_of_something_else_keeps_what_was_transferred(selbench, tiny_study):
    words = ("run", tiny_study, "--limit", "6")
    ended = selbench(*words, "--suite", "attacks-strong", "--attack", "transfer-linf")
    assert ended.code == 0
    before = current_rows(StudyStore(Path("runs"), "tiny"))
    assert (before["condition"] == "transfer-linf").any()
    assert selbench(*words, "--suite", "jacobian", "--alpha", "0").code == 0
    after = current_rows(StudyStore(Path("runs"), "tiny"))
    kept = after[after["suite"] != "jacobian"]
    assert len(kept) == len(before)


@pytest.mark.soak
def test_a_later_run_of_something_else_keeps_corruptions_of_another_scale(selbench, tiny_study):
    words = ("run", tiny_study, "--alpha", "0", "--limit", "6", "--quiet")
    corrupted = ("--suite", "corruptions", "--corruption", "fog")
    for more in ((*corrupted, "--scale", "64"), ("--suite", "attacks", "--attack", "fgsm-linf")):
        assert selbench(*words, *more).code == 0
    store = StudyStore(Path("runs"), "tiny")
    fog = current_rows(store).query("condition == 'fog'")
    assert set(fog["source"]) == {"generated (constants of 64 pixels)"}
    assert store.manifest()["study"]["corruptions"]["scale"] == 64
    assert selbench(*words, *corrupted).code == 0
    assert set(current_rows(store).query("condition == 'fog'")["source"]) == {"generated"}


@pytest.mark.soak
def test_levels_that_an_attack_has_no_longer_leave_its_curve(selbench, tiny_study, monkeypatch):
    words = ("run", tiny_study, "--alpha", "0", "--limit", "6")
    for levels in ((0.5, 1.0), (1.0, 2.0)):
        monkeypatch.setattr(suites, "LINF_EPSILONS", levels)
        assert selbench(*words, "--suite", "attacks", "--attack", "fgsm-linf, pgd-linf").code == 0
    assert selbench(*words, "--suite", "clean").code == 0
    rows = current_rows(StudyStore(Path("runs"), "tiny"))
    found = rows[rows["metric"] == "accuracy"].groupby("condition")["level"].unique()
    assert {name: list(levels) for name, levels in found.items() if "linf" in name} == {
        "fgsm-linf": [1.0, 2.0],
        "pgd-linf": [1.0, 2.0],
    }
    assert len(rows[rows["condition"] == "clean"])
