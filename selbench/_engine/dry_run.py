"""The dry run: what a run would do, and its rough duration from passes and a measured pace."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from selbench._engine import Engine, plan, prepare
from selbench._engine.probing import HALF, Pace, pace_of, perturbing, training
from selbench._kit.crew import is_small
from selbench.datasets import Dataset, Split, limited
from selbench.networks.network import Network, trained_network
from selbench.request import ANYTHING, Request
from selbench.store import StudyStore
from selbench.study import Study, count_of, exactly
from selbench.suites import Condition, Passes, Task, Work
from selbench.training import find, training_key, untrained

BACKWARD = 3  # time of a pass forward and back, as a multiple of one forward


@dataclass(frozen=True)
class DryRun:
    """The work of a run.

    Attributes:
        suites: numbers of cells to evaluate and of cells kept, by suite.
        networks: number of networks to evaluate.
        untrained: how many of them must be trained first.
        passes: known passes of images through networks; an upper bound for attacks.
        unknown: names of work whose duration is unknown.
        sampling: sentences on how work samples.
        seconds: estimated duration, including training.
        most: the same, if no attack succeeded on any image.
        at_once: how many networks compute at the same time.
    """

    suites: dict[str, tuple[int, int]]
    networks: int
    untrained: int
    passes: Passes
    unknown: tuple[str, ...]
    seconds: float
    most: float
    at_once: int
    sampling: tuple[str, ...] = ()


def dry_run(
    study: Study,
    dataset: Dataset,
    brought: Sequence[Network],
    pieces: Sequence[Work],
    store: StudyStore,
    engine: Engine,
    device: torch.device,
    request: Request = ANYTHING,
) -> DryRun:
    """Plan a run and time its parts on a few images; nothing is stored.

    `brought`: the networks to evaluate, empty for the study's.
    """
    networks, missing = (list(brought), 0) if brought else _networks(study, dataset, device)
    split = limited(dataset.test, request.limit)
    bundles = plan(networks, pieces, split, store, request)
    small = is_small(networks[0].load(), split.images[0, 0].numel())
    pieces_at_once, networks_at_once = engine.parallelism(small, device)
    with _threads(1 if small else torch.get_num_threads()):
        # If pieces of work run one after another, the networks of one piece run in parallel.
        lanes, spread = (networks_at_once, 1) if pieces_at_once == 1 else (1, networks_at_once)
        costs = _Costs(split.to(device), len(dataset.classes), request.limit, missing == 0, lanes)
        for bundle in bundles:
            costs.count(bundle)
        shared = costs.perturbing(bundles, pieces)
        rounds = math.ceil(missing / networks_at_once)
        train = rounds * _training(study, dataset, device) if missing else 0.0
    rest = shared / pieces_at_once + train
    return DryRun(
        _cells(bundles, pieces, networks, dataset, request),
        len(networks),
        missing,
        costs.passes,
        tuple(dict.fromkeys(costs.unknown)),
        rest + costs.seconds / spread,
        rest + costs.most / spread,
        networks_at_once,
        tuple(dict.fromkeys(bundle[0].work.sampling for bundle in bundles)),
    )


def following(
    study: Study, dataset: Dataset, pieces: Sequence[Work], request: Request = ANYTHING
) -> float:
    """Return how long it takes to evaluate a network, as a multiple of the time to train it.

    Counted in passes of images, since nothing has been timed yet; 0 if the passes are unknown.
    """
    model, split = untrained(study, dataset, 0).eval(), limited(dataset.test, request.limit)
    evaluated = 0.0
    for work in pieces:
        passes = work.passes(model, split, len(dataset.classes), request.limit)
        if passes is None or passes.seconds:
            return 0.0
        units = passes.forward + BACKWARD * passes.backward + 2 * passes.double
        evaluated += units * (HALF if work.is_attack else 1.0)
    return evaluated / (BACKWARD * len(dataset.train) * study.recipe.epochs)


def described(plan: DryRun) -> list[str]:
    """Return lines that describe a run to people."""
    width = max(map(len, plan.suites), default=0)
    cells = [
        f"{suite:<{width}}  {left:>9,} cells to do, {kept:,} kept"
        for suite, (left, kept) in plan.suites.items()
    ]
    lines = [f"{count_of(plan.networks, 'network')}, {plan.untrained:,} of them to train", *cells]
    lines.append(f"{plan.passes.forward:,.0f} images forward through networks")
    bound = "at most " if plan.most > plan.seconds else ""
    if plan.passes.backward:
        lines.append(f"{bound}{plan.passes.backward:,.0f} images forward and back")
    if plan.passes.double:
        lines.append(f"{plan.passes.double:,.0f} images forward in float64")
    most = f" (at most {duration(plan.most)}, if no image falls)" if bound else ""
    at_once = count_of(plan.at_once, "network")
    lines.append(f"about {duration(plan.seconds)}{most}, {at_once} at once")
    lines += filter(None, plan.sampling)
    if plan.unknown:
        lines.append(f"not known how long: {', '.join(plan.unknown)}")
    return lines


def duration(seconds: float) -> str:
    """Write seconds as people do: "40 s", "3 min", "2 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


