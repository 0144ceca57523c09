"""Laws over all metrics: what is said of each, and that committed results keep to it."""

import ast
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from selbench.claims.claim import makers
from selbench.figures import FIGURES
from selbench.metrics import NUMBER, Metric, Metrics, Panel, RowFilter
from selbench.suites import METRICS, SUITES
from selbench.tables import COLUMNS
from selbench.tables.means import by_condition, by_level, mean, over_seeds, pooled

ROOT = Path(__file__).parents[2]
DOCS = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
EVERY = {**METRICS, **COLUMNS}


def test_a_metric_says_what_it_means_in_one_sentence():
    for name, metric in EVERY.items():
        assert metric.meaning, name
        assert ". " not in metric.meaning, name
        assert not metric.meaning.endswith("."), name
        assert metric.meaning.isprintable(), name
        assert metric.source, name


def test_a_metric_names_what_there_is():
    for name, metric in EVERY.items():
        assert not metric.suite or metric.suite in SUITES, name
        assert not metric.null_of or metric.null_of in METRICS, name
        assert metric.panel is None or metric.panel.figure in FIGURES, name
        assert metric.bounds[0] < metric.bounds[1], name
        assert metric.board in ("leaderboard", "calibration", ""), name


def test_metrics_that_tables_show_are_in_the_documentation():
    shown = [each for each in METRICS.values() if each.board and not each.null_of]
    assert [each.name for each in shown if f"`{each.name}`" not in DOCS] == []


def test_headings_are_unique():
    assert len({metric.heading for metric in EVERY.values()}) == len(EVERY)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("results/*/leaderboard.csv")), ids=lambda path: path.parent.name
)
def test_columns_of_committed_results_are_within_bounds(path):
    table = pd.read_csv(path)
    for name, metric in COLUMNS.items():
        low, high = metric.bounds
        if name in table or not metric.rare:  # which files lack that have none
            assert table[name].dropna().between(low, high).all(), name


@pytest.mark.soak
def test_measurements_of_committed_results_are_within_bounds():
    names = ["suite", "condition", "group", "metric", "value"]
    rows = pd.read_parquet(ROOT / "results/digits/measurements.parquet", columns=names)
    seen = set()
    for name, metric in METRICS.items():
        values = metric.reads.chosen(rows)["value"]
        if metric.average in ("mean", "pooled", "last") and len(values):
            seen.add(name)
            assert values.dropna().between(*metric.bounds).all(), name
    assert seen >= {"accuracy", "selectivity", "two_nn", "jacobian"}


HEAVY = {"foolbox", "sklearn", "scipy.special", "scipy.stats", "matplotlib", "torchvision"}


@pytest.mark.soak
def test_reading_tables_loads_no_library_that_only_measuring_needs():
    code = "import selbench.tables.formats, sys; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) == set()
    assert "selbench.suites" in loaded


def named(statements):
    """Return what statements import when they are run: nothing in a function or for types alone."""
    for each in statements:
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            yield from (f"{each.module}.{alias.name}" for alias in each.names)
        elif isinstance(each, ast.ClassDef | ast.Try | ast.With):
            yield from named(each.body)


def read_in_turn(name):
    """Return the modules that importing one imports, found in their files; packages too."""
    left, seen = [name], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        left += [name.rpartition(".")[0]] if "." in name else []
        path = ROOT / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = file.read_text() if file.is_file() else ""
        left += named(ast.parse(text).body)
        if "\ndiscover(__name__)" in text:
            left += [f"{name}.{each.stem}" for each in path.glob("*.py")]
    return seen


def test_no_module_that_tables_need_imports_such_a_library():
    seen = read_in_turn("selbench.tables.formats")
    assert HEAVY & seen == set()
    assert "selbench.suites" in seen


def test_what_claims_read_is_made_by_a_suite():
    known = makers()
    assert set(known.values()) <= set(SUITES)
    assert known["recalibration"] == "calibration"
    assert known["representation"] == "dimensionality"
    assert "training" not in known  # every run has it, and no suite makes it


def test_a_metric_is_refused_that_cannot_be_shown():
    for wrong, reason in (
        ({"name": "two words"}, "letters"),
        ({"better": 2}, "better of the metric m is 1, -1 or 0, not 2"),
        ({"average": "median"}, "average of the metric m is none of mean, "),
    ):
        with pytest.raises(ValueError, match=reason):
            Metric(**{"name": "m", "label": "", "meaning": "", "suite": "", "reads": ROWS} | wrong)


ROWS = RowFilter(("own",), "thing")


def metric(name, **given):
    return Metric(name, name, "a meaning", "clean", ROWS, **given)


def test_figures_find_their_metrics_and_what_chance_gives():
    found = Metrics("metric")
    for each in (
        metric("late", place=1, panel=Panel("f", "late")),
        metric("low", panel=Panel("f", "low", row=1)),
        metric("first", panel=Panel("f", "first")),
        metric("other", panel=Panel("g", "other")),
        metric("null", null_of="first"),
    ):
        found(each)
    assert [each.name for each in found.drawn_in("f")] == ["first", "late", "low"]
    assert found.null_of(found["first"]) is found["null"]
    assert found.null_of(found["late"]) is None
    with pytest.raises(ValueError, match="two metrics are named 'low'"):
        found(metric("low"))


def test_rows_are_chosen_by_all_that_is_said():
    rows = pd.DataFrame(
        [
            ("own", "a", "noise", "thing"),
            ("own", "b", "blur", "thing"),
            ("own", "c", "noise", "another"),
            ("other", "a", "noise", "thing"),
        ],
        columns=["suite", "condition", "group", "metric"],
    )
    for given, wanted in (
        ({}, [0, 1]),
        ({"conditions": ("b",)}, [1]),
        ({"without": ("b",)}, [0]),
        ({"groups": ("blur",)}, [1]),
    ):
        assert list(RowFilter(("own",), "thing", **given).chosen(rows).index) == wanted


@pytest.fixture
def table():
    """Return cells of two networks: of unlike numbers of levels, one of which one lacks."""
    rows = [("fog", 1.0, 0.2), ("fog", 2.0, 0.4), ("snow", 1.0, 0.9), ("clean", None, 0.5)]
    both = [(*row, "a") for row in rows] + [(*row, "b") for row in rows[:2]]
    return pd.DataFrame(both, columns=["condition", "level", "value", "subject"])


def test_means_are_over_levels_then_conditions_and_missing_where_a_cell_is(table):
    assert by_condition(by_level(table))["a"].to_dict() == pytest.approx(
        {"fog": 0.3, "snow": 0.9, "clean": 0.5}
    )
    means = mean(by_level(table))
    assert means["a"] == pytest.approx((0.3 + 0.9 + 0.5) / 3)
    assert pd.isna(means["b"])


def test_pooled_means_are_over_the_cells_that_all_have(table):
    assert pooled(table).to_dict() == pytest.approx({"a": 0.3, "b": 0.3})


def test_seeds_are_averaged_with_an_interval_and_a_count():
    found = over_seeds(pd.Series([1.0, 3.0, float("nan")]), "x")
    assert found["x"] == 2
    assert found["x_n"] == 2
    assert found["x_interval"] == pytest.approx(12.706, abs=1e-3)  # t of one degree of freedom


def test_headings_have_their_unit():
    assert metric("speed").heading == "speed %"
    assert metric("speed", unit=NUMBER).heading == "speed"
