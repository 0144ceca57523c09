"""Calibration as a user meets it: the suite, the table, the figure, one sentence for mistakes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from kept import manifest, measurements

from selbench.datasets import load_dataset
from selbench.models import build_model, load_weights
from selbench.statistics.calibration import Spline, by_chance, expected_calibration_error, ks_error
from selbench.statistics.logit_layers import FITS
from selbench.store import StudyStore
from selbench.store.outcomes import outcome
from selbench.study import load_study
from selbench.training import train_and_validation, train_or_find

RUN = ("--suite", "calibration")
VALIDATION = 12  # images that the tiny study holds out
CONDITIONS = 5  # clean, and two corruptions at two severities

pytestmark = [pytest.mark.long(12), pytest.mark.usefixtures("few_conditions")]


def kept(folder="runs"):
    """Return outcomes with their cells' suite, condition, level and subject."""
    cells = {}
    for path in sorted((Path(folder) / "tiny" / "cells").glob("*.json")):
        for record in json.loads(path.read_text())["cells"]:
            cells[record["key"]] = record["cell"]
    frame = StudyStore(Path(folder), "tiny").outcomes().to_pandas()
    for name in ("suite", "condition", "level", "subject"):
        frame[name] = [cells[key][name] for key in frame["key"]]
    return frame


def logits_of(outcomes):
    """Return the logits that the store keeps as bytes."""
    rows = [np.frombuffer(row, "<f2") for row in outcomes["logits"]]
    return torch.from_numpy(np.stack(rows).astype(np.float64))


def caption(selbench, *words):
    return json.loads(selbench("calibration", *words, "--format", "json").out)[0]["caption"]


def test_the_suite_measures_what_the_outcomes_say(ran):
    ran(*RUN)
    outcomes, rows = kept(), measurements()
    assert set(rows["suite"]) == {"selectivity", "clean", "corruptions", "recalibration"}
    for subject in ("alpha=0 seed=0", "alpha=1 seed=0"):
        own = outcomes[outcomes["subject"] == subject]
        held_out = own[own["suite"] == "validation"]
        assert len(held_out) == VALIDATION
        right = (held_out["prediction"] == held_out["label"]).to_numpy()
        spline = Spline.fit(held_out["confidence"].to_numpy(), right)
        foggy = own[(own["condition"] == "brightness") & (own["level"] == 5)]
        assert len(foggy) == 18
        confidences = foggy["confidence"].to_numpy()
        correct = (foggy["prediction"] == foggy["label"]).to_numpy()
        expected = {
            "brier": foggy["brier"].mean(),
            "ece": expected_calibration_error(confidences, correct),
            "ece_null": by_chance(confidences).ece,
            "ks_error": ks_error(confidences, correct),
            "ece_spline": expected_calibration_error(spline(confidences), correct),
            "ks_error_spline": ks_error(spline(confidences), correct),
            "ks_error_spline_null": by_chance(spline(confidences)).ks,
        }
        found = rows[(rows["subject"] == subject) & (rows["level"] == 5)]
        found = found[found["condition"] == "brightness"].set_index("metric")["value"]
        known, logits = logits_of(held_out), logits_of(foggy)
        highest = logits.softmax(1).amax(1)
        np.testing.assert_allclose(highest, confidences, atol=2e-3)  # they are of half precision
        for name, fit in FITS.items():
            mended = fit(known, torch.tensor(held_out["label"].to_numpy()).long())(logits).softmax(
                1
            )
            hits = mended.argmax(1).numpy() == foggy["label"].to_numpy()
            expected[f"ece_{name}"] = expected_calibration_error(mended.amax(1), hits)
            expected[f"ks_error_{name}_null"] = by_chance(mended.amax(1)).ks
        expected["accuracy_g_layer"] = hits.mean()
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, abs=1e-6), metric


def test_every_network_is_fitted_to_the_images_held_out_of_its_own_training(selbench, tiny_study):
    selbench("run", tiny_study, *RUN, "--seed", "0,1", "--alpha", "1")
    study = load_study(str(tiny_study))
    dataset = load_dataset(study.dataset)
    outcomes, seen = kept(), []
    for seed in (0, 1):
        _, validation = train_and_validation(study, dataset, seed)
        device = validation.labels.device
        network = build_model(study.model, 3, dataset.moments)
        load_weights(network, train_or_find(study, dataset, 1.0, seed, device).weights)
        expected = outcome(network.eval()(validation.images / 255), validation.labels)
        own = outcomes[outcomes["subject"].eq(f"alpha=1 seed={seed}")]
        own = own[own["suite"] == "validation"]
        assert own["example"].tolist() == validation.examples.tolist()
        assert own["label"].tolist() == validation.labels.tolist()
        np.testing.assert_allclose(own["confidence"], expected["confidence"].detach(), atol=1e-5)
        seen.append(own["example"].tolist())
    assert seen[0] != seen[1]


@pytest.mark.soak
def test_it_goes_on_where_another_suite_stopped_and_is_not_done_twice(
    ran, selbench, tiny_study, evaluated
):
    ran("--suite", "corruptions")
    before = selbench("leaderboard", "--format", "csv").out
    evaluated.clear()
    selbench("run", tiny_study, *RUN)
    assert evaluated == [("clean", None)]  # the validation images alone
    assert manifest()["evaluated"] == 2 * (1 + CONDITIONS)
    assert selbench("leaderboard", "--format", "csv").out == before
    assert "18 test images" in selbench("leaderboard", "--format", "md").out
    stamp = (Path("runs") / "tiny" / "manifest.json").read_bytes()
    evaluated.clear()
    selbench("run", tiny_study, *RUN)
    assert not evaluated
    assert (Path("runs") / "tiny" / "manifest.json").read_bytes() == stamp


