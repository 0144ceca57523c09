"""The suite of probability: over a network's randomness, that a point of a ball changes it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from selbench._kit.errors import NotRandomError
from selbench._kit.types import to_images
from selbench.bounds.changes import changes
from selbench.datasets import Split
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter
from selbench.networks.dropout import Drawn, dropouts
from selbench.networks.network import Network
from selbench.statistics.draws import enough, most_draws
from selbench.store import DRAWN
from selbench.store.findings import spoiling
from selbench.store.outcomes import Columns, outcome
from selbench.study import ProbabilitySpec, exactly
from selbench.suites.attacked import EPSILON, LINF_EPSILONS
from selbench.suites.bench import LEFT_OUT, Bench, Measure
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.work import SUITES, Passes, Setting, Task, Work

SUITE = "probability"
GROUP = 16  # images of a stored chunk: ten minutes of a ResNet20 at 185 draws
TINY = 1e-30  # so that no sum of probabilities is 0
TIMED = 4  # images that the dry run times
_RADII = [level / 255 for level in LINF_EPSILONS]
_SOURCE, _TABLE = "arXiv:1903.01980", "probability of a flip"


@SUITES
def probability(setting: Setting) -> list[Work]:
    """The probability, over dropout or a study's seeds, that an L-inf ball changes a prediction."""
    spec = setting.probability
    error, confidence = exactly(spec.error), exactly(spec.confidence)
    name = f"{spec.method}-error-{error}-confidence-{confidence}"
    draws = most_draws(spec.error, spec.confidence)
    piece = Probability(
        SUITE, f"{name}-draws-{draws}", group="linf", spec=spec, ensemble=setting.seeds > 1
    )
    return [*class_index(setting), *clean(setting), piece]


@dataclass(frozen=True)
class Probability(Work):
    """How often, over draws of a network, an attack changes a prediction, and how often it might.

    A network with dropout is drawn until both shares of an image have the chosen error. Without
    dropout a network is one member of an ensemble, the networks of the other seeds the others:
    all of them are evaluated, and the means over seeds are exact.

    Attributes:
        spec: error, confidence and bounds.
        ensemble: whether the study has several seeds.
    """

    source: str = DRAWN
    spec: ProbabilitySpec = field(default_factory=ProbabilitySpec)
    ensemble: bool = False

    shares: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The epsilons of PGD, in 255ths."""
        return LINF_EPSILONS

    @property
    def sampling(self) -> str:
        """The number of draws, known beforehand."""
        error, confidence = self.spec.error, self.spec.confidence
        draws = most_draws(error, confidence)
        return (
            f"{SUITE}: at most {draws:,} draws of dropout for each image, for an error of "
            f"{exactly(error)} with a confidence of {exactly(confidence)}"
        )

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Time one draw of a few images, as if every image needed the most draws."""
        count = min(TIMED, len(split))
        places = torch.arange(count, device=split.labels.device) * len(split) // count
        images = to_images(split.take(places).images)
        try:
            drawn, draws = self._drawn(model, self.ensemble)
            began = time.perf_counter()
            drawn.draw(0, images)
            changes(drawn, images, _RADII, self.spec.method)
        except LEFT_OUT:
            return Passes()
        return Passes(seconds=(time.perf_counter() - began) / count * draws) * len(split)

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose outputs are random by themselves."""
        serve = [each for each in networks if spoiling(each.findings, self.name) is None]
        return super().partners(serve)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Draw the networks, one by one or in parallel."""
        bench.each(partial(bench.chunked, partial(self._measure, bench), GROUP), tasks)

    def _drawn(self, network: nn.Module, member: bool) -> tuple[Drawn, int]:
        """Return a network to draw from, and the largest number of draws."""
        if dropouts(network):
            return Drawn(network), most_draws(self.spec.error, self.spec.confidence)
        if not member:
            raise NotRandomError(
                "it has no dropout, and no networks of other seeds form an ensemble with it; use "
                "a network with dropout modules, or a study with several seeds"
            )
        return Drawn(network), 1

    def _measure(self, bench: Bench, task: Task) -> Measure:
        member = self.ensemble and task.network.seed is not None
        drawn, most = self._drawn(bench.networks[task.network.weights], member)
        return partial(self._outcomes, drawn, most)

    def _outcomes(self, network: Drawn, most: int, split: Split) -> list[Columns]:
        """Return the outcomes of images at every level."""
        images, labels = to_images(split.images), split.labels
        tally, scores = Tally.empty(self.spec, 2, len(_RADII), len(images)), None
        for number in range(most):
            left = tally.left.to(images.device)
            if not len(left):
                break
            network.draw(number, images)
            seen = changes(network, images[left], _RADII, self.spec.method)
            tally.add(torch.stack([seen.found, seen.possible]))
            scores = torch.zeros_like(seen.logits) if scores is None else scores
            scores[left] += seen.logits.softmax(1)
        assert scores is not None, "no draws"
        known = {
            **outcome((scores + TINY).log(), labels),  # softmax makes it a mean
            "example": split.examples,
            "label": labels,
        }
        attacked, bounded = tally.shares
        return [
            {**known, "flip_attacked": low, "flip_bounded": high, "flip_draws": draws}
            for low, high, draws in zip(attacked, bounded, tally.draws.amax(0), strict=True)
        ]


