"""What a run would do, and about how long it would take."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from selbench.crew import is_small
from selbench.datasets import Dataset, Split, limited
from selbench.engine import Engine, plan, prepare
from selbench.engine.plan import Task, length_of, tasks_of
from selbench.probing import Pace, analysing, pace_of, perturbing, training
from selbench.store import StudyStore
from selbench.study import Study, count_of, exactly
from selbench.subjects import Network, trained_network
from selbench.suites import (
    Analysis,
    Attack,
    Comparison,
    Condition,
    Passes,
    Validation,
    Work,
)
from selbench.training import find, training_key, untrained


@dataclass(frozen=True)
class Seconds:
    """Of computing: what is made once for all networks, and what each has of its own."""

    shared: float = 0.0
    own: float = 0.0


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes:
        suites: cells that are to be evaluated, and those that are kept, by suite.
        networks: how many are evaluated.
        untrained: how many of them have to be trained first.
        passes: of images through networks, analyses apart; at most, where there are attacks.
        attacks: how many pieces of work end early where networks err.
        unknown: pieces of work of which it is not known how long they take.
        seconds: that everything takes about, training included.
        at_once: how many networks compute at the same time.
    """

    suites: dict[str, tuple[int, int]]
    networks: int
    untrained: int
    passes: Passes
    attacks: int
    unknown: tuple[str, ...]
    seconds: float
    at_once: int


def dry_run(
    study: Study,
    dataset: Dataset,
    brought: Sequence[Network],
    pieces: Sequence[Work],
    store: StudyStore,
    engine: Engine,
    device: torch.device,
    limit: int | None = None,
    save: int = 0,
) -> DryRun:
    """Plan a run, and time what it consists of on a few images; nothing is kept.

    `brought` are the networks to evaluate, none for the study's.
    """
    subjects, missing = (list(brought), 0) if brought else _subjects(study, dataset, device)
    split = limited(dataset.test, limit)
    groups = plan(subjects, pieces, split, limit, store, save)
    network = prepare(subjects[0].load(), device)
    small = is_small(network, split.images[0, 0].numel())
    pieces_at_once, networks_at_once = engine.at_once(small, device)
    with _threads(1 if small else torch.get_num_threads()):
        timing = _Timing(split.to(device), limit, len(dataset.classes), device, pieces)
        spent = [timing.of(group) for group in groups]
        own = sum(each.own for each in spent)
        if missing:
            model, recipe = untrained(study, dataset, 0).to(device), study.recipe
            images = len(dataset.train) * recipe.epochs * missing
            own += images * training(model, recipe, _on(dataset, device))
    shared = sum(each.shared for each in spent)
    attacks = sum(isinstance(group[0].work, Attack) for group in groups)
    return DryRun(
        _cells(groups, pieces, subjects, split, limit),
        len(subjects),
        missing,
        _passes(groups, split, limit),
        attacks,
        tuple(dict.fromkeys(timing.unknown)),
        shared / pieces_at_once + own / networks_at_once,
        networks_at_once,
    )


def described(plan: DryRun) -> list[str]:
    """Return lines that tell people what a run would do."""
    width = max(map(len, plan.suites), default=0)
    cells = [
        f"{suite:<{width}}  {left:>9,} cells to do, {kept:,} kept"
        for suite, (left, kept) in plan.suites.items()
    ]
    bound = "at most " if plan.attacks else ""
    lines = [f"{count_of(plan.networks, 'network')}, {plan.untrained:,} of them to train", *cells]
    lines.append(f"{plan.passes.forward:,} images forward through networks, as far as is known")
    if plan.passes.backward:
        lines.append(f"{bound}{plan.passes.backward:,} images forward and back")
    at_once = count_of(plan.at_once, "network")
    lines.append(f"{bound}about {_duration(plan.seconds)}, {at_once} at once")
    if plan.unknown:
        lines.append(f"and what is not known to take how long: {', '.join(plan.unknown)}")
    return lines


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