@pytest.mark.soak
def test_a_subset_of_networks_and_then_all_equals_all_at_once(ran, selbench, tiny_study):
    selbench("run", tiny_study, *RUN, "--alpha", "1", "--corruption", "brightness")
    selbench("run", tiny_study, *RUN)
    ran(*RUN, store="other")
    key = ["suite", "condition", "level", "subject", "layer", "metric"]
    one, other = (measurements(s).sort_values(key, ignore_index=True) for s in ("runs", "other"))
    np.testing.assert_array_equal(one["value"], other["value"])


@pytest.mark.soak
def test_a_limit_is_of_test_images_and_all_validation_images_are_taken(selbench, tiny_study):
    assert selbench("run", tiny_study, *RUN, "--limit", "9").code == 0
    counts = kept().groupby(["suite", "key"], observed=True).size().groupby("suite").unique()
    assert counts["validation"].tolist() == [VALIDATION]
    assert counts["clean"].tolist() == [9]
    assert set(measurements()["n"]) == {9}
    assert "9 test images" in selbench("leaderboard", "--format", "md").out
    selbench("run", tiny_study, "--suite", "clean", "--limit", "6")
    selbench("run", tiny_study, *RUN)
    assert manifest()["evaluated"] == 2 * (1 + 2 * CONDITIONS)  # the validation images not again
    command = f"`selbench run {tiny_study} --suite calibration --limit 6`"
    assert caption(selbench, "--limit", "6").endswith(f"recalibration, which {command} makes.")


@pytest.mark.soak
def test_other_corrupted_images_are_recalibrated_anew(ran, selbench, tiny_study):
    selbench("corrupt", "images", "set", "--corruption", "brightness,gaussian_noise")
    ran(*RUN)
    ended = selbench("run", tiny_study, *RUN, "--source", "set", "--corruption", "brightness")
    assert ended.code == 0, ended.err
    assert "; 1 corruption; " in caption(selbench)
    assert not any("gaussian_noise" in name for name in manifest()["conditions"])
    sources = measurements().query("suite == 'recalibration'")["source"].unique()
    assert len(sources) == 3  # clean, generated, on disk


@pytest.mark.soak
def test_a_brought_network_is_measured_and_not_recalibrated(selbench, tiny_study, checkpoint):
    assert selbench("run", tiny_study, *RUN, "--checkpoint", checkpoint).code == 0
    assert set(measurements()["suite"]) == {"selectivity", "clean", "corruptions"}
    end = f"not recalibrated, since what they were trained on is not known: {checkpoint}."
    assert caption(selbench).endswith(end)
    assert "spline" not in selbench("calibration", "--format", "md").out


def test_the_table_and_the_figure(ran, selbench):
    ran(*RUN)
    for name in ("table", "md"):
        ended = selbench("calibration", "tiny", "--format", name)
        assert ended.code == 0
        assert "tiny" in ended.out
    rows = json.loads(selbench("calibration", "--format", "json").out)[0]["rows"]
    assert [row["subject"] for row in rows] == ["0", "1"]
    assert 0 <= rows[0]["corrupted_ece_spline"] <= 1
    assert selbench("figure", "calibration", "--output", "c.png").code == 0


@pytest.mark.soak
def test_outcomes_of_an_earlier_version_are_read_beside_later_ones(ran, selbench, tiny_study):
    ran("--suite", "corruptions")
    for path in Path("runs/tiny/cells").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop(["brier", "logits"]), path)
    for path in Path("runs/tiny/cells").glob("*.json"):
        content = json.loads(path.read_text())
        old = ("accuracy", "confidence", "cross_entropy")
        for record in content["cells"]:
            record["measurements"] = [m for m in record["measurements"] if m["metric"] in old]
        made = content["writers"][0]["made"]
        path.write_text(json.dumps({"made": made, "cells": content["cells"]}))
    assert selbench("run", tiny_study, *RUN).code == 0
    outcomes = kept()
    late = outcomes["suite"] == "validation"
    assert outcomes.loc[late, "brier"].notna().all()
    assert outcomes.loc[~late, "brier"].isna().all()
    out = selbench("calibration", "--format", "md").out
    assert "spline ECE %" in out
    assert "clean ECE %" not in out
    assert "temp. ECE %" not in out
    command = f"`selbench run {tiny_study} --suite calibration`"
    assert f"without calibration errors, which {command} with another" in caption(selbench)


# Mistakes.


def test_too_few_validation_images_are_one_sentence(refused, tiny_study, edit):
    edit(tiny_study, "validation = 12", "validation = 9")
    assert refused("run", tiny_study, *RUN, "-q") == (
        "dataset.validation = 9 is too few to fit a recalibration; hold at least 10 images "
        "out, or use --suite corruptions"
    )


@pytest.mark.soak
def test_lost_outcomes_are_made_anew(ran, selbench, tiny_study):
    ran("--suite", "corruptions")
    before = kept()
    for path in Path("runs/tiny/cells").glob("*.parquet"):
        path.unlink()
    assert selbench("run", tiny_study, *RUN, "-q").code == 0
    assert set(before["key"]) < set(kept()["key"])


def test_wrong_words_are_one_sentence(selbench, refused, tiny_study):
    assert refused("calibration").startswith("there are no results in runs; make some with")
    selbench("run", tiny_study, "--alpha", "0", "--suite", "jacobian")
    message = (
        f"the study tiny holds no calibration; run `selbench run {tiny_study} --suite calibration`"
    )
    assert refused("calibration") == message
    assert refused("figure", "calibration") == message
    assert "unknown format 'xml'" in refused("calibration", "--format", "xml")
    assert "unknown study" in refused("calibration", "tini")
    assert "holds no results on 3 test images" in refused("calibration", "--limit", "3")
