"""The class selectivity index on the clean images, which most suites include."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from selbench.analyses.layers import missed_activations
from selbench.analyses.selectivity import LayerSelectivity, class_selectivity
from selbench.datasets import Split
from selbench.metrics import METRICS, NUMBER, Metric, Panel, RowFilter
from selbench.statistics.intervals import prediction_interval
from selbench.store import Measurement
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.pieces import Analysis
from selbench.suites.work import Passes, Setting, Work

# + a kind of activation: its calls, which are not recorded since it can be negative
MISSED = "activations_missed_"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the index over a layer's units


def class_index(setting: Setting) -> list[Work]:
    """Return the measurement of the index on the clean images, for any suite."""
    measure = partial(_measure_index, layers=setting.mechanism.layers)
    source = looked_at("original", setting)
    return [Analysis("selectivity", "clean", measure, Passes(1), source=source, version=2)]


def _measure_index(
    model: nn.Module, split: Split, classes: int, layers: str | None
) -> list[Measurement]:
    found = class_selectivity(model, split.images, split.labels, layers=layers)
    rows = [row for each in found for row in of_layer(each.layer, _spread(each), len(split))]
    shown = ("selectivity_index", "selectivity_index_null")
    summed = summarised([row for row in rows if row.metric in shown])
    summaries = [row for row in summed if row.layer is None]
    dead = sum(int(each.dead.sum()) for each in found)
    units = sum(len(each.index) for each in found)
    low, high = _null_interval([each.null for each in found])
    values = {
        "selectivity_index_null_low": low,
        "selectivity_index_null_high": high,
        "dead_units": dead,
        "units": units,
    }
    missed = missed_activations(model, split.images) if layers is None else {}
    values |= {f"{MISSED}{kind}": calls for kind, calls in missed.items()}
    return [
        *rows,
        *summaries,
        *(Measurement(m, float(v), len(split)) for m, v in values.items()),
    ]


def _spread(each: LayerSelectivity) -> dict[str, float]:
    """Return the selectivity of a layer's units, and the chance level."""
    alive = each.index[~each.dead]
    low, high = _null_interval([each.null])
    quantiles = each.index.quantile(torch.tensor(QUANTILES, dtype=torch.float64).to(alive.device))
    values = {
        "selectivity_index": each.index.mean().item(),
        "selectivity_index_null": each.null.mean().item(),
        "selectivity_index_null_low": low,
        "selectivity_index_null_high": high,
        "dead_units": float(each.dead.sum()),
        "units": float(len(each.index)),
    }
    if len(alive):
        values["selectivity_index_alive"] = alive.mean().item()
    for share, value in zip(QUANTILES, quantiles.tolist(), strict=True):
        values[f"selectivity_index_p{100 * share:02.0f}"] = value
    return values


def _null_interval(nulls: Sequence[Tensor]) -> tuple[float, float]:
    """Return the interval of the network's mean index with shuffled labels."""
    means = torch.stack([null.mean(1) for null in nulls]).mean(0)
    return prediction_interval(means.tolist())


METRICS(
    Metric(
        "selectivity",
        "selectivity",
        "class selectivity index, averaged over units, then over layers: 0 where units respond to "
        "all classes alike, 1 where each responds to one class alone",
        "selectivity",
        RowFilter(("selectivity",), "selectivity_index", ("clean",)),
        unit=NUMBER,
        better=0,
        source="arXiv:1803.06959",
        table="selectivity",
        panel=Panel("selectivity", "units (dotted: by sampling alone)", "selectivity index"),
    ),
    Metric(
        "null",
        "null",
        "the index after shuffling the labels (chance level)",
        "selectivity",
        RowFilter(("selectivity",), "selectivity_index_null", ("clean",)),
        unit=NUMBER,
        better=0,
        table="selectivity",
        null_of="selectivity",
    ),
)