class _Costs:
    """Counts the passes of tasks and their seconds, at a measured pace.

    Args:
        split: the test images, on the device.
        classes: number of classes.
        limit: number of test images in `split`; None for all.
        trained: whether the networks are trained.
        lanes: how many networks share one piece of work at the same time.
    """

    def __init__(
        self, split: Split, classes: int, limit: int | None, trained: bool, lanes: int
    ) -> None:
        self._split, self._classes, self._limit = split, classes, limit
        self._trained, self._lanes = trained, lanes
        self._models: dict[str, tuple[nn.Module, Pace]] = {}
        self.passes = Passes()
        self.seconds = self.most = 0.0
        self.unknown: list[str] = []

    def count(self, tasks: Sequence[Task]) -> None:
        """Count the passes of the tasks of one piece of work."""
        work = tasks[0].work
        known: dict[str, Passes | None] = {}  # one model for each architecture
        for task in tasks:
            model, pace = self._paced(task.network)
            name = task.network.architecture
            if name not in known:
                known[name] = work.passes(model, self._split, self._classes, self._limit)
            passes = known[name]
            seconds = None if passes is None else pace.seconds(passes)
            if passes is None or seconds is None:
                self.unknown.append(work.name)
                continue
            self.passes += passes
            lane = seconds * math.ceil(len(tasks) / self._lanes) / len(tasks)
            self.most += lane
            self.seconds += lane * (pace.standing if work.is_attack else 1.0)

    def perturbing(self, bundles: Sequence[Sequence[Task]], pieces: Sequence[Work]) -> float:
        """Return the seconds to perturb the images of all bundles, once for all networks.

        One middle severity represents all severities of a corruption.
        """
        kinds: dict[str, list[Condition]] = {}
        for work in pieces:
            for condition in work.makes:
                kinds.setdefault(condition.name, []).append(condition)
        counts = Counter(made.name for bundle in bundles for made in bundle[0].work.makes)
        return len(self._split) * sum(
            count * perturbing(kinds[name][len(kinds[name]) // 2], self._split)
            for name, count in counts.items()
        )

    def _paced(self, network: Network) -> tuple[nn.Module, Pace]:
        """Return a model of the network's architecture, and its pace."""
        name = network.architecture
        if name not in self._models:
            model = prepare(network.load(), self._split.labels.device)
            self._models[name] = model, pace_of(model, self._split, self._trained)
        return self._models[name]


def _training(study: Study, dataset: Dataset, device: torch.device) -> float:
    """Return roughly how many seconds it takes to train a network."""
    model, recipe = untrained(study, dataset, 0).to(device), study.recipe
    on_device = replace(dataset, train=dataset.train.to(device))
    return len(dataset.train) * recipe.epochs * training(model, recipe, on_device)


def _networks(study: Study, dataset: Dataset, device: torch.device) -> tuple[list[Network], int]:
    """Return the study's networks, stand-ins for untrained ones, and the number of these."""
    pairs = [(alpha, seed) for seed in study.seeds for alpha in study.alphas]
    missing = [pair for pair in pairs if find(study, dataset, *pair) is None]
    networks = [
        _stand_in(study, dataset, *pair)
        if pair in missing
        else trained_network(study, dataset, *pair, device)
        for pair in pairs
    ]
    return networks, len(missing)


def _stand_in(study: Study, dataset: Dataset, alpha: float, seed: int) -> Network:
    name = f"alpha={exactly(alpha)} seed={seed}"
    return Network(
        name=name,
        alpha=alpha,
        seed=seed,
        training=training_key(study, dataset),
        architecture=study.model.name,
        weights=f"untrained {name}",  # no cell of the store has this hash
        load=lambda: untrained(study, dataset, seed),
    )


def _cells(
    bundles: Sequence[Sequence[Task]],
    pieces: Sequence[Work],
    networks: Sequence[Network],
    dataset: Dataset,
    request: Request,
) -> dict[str, tuple[int, int]]:
    """Return the numbers of cells to do and of cells kept, by suite."""
    left, totals = Counter[str](), Counter[str]()
    for bundle in bundles:
        left[bundle[0].work.suite] += sum(len(task.cells) for task in bundle)
    for work in pieces:
        tasks = work.tasks(networks, dataset.test, request.limit)
        totals[work.suite] += sum(len(task.cells) for task in tasks)
    return {suite: (left[suite], count - left[suite]) for suite, count in totals.items()}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use as many threads as the run would."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
