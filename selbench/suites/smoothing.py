"""The suite of randomised smoothing: a network under noise is a classifier with L2 certificates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from selbench._kit.types import to_images
from selbench.bounds.smoothing import ABSTAINS, smoothed
from selbench.datasets import Split
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.store import SMOOTHED
from selbench.store.outcomes import Columns, outcome
from selbench.study import exactly
from selbench.suites.attacked import L2_EPSILONS
from selbench.suites.bench import Bench, Measure
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.work import SUITES, Passes, Setting, Task, Work

SUITE = "smoothing"
GROUP = 64  # images of a stored chunk


@SUITES
def smoothing(setting: Setting) -> list[Work]:
    """Randomised smoothing: the class that wins under noise, certified against L2 perturbations."""
    draws = setting.smoothing.draws
    pieces = [
        Smoothing(
            SUITE, f"sigma-{exactly(sigma)}-draws-{draws}", group="l2", sigma=sigma, draws=draws
        )
        for sigma in setting.smoothing.sigmas
    ]
    return [*class_index(setting), *clean(setting), *pieces]


def classifier(condition: str) -> str:
    """Return what tables add to a network's name, such as "smoothed 0.25 (1,000 draws)"."""
    sigma, _, draws = condition.removeprefix("sigma-").rpartition("-draws-")
    return f"smoothed {sigma} ({int(draws):,} draws)"


@dataclass(frozen=True)
class Smoothing(Work):
    """Which images a smoothed network certifies, for balls of each radius.

    The prediction of an outcome is the class if the network certifies it for the radius, else
    `ABSTAINS`, which counts as an error. The other columns describe the shares of votes.

    Attributes:
        sigma: standard deviation of the noise, for pixels in [0, 1].
        draws: of noise for each image, to count votes; a tenth as many choose the class.
    """

    source: str = SMOOTHED
    sigma: float = 0.25
    draws: int = 1000

    shares: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The epsilons of L2 attacks, in 255ths."""
        return L2_EPSILONS

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count the draws."""
        return Passes(forward=self.draws + self.draws // 10) * len(split)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Smooth the networks, one by one or in parallel."""
        bench.each(partial(bench.chunked, partial(self._measure, bench), GROUP), tasks)

    def _measure(self, bench: Bench, task: Task) -> Measure:
        return partial(self._outcomes, bench.networks[task.network.weights])

    def _outcomes(self, network: nn.Module, split: Split) -> list[Columns]:
        """Return the outcomes of images at every level."""
        images, examples, labels = to_images(split.images), split.examples, split.labels
        found = smoothed(
            network, images, examples, self.sigma, choosing=self.draws // 10, counting=self.draws
        )
        logits = (found.votes + 1.0).log()  # one vote more for each class, so that no share is 0
        known = {
            **outcome(logits, labels),
            "example": examples,
            "label": labels,
            "smoothed_accuracy": found.prediction == labels,
            "smoothed_abstained": found.prediction == ABSTAINS,
        }
        return [
            {**known, "prediction": found.prediction.where(found.radius >= radius / 255, ABSTAINS)}
            for radius in L2_EPSILONS
        ]


for _name, _label, _meaning, _metric, _better in (
    (
        "smoothed_certified_l2",
        "certified L2",
        "accuracy that smoothing certifies against L2 perturbations, averaged over radii",
        "accuracy",
        1,
    ),
    (
        "smoothed_accuracy",
        "smoothed",
        "accuracy of the class that wins under noise; abstentions are errors",
        "smoothed_accuracy",
        1,
    ),
    (
        "smoothed_abstained",
        "abstained",
        "share of images without a class that certainly has more than half of the votes",
        "smoothed_abstained",
        -1,
    ),
):
    METRICS(
        Metric(
            _name,
            _label,
            _meaning,
            SUITE,
            RowFilter((SUITE,), _metric),
            better=_better,
            source="arXiv:1902.02918",
            table="randomised smoothing",
            rare=True,
        )
    )