class _Timing:
    """Times the parts of groups, each kind once."""

    def __init__(
        self,
        split: Split,
        limit: int | None,
        classes: int,
        device: torch.device,
        pieces: Sequence[Work],
    ) -> None:
        self._split, self._limit, self._classes, self._device = split, limit, classes, device
        self._conditions = [each for work in pieces for each in _conditions(work)]
        self._networks: dict[str, nn.Module] = {}
        self._known: dict[tuple[str, ...], float | None] = {}
        self._paces: dict[str, Pace] = {}
        self.unknown: list[str] = []

    def of(self, group: Sequence[Task]) -> Seconds:
        """Return about how long a group takes."""
        work, images = group[0].work, length_of(group[0].work, self._split, self._limit)
        own = sum(self._of_network(work, task.subject, images) for task in group)
        return Seconds(images * sum(map(self._perturbing, _conditions(work))), own)

    def _of_network(self, work: Work, subject: Network, images: int) -> float:
        if isinstance(work, Condition | Validation):
            return images * self._pace(subject).forward
        if isinstance(work, Attack):
            pace, passes = self._pace(subject), work.passes
            if passes is None or (passes.backward and pace.backward is None):
                self.unknown.append(work.name)
                return 0.0
            backward = passes.backward * (pace.backward or 0.0)
            return images * (passes.forward * pace.forward + backward)
        if isinstance(work, Analysis | Comparison):
            name = work.suite if isinstance(work, Comparison) else f"{work.suite} {work.name}"
            return self._analysing(work, subject, name)
        return 0.0

    def _analysing(self, work: Analysis | Comparison, subject: Network, name: str) -> float:
        network = self._network(subject)
        seconds = self._once(
            (name, subject.architecture),
            lambda: analysing(work, network, self._split, self._classes),
        )
        if seconds is None:
            self.unknown.append(name)
        return seconds or 0.0

    def _perturbing(self, condition: Condition) -> float:
        """Return the seconds an image takes; one severity, in the middle, stands for all."""
        kind = [each for each in self._conditions if each.name == condition.name]
        middle = kind[len(kind) // 2]
        return self._once((condition.name,), lambda: perturbing(middle, self._split)) or 0.0

    def _once(self, key: tuple[str, ...], measure: Callable[[], float | None]) -> float | None:
        if key not in self._known:
            self._known[key] = measure()
        return self._known[key]

    def _network(self, subject: Network) -> nn.Module:
        """Return one network of the subject's architecture."""
        if subject.architecture not in self._networks:
            self._networks[subject.architecture] = prepare(subject.load(), self._device)
        return self._networks[subject.architecture]

    def _pace(self, subject: Network) -> Pace:
        name = subject.architecture
        if name not in self._paces:
            self._paces[name] = pace_of(self._network(subject), self._split)
        return self._paces[name]


def _conditions(work: Work) -> Sequence[Condition]:
    """Return what a piece of work makes of the images, before networks see them."""
    if isinstance(work, Comparison):
        return work.conditions
    return [work] if isinstance(work, Condition) and work.group else []


def _subjects(study: Study, dataset: Dataset, device: torch.device) -> tuple[list[Network], int]:
    """Return the study's networks, with stand-ins for those that are not trained, and how many."""
    pairs = [(alpha, seed) for seed in study.seeds for alpha in study.alphas]
    missing = [pair for pair in pairs if find(study, dataset, *pair) is None]
    subjects = [
        _stand_in(study, dataset, *pair)
        if pair in missing
        else trained_network(study, dataset, *pair, device)
        for pair in pairs
    ]
    return subjects, len(missing)


def _stand_in(study: Study, dataset: Dataset, alpha: float, seed: int) -> Network:
    name = f"alpha={exactly(alpha)} seed={seed}"
    return Network(
        name=name,
        alpha=alpha,
        seed=seed,
        training=training_key(study, dataset),
        architecture=study.model.name,
        weights=f"untrained {name}",  # no cell of the store has it
        load=lambda: untrained(study, dataset, seed),
    )


def _cells(
    groups: Sequence[Sequence[Task]],
    pieces: Sequence[Work],
    subjects: Sequence[Network],
    split: Split,
    limit: int | None,
) -> dict[str, tuple[int, int]]:
    """Return the cells to do and those kept, by suite."""
    left, whole = Counter[str](), Counter[str]()
    for group in groups:
        left[group[0].work.suite] += sum(len(task.cells) for task in group)
    for work in pieces:
        whole[work.suite] += sum(len(t.cells) for t in tasks_of(work, subjects, split, limit))
    return {suite: (left[suite], count - left[suite]) for suite, count in whole.items()}


def _passes(groups: Sequence[Sequence[Task]], split: Split, limit: int | None) -> Passes:
    """Add up the passes of images through networks, where they are known."""
    forward = backward = 0
    for group in groups:
        work = group[0].work
        images = length_of(work, split, limit) * len(group)
        each = _passes_of(work)
        forward, backward = forward + images * each.forward, backward + images * each.backward
    return Passes(forward, backward)


def _passes_of(work: Work) -> Passes:
    if isinstance(work, Attack):
        return work.passes or Passes()
    if isinstance(work, Comparison):
        return Passes(1 + len(work.conditions))
    return Passes(int(isinstance(work, Condition | Validation)))


def _on(dataset: Dataset, device: torch.device) -> Dataset:
    return replace(dataset, train=dataset.train.to(device))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many threads, as the run does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
