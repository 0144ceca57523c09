"""Tables and the figure of calibration, from cells that are written here."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from selbench._kit.errors import SelbenchError
from selbench.figures.style import drawn
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.tables import current_rows
from selbench.tables.calibrated import by_network, calibration_board, metrics
from selbench.tables.formats import FORMATS, to_table

METRICS = metrics()
RECALIBRATED = {name for name, each in METRICS.items() if each.suite == "calibration"}
CONDITIONS = {"clean": (None,), "fog": (1.0, 2.0), "snow": (1.0, 2.0)}
PLACES = {"fog": 0.1, "snow": 0.3}


def value_of(metric, condition, level, seed=0):
    """Return a number that tells where it comes from."""
    place = 0.001 * list(METRICS).index(metric) + 0.01 * seed
    return place + (PLACES[condition] + 0.05 * level if level else 0)


def cells(subject, alpha, seed, leave=lambda *_: False):
    """Return what a network has in a store, but what is to be left out."""
    for condition, levels in CONDITIONS.items():
        for level in levels:
            plain = "clean" if level is None else "corruptions"
            for suite in (plain, "recalibration"):
                names = [m for m in METRICS if (m in RECALIBRATED) == (suite == "recalibration")]
                rows = [
                    Measurement(name, value_of(name, condition, level, seed or 0), 50)
                    for name in names
                    if not leave(name, condition, level)
                ]
                facts = dict.fromkeys(("group", "training", "architecture"), "")
                facts |= {"source": "s", "version": 1, "data": "d", "limit": None, "weights": "w"}
                own = {"subject": subject, "alpha": alpha, "seed": seed}
                cell = Cell(suite=suite, condition=condition, level=level, **facts, **own)
                yield Result(cell, rows)


@pytest.fixture
def store(tmp_path):
    return StudyStore(tmp_path / "runs", "study")


def write(store, *networks):
    store.prepare()
    results = [result for network in networks for result in network]
    store.write(results)
    names = {result.cell.subject for result in results}
    conditions = {
        "/".join([r.cell.suite, r.cell.condition, *([f"{r.cell.level:g}"] if r.cell.level else [])])
        for r in results
    }
    store.finish(
        {
            "data": "d",
            "training": "",
            "conditions": {name: ["s", 1, ""] for name in conditions},
            "subjects": {name: {"weights": "w", "diverged": False} for name in names},
        }
    )


def trained(seed, **options):
    return cells(f"alpha=0 seed={seed}", 0.0, seed, **options)


def test_means_are_over_severities_then_corruptions_then_seeds(store):
    write(store, *(trained(seed) for seed in range(3)))
    (row,) = calibration_board(store).table.to_dict("records")
    assert (row["study"], row["subject"], row["networks"]) == ("study", "0", 3)
    for number, metric in enumerate(METRICS):
        assert row[f"clean_{metric}"] == pytest.approx(0.001 * number + 0.01)
        assert row[f"corrupted_{metric}"] == pytest.approx(0.001 * number + 0.01 + 0.275)
        assert row[f"corrupted_{metric}_interval"] == pytest.approx(4.30265 * 0.01 / 3**0.5)


def test_only_conditions_that_all_networks_have_count(store):
    def no_bad_snow(metric, condition, level):
        return condition == "snow" and level == 2

    write(store, trained(0), trained(1, leave=no_bad_snow))
    rows = current_rows(store)
    means = by_network(rows, "ece", "corrupted")
    fog, snow = value_of("ece", "fog", 1.5), value_of("ece", "snow", 1.0)
    assert means["alpha=0 seed=0"] == pytest.approx((fog + snow) / 2)
    assert means["alpha=0 seed=1"] == pytest.approx((fog + snow) / 2 + 0.01)


def test_a_metric_that_a_network_lacks_somewhere_is_no_mean_of_the_rest(store):
    def no_brier_of_fog(metric, condition, level):
        return metric == "brier" and condition == "fog"

    write(store, trained(0, leave=no_brier_of_fog), trained(1))
    rows = current_rows(store)
    means = by_network(rows, "brier", "corrupted")
    assert np.isnan(means["alpha=0 seed=0"])
    assert means["alpha=0 seed=1"] > 0
    assert by_network(rows, "ece", "corrupted").notna().all()


def test_a_store_without_recalibration_has_no_such_columns_and_says_what_makes_them(store):
    write(store, trained(0, leave=lambda metric, *_: metric in RECALIBRATED))
    board = calibration_board(store)
    assert not board.table.filter(like="spline").shape[1]
    made = f"`selbench run study --suite calibration --store {store.root}`"
    assert board.caption.endswith(f"without recalibration, which {made} makes.")
    assert len(drawn("calibration", current_rows(store), "study").axes) == 1


def test_networks_whose_logits_were_not_kept_are_named(store):
    def without_logits(metric, *_):
        return "temperature" in metric or "g_layer" in metric

    write(store, trained(0), trained(1, leave=without_logits))
    board = calibration_board(store)
    assert board.caption.endswith(
        "; without temperature and g-layer, as the store lacks their logits: alpha=0 seed=1."
    )
    assert "; spline, temperature, g-layer: recalibrated on each" in board.caption
    assert board.table["clean_accuracy_g_layer"].notna().all()  # of the other network


def test_a_store_without_logits_shows_the_spline_alone(store):
    write(store, trained(0, leave=lambda name, *_: "temperature" in name or "g_layer" in name))
    board = calibration_board(store)
    assert board.caption.endswith(
        "without temperature and g-layer, as the store lacks their logits."
    )
    assert "; spline: recalibrated on each" in board.caption
    assert not board.table.filter(regex="temperature|g_layer").shape[1]
    assert len(drawn("calibration", current_rows(store), "study").axes) == 2


def test_a_store_of_an_earlier_version_shows_what_it_has(store):
    old = ("accuracy", "confidence", "cross_entropy")
    write(store, trained(0, leave=lambda metric, *_: metric not in old))
    board = calibration_board(store)
    assert set(board.groups) == {"clean images", "corrupted images"}
    shown = [name for columns in board.groups.values() for name in columns]
    assert shown == [f"{part}_{metric}" for part in ("clean", "corrupted") for metric in old]
    assert not board.table.filter(like="ece").shape[1]
    assert "null" not in board.caption
    assert board.caption.endswith(
        f"`selbench run study --suite calibration --store {store.root}` with another --store makes."
    )
    with pytest.raises(SelbenchError, match=r"^an earlier version evaluated the study study, with"):
        drawn("calibration", current_rows(store), "study")


def test_networks_without_a_number_are_named(store):
    def diverged(metric, *_):
        return metric.startswith(("ece", "ks_error"))

    def plain(metric, *_):
        return metric in RECALIBRATED

    brought = cells("<b>mine</b>.pth", None, None, leave=plain)
    write(store, trained(0), trained(1, leave=diverged), brought)
    board = calibration_board(store)
    assert "; without calibration errors: alpha=0 seed=1; " in board.caption
    assert "; not recalibrated: alpha=0 seed=1; " in board.caption
    assert board.caption.endswith("trained on is not known: <b>mine</b>.pth.")
    assert list(board.table["subject"]) == ["0", "<b>mine</b>.pth"]
    assert list(board.table["networks"]) == [2, 1]
    assert np.isnan(board.table["clean_ece_spline"][1])
    html = FORMATS["html"]([board])
    assert "<b>" not in html
    assert "&lt;b&gt;mine" in html


def test_formats_hold_the_same_numbers(store, tmp_path):
    write(store, trained(0), trained(1))
    board = calibration_board(store)
    (tmp_path / "board.csv").write_text(FORMATS["csv"]([board]))
    (row,) = pd.read_csv(tmp_path / "board.csv").to_dict("records")
    (same,) = json.loads(FORMATS["json"]([board]))[0]["rows"]
    for metric in METRICS:
        assert row[f"clean_{metric}"] == pytest.approx(same[f"clean_{metric}"])
    again = calibration_board(store)
    for name in ("md", "latex", "html"):
        text = FORMATS[name]([board])
        assert text == FORMATS[name]([again])
        assert f"{100 * row['corrupted_ece']:.1f} " in text
        assert f"{100 * row['corrupted_ece_null']:.1f}" in text
        assert f"{row['clean_brier']:.3f} " in text
        assert "corr. NLL" in text


def test_the_terminal_s_tables_fit_80_columns(store):
    from rich.console import Console

    write(store, trained(0), trained(1))
    console = Console(width=80, record=True)
    console.print(to_table(calibration_board(store)))
    text = console.export_text()
    assert "corr. ECE % null" in text
    assert "spline KS %" in text


def test_curves_begin_at_the_clean_images_and_the_null_is_dotted(store):
    write(store, *(trained(seed) for seed in range(3)))
    panels = drawn("calibration", current_rows(store), "study").axes
    shown = ("ece", "ece_spline", "ece_temperature", "ece_g_layer")
    for axes, metric in zip(panels, shown, strict=True):
        curve, null = axes.lines
        mean = [value_of(metric, "clean", None, 1)]
        for level in (1.0, 2.0):
            pair = [value_of(metric, condition, level, 1) for condition in PLACES]
            mean.append(sum(pair) / 2)
        assert list(curve.get_ydata()) == pytest.approx([100 * value for value in mean])
        assert null.get_linestyle() == ":"
        assert null.get_ydata()[0] == pytest.approx(
            100 * value_of(f"{metric}_null", "clean", None, 1)
        )
        words = [label.get_text() for label in axes.get_xticklabels()]
        assert words == ["clean", "1", "2"]


def test_networks_seen_on_clean_images_alone_have_a_point(store):
    write(store, (result for result in trained(0) if result.cell.level is None))
    board = calibration_board(store)
    assert not board.table.filter(like="corrupted").shape[1]
    axes = drawn("calibration", current_rows(store), "study").axes[0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([100 * value_of("ece", "clean", None)])


def test_a_store_without_outcomes_says_what_makes_them(store):
    write(store, [replace(result, cell=replace(result.cell, suite="x")) for result in trained(0)])
    made = f"selbench run study --suite calibration --store {store.root}"
    with pytest.raises(
        SelbenchError, match=f"^the study study holds no calibration; run `{made}`$"
    ):
        calibration_board(store)
