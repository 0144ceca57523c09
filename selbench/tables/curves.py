"""Training curves as rows like measurements; they come from the manifest, not from cells."""

from collections.abc import Mapping
from math import nan
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from selbench.metrics import AMOUNT, METRICS, NUMBER, PERCENT, SHARE, Metric, Panel, RowFilter, Unit

SUITE = "training"
UNITS = Unit(decimals=0)
LOGARITHMIC = ("gradient", "pull")
# What an epoch says, and how its rows name it: those of other images are no `accuracy`.
NAMES = {
    "cross_entropy": "training_cross_entropy",
    "selectivity": "training_selectivity",
    "accuracy": "validation_accuracy",
    "dead": "training_dead_units",
    "index": "validation_selectivity",
    "gradient": "training_gradient",
    "pull": "training_pull",
}
_SHOWN = (
    ("cross_entropy", "training NLL", "cross-entropy of an epoch's batches", NUMBER, AMOUNT),
    ("selectivity", "training selectivity", "the index of an epoch's batches", NUMBER, SHARE),
    ("accuracy", "validation", "accuracy on the images held out of training", PERCENT, SHARE),
    ("dead", "dead units", "units that respond to no image held out of training", UNITS, AMOUNT),
    ("index", "validation index", "the index on the images held out", NUMBER, SHARE),
    ("gradient", "gradient", "norm of cross-entropy's gradient on a last batch", NUMBER, AMOUNT),
    ("pull", "pull", "norm of the regulariser's gradient on a last batch", NUMBER, AMOUNT),
)
_TITLES = {
    "cross_entropy": "cross-entropy, training images",
    "selectivity": "selectivity index of the batches",
    "accuracy": "accuracy on validation images, %",
    "dead": "dead units",
    "index": "selectivity index, validation images",
    "gradient": "norm of cross-entropy's gradient",
    "pull": "norm of the regulariser's gradient",
}
HELD_OUT = {NAMES[name] for name in ("accuracy", "dead", "index")}
_BETTER = {"cross_entropy": -1, "accuracy": 1, "dead": -1}
for _what, _label, _meaning, _unit, _bounds in _SHOWN:
    METRICS(
        Metric(
            NAMES[_what],
            _label,
            f"{_meaning}, epoch by epoch",
            "",
            RowFilter((SUITE,), NAMES[_what]),
            unit=_unit,
            better=_BETTER.get(_what, 0),
            bounds=_bounds,
            board="",
            panel=Panel("training", _TITLES[_what], log=_what in LOGARITHMIC),
        )
    )


def with_curves(rows: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return measurements with rows for each epoch of the networks that are among them.

    They are of suite "training", condition "epoch" and level 1, 2, ...; cross-entropy and
    selectivity are means over the epoch's batches of augmented training images, whose number is not
    kept (n = 0), gradients are of the last of them, accuracy, dead units and the index, that of
    each layer too, of the validation images. Networks that were not trained here have none.
    """
    first = np.flatnonzero(~rows["subject"].duplicated())
    places = dict(zip(rows["subject"].iloc[first].tolist(), first.tolist(), strict=True))
    epochs = [
        (places[name], epoch)
        for name, facts in manifest["subjects"].items()
        for epoch in (facts.get("curves", []) if name in places else ())
    ]
    what = dict.fromkeys(name for _, epoch in epochs for name in epoch if name != "number")
    found = [
        (place, epoch["number"], NAMES.get(name, name), value, layer)
        for name in what
        for place, epoch in epochs
        for layer, value in _values(name, epoch.get(name))
    ]
    if not found:
        return rows
    networks, levels, metrics, values, layers = map(list, zip(*found, strict=True))
    held_out = manifest["study"]["dataset"]["validation"]
    n = [held_out * (name in HELD_OUT) for name in metrics]
    made = rows.iloc[networks].assign(suite=SUITE, condition="epoch", group="", helper="")
    made = made.assign(source="original", version=1, layer=layers, layer_name=None, error=nan)
    made = made.assign(level=levels, metric=metrics, value=values, n=n).astype(rows.dtypes)
    return pd.concat([rows, made], ignore_index=True)


def _values(name: str, value: Any) -> list[tuple[int | None, float]]:
    """Return the values of an epoch, by layer from 1; None for the network."""
    if value is None or value == []:
        return []
    if name == "dead":
        return [(None, sum(value))]
    if name == "index":
        return [(None, mean(value)), *enumerate(value, 1)]
    return [(None, value)]
