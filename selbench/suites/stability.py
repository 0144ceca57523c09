"""The suite of stability: shares of units that are always active, never active, or either."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from selbench._kit.chunks import few
from selbench._kit.types import Images, to_images
from selbench.analyses.layers import Layer, numbered
from selbench.bounds import traced
from selbench.bounds.stability import Stability, in_balls, over_images
from selbench.datasets import Split
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.store import Measurement
from selbench.suites.attacked import LINF_EPSILONS
from selbench.suites.bench import LEFT_OUT, Bench
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.layered import of_layer, summarised
from selbench.suites.work import SUITES, Passes, Setting, Task, Work
from selbench.training.regulariser import relu_calls

GROUP = 64  # images bounded at once


@SUITES
def stability(setting: Setting) -> list[Work]:
    """Units that are always or never active: on the test images, and in balls of each epsilon."""
    pieces = [
        Stable("stability", "images"),
        Stable("stability", "balls", group="linf", epsilons=LINF_EPSILONS),
    ]
    return [*class_index(setting), *clean(setting), *pieces]


@dataclass(frozen=True)
class Stable(Work):
    """Shares of the units of each ReLU, over all images, or over balls of each epsilon.

    Attributes:
        epsilons: in 255ths; its levels. If empty, shares are over all images together.
    """

    epsilons: tuple[float, ...] = ()

    shares: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The epsilons."""
        return self.epsilons or (None,)

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count the middle and the radius of every ball, or each image once."""
        try:
            traced(model, to_images(split.images[:1]))
        except LEFT_OUT:
            return Passes()
        return Passes(double=2 * len(self.epsilons) or 1) * len(split)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Measure the networks, one by one or in parallel."""
        bench.each(partial(bench.measured, partial(self.measure, split=bench.split)), tasks)

    def measure(self, model: nn.Module, split: Split) -> list[list[Measurement]]:
        """Return the measurements of a network at every level."""
        first = to_images(split.images[:8])
        network = traced(model, first)
        with torch.no_grad():
            calls = relu_calls(model, first)
        names = [numbered(name, calls[:place].count(name)) for place, name in enumerate(calls)]
        layers = [
            Layer(number, name, tuple(network.shapes[place]))
            for number, (place, name) in enumerate(zip(network.relus, names, strict=True), 1)
        ]

        def batches() -> Iterator[Images]:
            for each in split.batches(few(split.images, GROUP)):
                yield to_images(each.images)

        every = [in_balls(network, batches(), each / 255) for each in self.epsilons]
        return [
            _rows(layers, each, len(split)) for each in every or [over_images(network, batches())]
        ]


def _rows(layers: Sequence[Layer], found: Sequence[Stability], n: int) -> list[Measurement]:
    rows: list[Measurement] = []
    for layer, each in zip(layers, found, strict=True):
        values = {
            "stably_active": each.active,
            "stably_inactive": each.inactive,
            "undecided": each.undecided,
        }
        rows += of_layer(layer, values, n)
    return summarised(rows)


_SOURCE, _TABLE = "arXiv:1905.11428", "stability of units"
for _condition, _suffix, _where in (
    ("images", "", "on the test images"),
    ("balls", "_linf", "over complete L-inf balls, by interval bounds, averaged over budgets"),
):
    for _metric, _what in (
        ("stably_active", "always active"),
        ("stably_inactive", "never active"),
        ("undecided", "active for some inputs only, or not proved stable"),
    ):
        METRICS(
            Metric(
                f"{_metric}{_suffix}",
                f"{_metric.replace('_', ' ')}{' Linf' if _suffix else ''}",
                f"share of units that are {_what} {_where}, averaged over layers",
                "stability",
                RowFilter(("stability",), _metric, (_condition,)),
                better=0,
                source=_SOURCE,
                table=_TABLE,
                rare=True,
            )
        )
