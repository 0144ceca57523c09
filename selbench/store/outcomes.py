"""Outcomes: a network's results for each example, and the measurements of cells from them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64
from torch import Tensor

from selbench._kit.types import Labels, Logits
from selbench.attacks.ladder import decisions
from selbench.statistics.calibration import (
    Confidences,
    Spline,
    brier_score,
    by_chance,
    expected_calibration_error,
    ks_error,
    negative_log_likelihood,
)
from selbench.store import BOUND, DRAWN, SMOOTHED, Cell, Measurement, Result, is_attack

OUTCOME = ("example", "label", "prediction", "confidence", "margin", "loss", "brier")
FLIPS = ("flip_attacked", "flip_bounded", "flip_draws")  # of random networks alone
FURTHER = ("masking_", "given_", "passes_", "smoothed_", "flip_")  # columns whose mean counts
Columns = dict[str, Tensor]  # one row per example, on the CPU


def outcome(
    logits: Logits, labels: Labels, among: Int64[Tensor, " among"] | None = None
) -> Columns:
    """Return the outcome of each example, on the device of the logits.

    It has the prediction, its probability, the logit margin of the label, the cross-entropy and the
    Brier score. With `among`, rising class numbers, other logits are left out.
    """
    if among is not None:
        part = outcome(logits[:, among], torch.searchsorted(among, labels))
        return {**part, "prediction": among[part["prediction"]]}
    logits = logits.float()
    label_logits = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return {
        "prediction": logits.argmax(1),
        "confidence": logits.softmax(1).amax(1),
        "margin": label_logits - others,
        "loss": negative_log_likelihood(logits, labels),
        "brier": brier_score(logits, labels),
    }


def summary(cell: Cell, columns: Columns) -> Result:
    """Return a cell with the measurements of its outcomes.

    Attacks have no calibration errors, because they stop at an error, so that confidences depend on
    the attack. Neither have bounds (confidences of the worst case), smoothed and drawn networks,
    and outcomes with logits that are not finite.
    """
    values = {
        "accuracy": _mean(_correct(columns)),
        "confidence": _mean(columns["confidence"]),
        "cross_entropy": _mean(columns["loss"]),
        "brier": _mean(columns["brier"]),
    }
    uncalibrated = is_attack(cell.source) or cell.source in (BOUND, SMOOTHED, DRAWN)
    if not uncalibrated and _finite(columns):
        values |= _errors(columns["confidence"], _correct(columns))
    values |= {name: _mean(columns[name]) for name in columns if name.startswith(FURTHER)}
    return _result(cell, values, columns)


def recalibrated(cell: Cell, columns: Columns, held_out: Columns) -> Result:
    """Return a cell with the calibration errors after a spline fit to `held_out`.

    It has no measurements if a network's outputs are not finite.
    """
    if not (_finite(columns) and _finite(held_out)):
        return Result(cell, [])
    spline = Spline.fit(held_out["confidence"], _correct(held_out))
    values = _errors(spline(columns["confidence"]), _correct(columns), "_spline")
    return _result(cell, values, columns)


def to_table(cells: Sequence[Cell], outcomes: Sequence[Columns]) -> pa.Table:
    """Return the outcomes of cells as one table: a row for each cell and example."""
    narrow = {"example": pa.int32(), "label": pa.int16(), "prediction": pa.int16()}
    tables = []
    for cell, columns in zip(cells, outcomes, strict=True):
        names = [*OUTCOME, *(name for name in FLIPS if name in columns)]
        arrays = [
            pa.array(columns[name].numpy()).cast(narrow.get(name, pa.float32())) for name in names
        ]
        if "by" in columns:
            names, arrays = [*names, "by"], [*arrays, pa.array(decisions(columns["by"]))]
        key = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(arrays[0]), np.int32)), pa.array([cell.key])
        )
        tables.append(pa.table([key, *arrays], names=["key", *names]))
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def from_table(table: pa.Table) -> dict[str, Columns]:
    """Return the columns for calibration (label, prediction, confidence), by cell's key."""
    frame = table.select(["key", "label", "prediction", "confidence"]).to_pandas()
    return {
        str(key): {name: torch.tensor(part[name].to_numpy()) for name in part if name != "key"}
        for key, part in frame.groupby("key", observed=True)
    }


def _correct(columns: Columns) -> Tensor:
    return columns["prediction"] == columns["label"]


def _errors(confidences: Confidences, correct: Tensor, suffix: str = "") -> dict[str, float]:
    """Return calibration errors and their chance levels, by metric."""
    chance = by_chance(confidences)
    return {
        f"ece{suffix}": expected_calibration_error(confidences, correct),
        f"ece{suffix}_null": chance.ece,
        f"ks_error{suffix}": ks_error(confidences, correct),
        f"ks_error{suffix}_null": chance.ks,
    }


def _finite(columns: Columns) -> bool:
    return bool(columns["confidence"].isfinite().all())


def _mean(column: Tensor) -> float:
    return column.double().mean().item()


def _result(cell: Cell, values: dict[str, float], columns: Columns) -> Result:
    n = len(columns["label"])
    return Result(cell, [Measurement(metric, value, n) for metric, value in values.items()])
