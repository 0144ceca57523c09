"""The suite of bounds: certificates that no perturbation of a size changes the prediction."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from selbench._kit.types import to_images
from selbench.bounds import Traced, certify, traced
from selbench.bounds.certified import Method
from selbench.bounds.interval import TRIED
from selbench.datasets import Split
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.networks.network import Network
from selbench.store import BOUND
from selbench.store.findings import spoiling
from selbench.store.outcomes import Columns, outcome
from selbench.suites.attacked import LINF_EPSILONS, TABLE
from selbench.suites.bench import LEFT_OUT, Bench, Measure
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.work import SUITES, Passes, Setting, Task, Work

GROUP = 64  # images of a stored chunk
TIMED: dict[Method, int] = {"linear": 16, "interval": 64}  # images that the dry run times
METHODS: tuple[Method, ...] = ("linear", "interval")


@SUITES
def bounds(setting: Setting) -> list[Work]:
    """Certified accuracy against all L-inf perturbations, by linear and interval bounds."""
    pieces = [Certificates("bounds", f"{each}-linf", group="linf", method=each) for each in METHODS]
    return [*class_index(setting), *clean(setting), *pieces]


@dataclass(frozen=True)
class Certificates(Work):
    """Find the images that have a certificate at each epsilon.

    The outcomes hold the worst logits that the bounds allow, with 0 for the label's logit; so the
    prediction is the label if the image is certified.
    """

    source: str = BOUND
    method: Method = "linear"

    shares: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The epsilons of PGD, in 255ths."""
        return LINF_EPSILONS

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Time a few images: the work depends on how many keep their certificate."""
        count = min(TIMED[self.method], len(split))
        places = torch.arange(count, device=split.labels.device) * len(split) // count
        try:
            found = traced(model, to_images(split.images[:1]))
        except LEFT_OUT:
            return Passes()
        began = time.perf_counter()
        self._outcomes(found, split.take(places))
        return Passes(seconds=(time.perf_counter() - began) / count) * len(split)

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose outputs are random."""
        serve = [each for each in networks if spoiling(each.findings, self.name) is None]
        return super().partners(serve)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Bound the networks, one by one or in parallel."""
        bench.each(partial(bench.chunked, partial(self._measure, bench), GROUP), tasks)

    def _measure(self, bench: Bench, task: Task) -> Measure:
        network, images = bench.networks[task.network.weights], bench.split.images
        return partial(self._outcomes, traced(network, to_images(images[:TRIED])))

    def _outcomes(self, network: Traced, split: Split) -> list[Columns]:
        """Return the outcomes of images at every level."""
        epsilons, labels = [level / 255 for level in LINF_EPSILONS], split.labels
        margins = certify(network, to_images(split.images), labels, epsilons, self.method)
        named = {"example": split.examples, "label": labels}
        return [{**named, **_worst(level_margins, labels)} for level_margins in margins]


def _worst(margins: Tensor, labels: Tensor) -> Columns:
    """Return the outcomes of the worst possible logits."""
    return outcome((-margins).scatter(1, labels[:, None], 0), labels)


METRICS(
    Metric(
        "certified_linf",
        "certified to PGD Linf",
        "accuracy that linear bounds prove against all L-inf perturbations, averaged over budgets, "
        "and accuracy under PGD of the same networks: the true accuracy lies between them",
        "bounds",
        RowFilter(("bounds",), conditions=("linear-linf",)),
        source="arXiv:1811.00866",
        table=TABLE,
        place=2,
        rare=True,
        most=("pgd_linf", "pgd_margin_linf"),
    ),
    Metric(
        "certified_interval_linf",
        "certified Linf, intervals",
        "accuracy that intervals prove against all L-inf perturbations, averaged over budgets",
        "bounds",
        RowFilter(("bounds",), conditions=("interval-linf",)),
        source="arXiv:1810.12715",
        table=TABLE,
        place=2,
        rare=True,
        asked=True,
    ),
)
