"""The suite that measures class selectivity."""

import torch
from torch import nn

from selbench.datasets import Split
from selbench.randomness import seeded
from selbench.selectivity import measure_selectivity
from selbench.store import Measurement
from selbench.suites.work import SUITES, Analysis, Setting, Work
from selbench.training import to_images

SHUFFLES = 10  # of the labels, for the null beside every selectivity index


@SUITES
def selectivity(setting: Setting) -> list[Work]:
    """Class selectivity of every layer on the clean images, with a label-shuffle null."""
    return [Analysis("selectivity", _measure_selectivity)]


def _measure_selectivity(model: nn.Module, split: Split, classes: int) -> list[Measurement]:
    generator = seeded("selectivity/null", 0)
    orders = [torch.randperm(len(split), generator=generator) for _ in range(SHUFFLES)]
    shuffled = torch.stack([split.labels[order.to(split.labels.device)] for order in orders])
    parts = torch.arange(len(split)).split(250)
    batches = (
        (to_images(split.images[p[0] : p[-1] + 1]), split.labels[p[0] : p[-1] + 1]) for p in parts
    )
    layers = measure_selectivity(model, batches, shuffled, classes)
    rows: list[Measurement] = []
    for number, layer in enumerate(layers, 1):
        alive = layer.index[~layer.dead]
        values = {
            "selectivity_index": layer.index.mean().item(),
            "selectivity_index_null": layer.null.mean().item(),
            "dead_units": float(layer.dead.sum()),
            "units": float(len(layer.index)),
        }
        if len(alive):
            values["selectivity_index_alive"] = alive.mean().item()
        rows += [Measurement(metric, value, len(split), number) for metric, value in values.items()]
    for metric in ("selectivity_index", "selectivity_index_null"):
        means = [row.value for row in rows if row.metric == metric]
        rows.append(Measurement(metric, sum(means) / len(means), len(split)))
    return rows
