"""Outcomes: a network's results for each example, and the measurements of cells from them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float16, Int64
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
from selbench.statistics.logit_layers import FITS, LogitLayer
from selbench.store import BOUND, DRAWN, SMOOTHED, Cell, Measurement, Result, is_attack

OUTCOME = ("example", "label", "prediction", "confidence", "margin", "loss", "brier")
KEPT_CLASSES = 100  # with more, logits take too much room
FLIPS = ("flip_attacked", "flip_bounded", "flip_draws")  # of random networks alone
FURTHER = ("masking_", "given_", "passes_", "smoothed_", "flip_")  # columns whose mean counts
Columns = dict[str, Tensor]  # one row per example, on the CPU
Recalibrated = tuple[Confidences, Tensor]  # and whether the predictions are right
Recalibrate = Callable[[Columns], Recalibrated | None]  # None for what lacks their logits


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


def recalibrations(held_out: Columns) -> dict[str, Recalibrate]:
    """Fit all recalibrations to outcomes, by the suffix of their metrics.

    There is none if outputs are not finite, and the spline alone without logits and for images of
    one class.
    """
    if not _finite(held_out):
        return {}
    spline = Spline.fit(held_out["confidence"], _correct(held_out))
    found: dict[str, Recalibrate] = {
        "spline": lambda columns: (spline(columns["confidence"]), _correct(columns))
    }
    labels = held_out["label"].long()
    if "logits" in held_out and len(labels.unique()) > 1:
        layers = {name: fit(held_out["logits"], labels) for name, fit in FITS.items()}
        found |= {name: partial(_through, layer) for name, layer in layers.items()}
    return found


def recalibrated(cell: Cell, columns: Columns, fitted: dict[str, Recalibrate]) -> Result:
    """Return a cell with the accuracy and the calibration errors after each recalibration.

    It has no measurements if a network's outputs are not finite. Only what can change predictions
    has an accuracy.
    """
    values: dict[str, float] = {}
    for name, recalibrate in fitted.items() if _finite(columns) else ():
        if (found := recalibrate(columns)) is not None:
            values |= _errors(*found, f"_{name}")
            values |= {"accuracy_g_layer": _mean(found[1])} if name == "g_layer" else {}
    return _result(cell, values, columns)


def _through(layer: LogitLayer, columns: Columns) -> Recalibrated | None:
    """Return the confidences after a layer on the logits, if there are logits of its classes."""
    if "logits" not in columns or columns["logits"].shape[1] != len(layer.bias):
        return None
    confidences, predictions = layer(columns["logits"]).softmax(1).max(1)
    return confidences, predictions == columns["label"]


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
        if "logits" in columns and cell.seed is not None:  # others are never recalibrated
            names, arrays = [*names, "logits"], [*arrays, _to_bytes(columns["logits"])]
        key = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(arrays[0]), np.int32)), pa.array([cell.key])
        )
        tables.append(pa.table([key, *arrays], names=["key", *names]))
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def from_table(table: pa.Table) -> dict[str, Columns]:
    """Return the columns for calibration, by cell's key.

    They are label, prediction, confidence and, where they were kept, logits.
    """
    names = ["key", "label", "prediction", "confidence"]
    if "logits" in table.column_names and pa.types.is_binary(table["logits"].type):
        names.append("logits")
    found: dict[str, Columns] = {}
    for key, part in table.select(names).to_pandas().groupby("key", observed=True):
        columns = {name: torch.tensor(part[name].to_numpy()) for name in names[1:4]}
        if "logits" in part and part["logits"].notna().all():
            columns["logits"] = _from_bytes([*part["logits"]])
        found[str(key)] = columns
    return found


def _to_bytes(logits: Float16[Tensor, "examples classes"]) -> pa.Array:
    """Return the logits of each example as the bytes of numbers in half precision."""
    width = pa.binary(2 * logits.shape[1])
    buffers = [None, pa.py_buffer(logits.numpy().astype("<f2").tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(width, len(logits), buffers).cast(pa.binary())


def _from_bytes(rows: Sequence[bytes]) -> Float16[Tensor, "examples classes"]:
    numbers = np.frombuffer(b"".join(rows), "<f2").astype(np.float16)
    return torch.from_numpy(numbers.reshape(len(rows), -1))


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
