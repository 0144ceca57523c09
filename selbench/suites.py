"""Suites: what is done to the images, or computed of a network."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from corruptions import CORRUPTIONS, Corruption, corrupt
from selbench.datasets import Split
from selbench.errors import SelbenchError
from selbench.files import home
from selbench.randomness import seeded
from selbench.registry import Registry
from selbench.selectivity import measure_selectivity
from selbench.store import Measurement
from selbench.training import to_images
from selbench.types import Examples, Pixels

SEVERITIES = range(1, 6)
SHUFFLES = 10  # of the labels, for the null beside every selectivity index


@dataclass(frozen=True)
class Condition:
    """What happens to the images before every network sees them.

    Attributes are the columns of the same names of `selbench.store.Cell`; `perturb` maps uint8
    images, and their positions in the data set, to images of the same shape.
    """

    suite: str
    name: str
    perturb: Callable[[Pixels, Examples], Pixels]
    level: int | None = None
    group: str = ""
    source: str = "original"
    version: int = 1


@dataclass(frozen=True)
class Analysis:
    """What is computed of one network on a whole split: `measure(model, split, classes)`."""

    suite: str
    measure: Callable[[nn.Module, Split, int], list[Measurement]]
    name: str = "clean"
    level: int | None = None
    group: str = ""
    source: str = "original"
    version: int = 1


Work = Condition | Analysis
SUITES = Registry[Callable[[int], list[Work]]]("suite")


@SUITES
def clean(side: int) -> list[Work]:
    """The images as they are."""
    return [Condition("clean", "clean", lambda images, examples: images)]


@SUITES
def selectivity(side: int) -> list[Work]:
    """Class selectivity of every layer on the clean images, with a label-shuffle null."""
    return [Analysis("selectivity", _measure_selectivity)]


@SUITES
def corruptions(side: int) -> list[Work]:
    """The benchmark's corruptions at five severities, beside clean accuracy and selectivity."""
    return [*selectivity(side), *clean(side), *_corrupted(side, extra=False)]


@SUITES
def corruptions_all(side: int) -> list[Work]:
    """The benchmark's corruptions and the extra ones, beside clean accuracy and selectivity."""
    return [*corruptions(side), *_corrupted(side, extra=True)]


def collect(names: tuple[str, ...], height: int, width: int) -> list[Work]:
    """Return the work of several suites on images of that size, each piece once.

    Raises:
        SelbenchError: for an unknown suite, and images that are not square.
    """
    if height != width:
        raise SelbenchError(
            f"suites take square images, the data set's are {width} x {height} pixels; crop or "
            "pad them"
        )
    side = height
    pieces = [work for name in names for work in SUITES[name](side)]
    return list({(work.suite, work.name, work.level): work for work in pieces}.values())


def _corrupted(side: int, extra: bool) -> list[Work]:
    photographs = home() / "frost"
    if photographs.is_dir():
        os.environ.setdefault("SELBENCH_FROST", str(photographs))  # where `corruptions` looks
    chosen = [corruption for corruption in CORRUPTIONS.values() if corruption.extra == extra]
    for corruption in chosen:
        if side not in corruption.severities:
            sizes = ", ".join(map(str, corruption.severities))
            raise SelbenchError(
                f"{corruption.name} has constants for images of {sizes} pixels, the data set's "
                f"have {side}; resize the images"
            )
    return [_corruption(corruption, severity) for corruption in chosen for severity in SEVERITIES]


def _corruption(corruption: Corruption, severity: int) -> Condition:
    name = corruption.name
    try:
        variant = corruption.variant
    except FileNotFoundError as problem:
        raise SelbenchError(str(problem)) from problem

    def perturb(images: Pixels, examples: Examples) -> Pixels:
        return corrupt(images, name, severity, examples=examples)

    return Condition(
        suite="corruptions-extra" if corruption.extra else "corruptions",
        name=name,
        perturb=perturb,
        level=severity,
        group=corruption.family,
        source=f"generated ({variant})" if variant else "generated",
        version=corruption.version,
    )


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