@dataclass
class Tally:
    """Counts of hits for several events of each image, until each has had enough draws.

    Attributes:
        spec: the error and the confidence.
        hits, draws: counts, of shape (events, epsilons, images), on the CPU.
        going: which events need more draws.
    """

    spec: ProbabilitySpec
    hits: Tensor
    draws: Tensor
    going: Tensor

    @classmethod
    def empty(cls, spec: ProbabilitySpec, *shape: int) -> "Tally":
        """Return counts of 0."""
        zeros = torch.zeros(shape, dtype=torch.int64)
        return cls(spec, zeros, zeros.clone(), torch.ones(shape, dtype=torch.bool))

    @property
    def left(self) -> Tensor:
        """The places of images with an event that needs more draws."""
        return self.going.flatten(0, 1).any(0).nonzero(as_tuple=True)[0]

    def add(self, seen: Tensor) -> None:
        """Count a draw of the images `left`; events with enough draws keep their counts."""
        hit = torch.zeros_like(self.going)
        hit[:, :, self.left] = seen.cpu()
        self.draws += self.going
        self.hits += self.going & hit
        counts = (self.hits.numpy(), self.draws.numpy())
        self.going = ~torch.from_numpy(enough(*counts, self.spec.error, self.spec.confidence))

    @property
    def shares(self) -> Tensor:
        """The shares of hits."""
        return self.hits / self.draws


METRICS(
    Metric(
        "flip_probability",
        "P(flip)",
        "probability, over dropout or a study's seeds, that a point of an L-inf ball changes the "
        "prediction, averaged over budgets: from what attacks find to what bounds leave open",
        SUITE,
        RowFilter((SUITE,), "flip_attacked"),
        better=-1,
        source=_SOURCE,
        table=_TABLE,
        rare=True,
        panel=Panel(SUITE, "some point of the ball changes the prediction", EPSILON),
        most=("flip_probability_bound",),
    )
)
METRICS(
    Metric(
        "flip_probability_bound",
        "P(flip), bounds",
        "probability that bounds leave another prediction in an L-inf ball open, averaged over "
        "budgets",
        SUITE,
        RowFilter((SUITE,), "flip_bounded"),
        better=-1,
        source=_SOURCE,
        table=_TABLE,
        rare=True,
        asked=True,
    )
)
METRICS(
    Metric(
        "flip_draws",
        "draws",
        "mean number of draws of dropout for an image; 1 for a member of an ensemble",
        SUITE,
        RowFilter((SUITE,), "flip_draws"),
        unit=NUMBER,
        better=0,
        bounds=AMOUNT,
        source=_SOURCE,
        table=_TABLE,
        rare=True,
        asked=True,
    )
)
