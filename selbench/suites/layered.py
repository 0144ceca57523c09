"""Measurements of layers, and what they come to in parts of the network."""

from collections.abc import Mapping, Sequence
from math import isfinite

from selbench.analyses.layers import Columns, Layer, thirds
from selbench.store import Measurement
from selbench.suites.work import Setting


def of_layer(layer: Layer, values: Mapping[str, float], n: int) -> list[Measurement]:
    """Return a measurement of a layer for every metric."""
    return [
        Measurement(metric, float(value), n, layer.number, layer.name)
        for metric, value in values.items()
    ]


def summarised(rows: Sequence[Measurement]) -> list[Measurement]:
    """Return measurements of layers, and after them their means over parts of the network.

    Over its early, middle and late third, with the part's name at the end of the metric, and over
    all layers. Layers without a number, such as the gradients of one that is dead, are left out,
    and so is a part without a number.
    """
    count = max((row.layer or 0 for row in rows), default=0)
    parts = {f"_{name}": numbers for name, numbers in thirds(count).items()}
    parts[""] = range(1, count + 1)
    metrics = dict.fromkeys(row.metric for row in rows)
    means = []
    for metric in metrics:
        for suffix, numbers in parts.items():
            own = [row for row in rows if row.metric == metric and row.layer in numbers]
            chosen = [row for row in own if isfinite(row.value)]  # a dead layer has no gradient
            if chosen:
                mean = sum(row.value for row in chosen) / len(chosen)
                means.append(Measurement(f"{metric}{suffix}", mean, chosen[0].n))
    return [*rows, *means]


def looked_at(
    source: str, setting: Setting, columns: Columns = "units", estimator: str = ""
) -> str:
    """Say, after where images come from, how networks are looked at if not in the usual way."""
    layers = setting.mechanism.layers
    marks = [
        "flattened maps" if columns == "maps" else "",
        f"layers {layers}" if layers else "",
        estimator,
    ]
    return "; ".join([source, *filter(None, marks)])
