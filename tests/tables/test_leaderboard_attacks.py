"""What the leaderboard makes of attacks: known answers from written cells."""

import dataclasses
import math

import pandas as pd
import pytest

from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.tables import leaderboard
from selbench.tables.attacked import median_perturbation
from selbench.tables.formats import FORMATS, to_table

LEVELS = (1.0, 2.0, 4.0)
ACCURACY = {0: (0.8, 0.5, 0.1), 1: (0.9, 0.7, 0.4)}  # by alpha, at the levels


def cell(condition, level, alpha, suite="attacks"):
    return Cell(
        suite=suite, condition=condition, level=level, group="", source="attack", version=1,
        data="d", limit=None, subject=f"alpha={alpha} seed=0", alpha=float(alpha), seed=0,
        training="t", architecture="resnet8", weights=f"w{alpha}",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return filled(tmp_path / "runs")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return leaderboard(filled(tmp_path_factory.mktemp("plain") / "runs"))


def filled(root):
    store = StudyStore(root, "study")
    store.prepare()
    conditions = {"clean/clean": ["attack", 1, ""], "attacks/masking": ["attack", 1, ""]}
    for alpha, accuracies in ACCURACY.items():
        clean = Measurement("accuracy", 0.95, 100)
        store.write([Result(cell("clean", None, alpha, "clean"), [clean])])
        for name in ("fgsm-linf", "pgd-linf", "pgd-l2", "paper-pgd"):
            for level, accuracy in zip(LEVELS, accuracies, strict=True):
                conditions[f"attacks/{name}/{level:g}"] = ["attack", 1, ""]
                measured = [Measurement("accuracy", accuracy, 100)]
                store.write([Result(cell(name, level, alpha), measured)])
        checks = {"masking_zero_gradients": 0.3 * alpha, "masking_noise": -0.1}
        measured = [Measurement(name, value, 100) for name, value in checks.items()]
        store.write([Result(cell("masking", None, alpha), measured)])
    subjects = {
        f"alpha={a} seed=0": {"weights": f"w{a}", "training": "t", "diverged": False}
        for a in ACCURACY
    }
    store.finish({"data": "d", "training": "t", "conditions": conditions, "subjects": subjects})
    return store


def test_the_table_holds_means_over_budgets_and_the_last_step_of_the_papers_pgd(plain):
    table = plain.table.set_index("subject")
    assert table.loc["0", "pgd_linf"] == pytest.approx((0.8 + 0.5 + 0.1) / 3)
    assert table.loc["1", "fgsm"] == pytest.approx((0.9 + 0.7 + 0.4) / 3)
    assert table.loc["1", "paper_pgd"] == pytest.approx(0.4)
    assert table.loc["0", "median_l2"] == pytest.approx(2.0)
    assert table.loc["0", "masking"] == "none"
    assert table.loc["1", "masking"] == "zero gradients (1 of 1)"


def add_unchecked(store, **accuracies):
    """Add a network of alpha 2 on which masking was not checked."""
    store.write([Result(cell("clean", None, 2, "clean"), [Measurement("accuracy", 0.9, 100)])])
    for name, accuracy in accuracies.items():
        measured = [Measurement("accuracy", accuracy, 100)]
        store.write([Result(cell(name.replace("_", "-"), 1.0, 2), measured)])
    made = store.manifest()
    made["subjects"]["alpha=2 seed=0"] = {"weights": "w2", "training": "t", "diverged": False}
    store.finish(made)


def test_a_network_without_checks_beside_one_with_them_has_a_dash(store):
    add_unchecked(store)
    board = leaderboard(store)
    assert board.table.set_index("subject").loc["2", "masking"] is None
    for name, render in FORMATS.items():
        assert "zero gradients" in render([board]), name
    to_table(board)


def test_fgsm_that_beats_pgd_is_a_flag_beside_networks_that_were_checked_too(store):
    add_unchecked(store, fgsm_linf=0.1, pgd_linf=0.3)
    flags = leaderboard(store).table.set_index("subject")["masking"]
    assert flags["2"] == "one step beats many (1 of 1)"
    assert "one step" not in flags["1"]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({0.0: 0.9, 1.0: 0.5, 2.0: 0.2}, 1.0),
        ({0.0: 0.9, 1.0: 0.8, 2.0: 0.5, 4.0: 0.0}, 2.0),
        ({0.0: 0.9, 1.0: 0.7, 4.0: 0.3}, 2.0),  # half way, on a scale of logarithms
        ({0.0: 1.0, 1.0: 0.0, 2.0: 0.0}, 0.5),
        ({0.0: 0.75, 1.0: 0.25, 2.0: 0.0}, 0.5),  # half way from clean accuracy
        ({0.0: 0.38, 1.0: 0.37, 2.0: 0.2}, 0.0),  # clean images alone are that hard
    ],
)
def test_the_median_perturbation_is_where_half_have_fallen(accuracies, expected):
    assert median_perturbation(accuracies) == pytest.approx(expected)


def test_a_network_that_stands_up_to_every_budget_has_no_median():
    assert pd.isna(median_perturbation({0.0: 0.95, 1.0: 0.9, 2.0: 0.6}))


def test_without_clean_accuracy_there_is_no_median_below_the_first_budget():
    assert pd.isna(median_perturbation({0.0: math.nan, 1.0: 0.4}))
    assert median_perturbation({0.0: math.nan, 1.0: 0.7, 4.0: 0.3}) == pytest.approx(2)


def test_every_format_shows_attacks_and_flags(store, plain):
    again = leaderboard(store)
    for name, render in FORMATS.items():
        assert "zero gradients (1 of 1)" in render([plain]), name
        assert render([again]) == render([plain]), name


def test_the_terminal_has_a_table_of_attacks(plain):
    from rich.console import Console

    console = Console(width=80, record=True)
    console.print(to_table(plain))
    assert "study: attacks" in console.export_text()


def test_transferred_adversarials_count_from_the_latest_helper_alone(store):
    manifest = store.manifest()
    for helper, accuracy in (("old", 0.1), ("new", 0.9)):
        which = dataclasses.replace(cell("transfer-linf", 1.0, 0), helper=helper)
        store.write([Result(which, [Measurement("accuracy", accuracy, 100)])])
    manifest["conditions"]["attacks/transfer-linf/1"] = ["attack", 1, ""]
    manifest["subjects"]["alpha=0 seed=0"]["helper"] = "new"
    store.finish(manifest)
    assert leaderboard(store).table.set_index("subject").loc["0", "masking"] == "none"
    manifest["subjects"]["alpha=0 seed=0"]["helper"] = "old"
    store.finish(manifest)
    flags = leaderboard(store).table.set_index("subject").loc["0", "masking"]
    assert flags == "transfer beats white-box (1 of 1)"
