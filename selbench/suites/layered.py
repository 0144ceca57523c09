"""Measurements of layers, and their means over parts of the network."""

from collections.abc import Mapping, Sequence
from math import isfinite

from selbench.analyses.layers import Columns, Layer, thirds
from selbench.store import Measurement
from selbench.suites.work import Setting


def of_layer(layer: Layer, values: Mapping[str, float], n: int) -> list[Measurement]:
    """Return one measurement of a layer for each metric."""
    return [
        Measurement(metric, float(value), n, layer.number, layer.name)
        for metric, value in values.items()
    ]


def summarised(rows: Sequence[Measurement]) -> list[Measurement]:
    """Return the rows of layers, followed by their means over parts of the network.

    The parts are the early, middle and late third, whose name is added to the metric, and all
    layers. Layers without a finite value (a dead layer has no gradients) and parts without any are
    left out.
    """
    count = max((row.layer or 0 for row in rows), default=0)
    parts = {f"_{name}": numbers for name, numbers in thirds(count).items()}
    parts[""] = range(1, count + 1)
    metrics = dict.fromkeys(row.metric for row in rows)
    means = []
    for metric in metrics:
        for suffix, numbers in parts.items():
            part_rows = [row for row in rows if row.metric == metric and row.layer in numbers]
            chosen = [row for row in part_rows if isfinite(row.value)]
            if chosen:
                mean = sum(row.value for row in chosen) / len(chosen)
                means.append(Measurement(f"{metric}{suffix}", mean, chosen[0].n))
    return [*rows, *means]


def looked_at(
    source: str, setting: Setting, columns: Columns = "units", estimator: str = ""
) -> str:
    """Return the source of the images, with the analysis settings that are not defaults."""
    layers = setting.mechanism.layers
    marks = [
        "flattened maps" if columns == "maps" else "",
        f"layers {layers}" if layers else "",
        estimator,
    ]
    return "; ".join([source, *filter(None, marks)])
