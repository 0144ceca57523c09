"""The suite that asks how selective units are, and whether it is their axes that are."""

from functools import partial

import torch
from torch import nn

from selbench.analyses.axes import best_axes, rotated_selectivity
from selbench.analyses.layers import activations, check_finite, find_layers
from selbench.datasets import Split, limited
from selbench.metrics import METRICS, NUMBER, Metric, Panel, Rows
from selbench.randomness import seeded
from selbench.stats import prediction_interval
from selbench.store import Measurement
from selbench.suites.index import class_index
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.pieces import Analysis
from selbench.suites.representation import representations
from selbench.suites.work import SUITES, Passes, Setting, Work

ROTATIONS = 20
EXAMINED = 2000  # images on which other axes are tried


@SUITES
def selectivity(setting: Setting) -> list[Work]:
    """Class selectivity of every layer: its distribution, null, other axes, under perturbation."""
    axes = partial(_measure_axes, layers=setting.mechanism.layers)
    source = looked_at("original", setting)
    return [
        *class_index(setting),
        Analysis("selectivity", "axes", axes, Passes(1), EXAMINED, source=source),
        *representations(setting),
    ]


def _measure_axes(
    model: nn.Module, split: Split, classes: int, layers: str | None
) -> list[Measurement]:
    split = limited(split, EXAMINED)
    watched = find_layers(model, split.images, layers)
    batches = [
        points for (points,) in activations(model, (split.images,), layers, "units", watched)
    ]
    rows: list[Measurement] = []
    for layer, parts in zip(watched, zip(*batches, strict=True), strict=True):
        units = torch.cat(parts)
        check_finite([layer], [units])
        generator = seeded(f"axes/{layer.number}", 0)
        rotated = rotated_selectivity(units, split.labels, classes, ROTATIONS, generator)
        low, high = prediction_interval(rotated.tolist())
        best = best_axes(units, split.labels, classes)
        values = {
            "selectivity_index_rotated": rotated.mean().item(),
            "selectivity_index_rotated_low": low,
            "selectivity_index_rotated_high": high,
            "selectivity_index_best_axis": best.in_sample.mean().item(),
            "selectivity_index_best_axis_held_out": best.held_out.mean().item(),
        }
        rows += of_layer(layer, values, len(split))
    return summarised(rows)


METRICS(
    Metric(
        "selectivity_rotated",
        "rotated selectivity",
        "the index of random rotations of the units",
        "selectivity",
        Rows(("selectivity",), "selectivity_index_rotated", ("axes",)),
        unit=NUMBER,
        better=0,
        board="",
        panel=Panel("selectivity", "random rotations of the units"),
    )
)
METRICS(
    Metric(
        "selectivity_best_axis",
        "best-axis selectivity",
        "the index of the direction that is most selective for each class, on images that did not "
        "choose it",
        "selectivity",
        Rows(("selectivity",), "selectivity_index_best_axis_held_out", ("axes",)),
        unit=NUMBER,
        better=0,
        board="",
        panel=Panel("selectivity", "the best axis for each class"),
    )
)
