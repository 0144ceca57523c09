"""Attacks networks in chunks of images, until all comparisons are decided or time is up.

All networks see the same images, in the order in which growing limits add them, so that stopping
gives the same result as a run with that limit.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf

import torch

from selbench._engine.local import prepare
from selbench._kit.crew import StoppedError, crew, is_small
from selbench._kit.deadline import Clock
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import Progress, Step, quiet
from selbench.datasets import Dataset, growing, limited
from selbench.networks.network import Network
from selbench.request import Request
from selbench.statistics.sequential import Draws, bounds, displaced, fewest, within
from selbench.store import StudyStore
from selbench.store.outcomes import Columns
from selbench.store.parts import key_of
from selbench.suites import Attack, Task, Work
from selbench.suites.attacking import CHUNK
from selbench.suites.bench import RAISED, Bench

ALPHA = 0.05  # error probability over all comparisons of a command
UNEVEN = 0.1  # most that classes of the first images may differ from a random draw, as a share
ABOVE, BELOW, ALIKE, OPEN = "above", "below", "alike", "open"


@dataclass(frozen=True)
class Stop:
    """When to stop.

    Attributes:
        margin: points of robust accuracy; smaller differences need not be decided.
        seconds: time limit of the command; None for no limit.
        threshold: per cent to compare with, for a single network.
    """

    margin: float = 3.0
    seconds: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Compared:
    """Two networks under one attack at one level, or one network and the threshold.

    Attributes:
        second: name of the other network; "" for the threshold.
        value, low, high: the first minus the second, in points, with its interval.
        decided: ABOVE, BELOW, ALIKE (within the margin), or OPEN.
    """

    attack: str
    level: float
    first: str
    second: str
    value: float
    low: float
    high: float
    decided: str


@dataclass(frozen=True)
class Stopped:
    """The comparisons, after `images` of `size` images.

    Attributes:
        failed: networks on which an attack failed; they are not compared.
    """

    images: int
    size: int
    compared: Sequence[Compared]
    failed: Sequence[str]


def slow(pieces: Sequence[Work]) -> list[Attack]:
    """Return the attacks that can stop early; raise `SelbenchError` if there are none."""
    found = [work for work in pieces if isinstance(work, Attack) and work.chunked]
    if not found:
        raise SelbenchError(
            "--budget, --margin and --threshold stop attacks of the suite attacks-strong, and none "
            "is asked for; add --suite attacks-strong --attack autoattack-linf, or leave them out"
        )
    return found


def check_stop(stop: Stop, networks: int, dataset: Dataset, chunk: int) -> None:
    """Raise `SelbenchError` if nothing can be compared, or images are not in random order."""
    if networks > 1 and stop.threshold is not None:
        raise SelbenchError(
            f"--threshold is for one network, and there are {networks}, which are compared with "
            "each other; leave it out, or name one network"
        )
    if networks == 1 and stop.threshold is None and stop.seconds is None:
        raise SelbenchError(
            "--margin compares networks, and there is one; compare it with a robust accuracy by "
            "--threshold PERCENT, or name more networks"
        )
    share = displaced(dataset.test.labels.cpu().numpy(), chunk)
    if share > UNEVEN:
        raise SelbenchError(
            f"the classes of {dataset.name} differ so much in size that its first images are no "
            f"random sample ({share:.0%} of them are of other classes) and decide nothing; "
            "use --limit instead of --budget, --margin and --threshold"
        )


def comparisons(attacks: Sequence[Attack], networks: int) -> int:
    """Return the number of comparisons, which share the probability of a false decision."""
    return max(1, networks * (networks - 1) // 2) * sum(len(work.levels) for work in attacks)


def least(stop: Stop, size: int, count: int) -> int:
    """Return after how many images equal networks can be decided, for `count` comparisons."""
    return fewest(size, ALPHA / count, stop.margin / 100)


class Race:
    """Networks that are attacked side by side.

    Args:
        bench: runs the attacks; its split and order are replaced at each stop.
        dataset: its test images are used.
        store: where finished chunks are kept.
        request: the most images, and the number of adversarials to keep.
        step: called with the number of images by which a network is ahead.
    """

    def __init__(
        self, bench: Bench, dataset: Dataset, store: StudyStore, request: Request, step: Step
    ) -> None:
        self._bench, self._dataset, self._step, self._images = bench, dataset, step, 0
        self._locks, self._save = store.locks, request.save
        self.correct: dict[tuple[str, float, str], Draws] = {}  # by attack, level and network
        self.failed: dict[str, BaseException] = {}
        self._clocks: dict[str, Clock] = {}

    def advance(self, tasks: Sequence[Task], images: int, late: float) -> bool:
        """Attack the first `images` images; return whether all was done before `late`."""
        labels = self._dataset.test.labels.cpu()
        split = limited(self._dataset.test, images).to(self._bench.split.labels.device)
        order = growing(labels, images)
        bench = replace(self._bench, split=split, order=order, limit=images, save=self._save)
        found: dict[tuple[str, float, str], Draws] = {}
        cut: list[Task] = []

        def attempt(task: Task) -> None:
            work = task.work
            assert isinstance(work, Attack)
            if task.network.name in self.failed:
                return
            if time.monotonic() > late:
                cut.append(task)
                return
            key = key_of(task.cells)
            clock = self._clocks.setdefault(key, bench.clock(task))
            try:
                with self._locks.holding(key), clock.running():
                    outcomes, _ = bench.under_attack(work.attack, task, chunked=True)
            except (SelbenchError, StoppedError):
                raise
            except RAISED as problem:
                self.failed[task.network.name] = problem
                return
            for level, columns in zip(work.budgets, outcomes, strict=True):
                found[work.name, level, task.network.name] = _correct(columns, order)
            self._step(images - self._images, work.name)

        bench.run_all(attempt, tasks)
        if cut:
            return False
        self.correct, self._images = found, images
        return True


def stopped(
    networks: Sequence[Network],
    pieces: Sequence[Work],
    dataset: Dataset,
    store: StudyStore,
    device: torch.device,
    request: Request,
    stop: Stop,
    progress: Progress,
    began: float,
) -> Stopped:
    """Attack chunk after chunk until all comparisons are decided, or time since `began` is up.

    At least one chunk is attacked, and at most the images within the request's limit.

    Raises:
        SelbenchError: if nothing can be compared.
    """
    attacks, chunk = slow(pieces), CHUNK[device.type]
    check_stop(stop, len(networks), dataset, chunk)
    split = limited(dataset.test, request.limit)
    tasks = [t for work in attacks for t in work.tasks(networks, split, request.limit)]
    helpers = {each.weights: each for task in tasks for each in task.networks}
    prepared = {name: prepare(each.load(), device) for name, each in helpers.items()}
    small = all(is_small(each, split.images[0, 0].numel()) for each in prepared.values())
    late = inf if stop.seconds is None else began + stop.seconds
    size, done = len(split), 0
    with (
        progress.track("decide", size * len(tasks)) as step,
        crew(small, device, step) as (run_all, safe_step),
    ):
        bench = Bench(
            prepared,
            split.to(device),
            len(dataset.classes),
            None,
            0,
            store,
            quiet,  # it would count earlier images again
            run_all,
            request.time_limit,
        )
        race = Race(bench, dataset, store, request, safe_step)
        for images in _stops(size, chunk):
            if not race.advance(tasks, images, late if done else inf):
                break
            done = images
            compared = [*_compared(race.correct, attacks, networks, stop, size)]
            decided = compared and all(each.decided != OPEN for each in compared)
            if decided or time.monotonic() > late:
                break
    comparisons_made = [*_compared(race.correct, attacks, networks, stop, size, exact=True)]
    return Stopped(done, size, comparisons_made, sorted(race.failed))


def _stops(size: int, chunk: int) -> Iterator[int]:
    yield from range(chunk, size, chunk)
    yield size


def _correct(columns: Columns, order: torch.Tensor) -> Draws:
    right = (columns["prediction"] == columns["label"]).double()
    return right[order].numpy()


def _compared(
    correct: Mapping[tuple[str, float, str], Draws],
    attacks: Sequence[Attack],
    networks: Sequence[Network],
    stop: Stop,
    size: int,
    exact: bool = False,
) -> Iterator[Compared]:
    """Yield all possible comparisons; compute their intervals only if `exact`."""
    alpha = ALPHA / comparisons(attacks, len(networks))
    names = [each.name for each in networks]
    pairs = [*combinations(names, 2)] if len(names) > 1 else [(names[0], "")]
    for work in attacks:
        for level in work.budgets:
            for first, second in pairs:
                one = correct.get((work.name, level, first))
                other = correct.get((work.name, level, second))
                if one is None or (second and other is None):
                    continue
                if second:
                    assert other is not None
                    made = _compare((1 + one - other) / 2, size, alpha, 0.5, stop, 2.0, exact)
                elif stop.threshold is not None:
                    made = _compare(one, size, alpha, stop.threshold / 100, stop, 1.0, exact)
                else:
                    continue
                yield Compared(work.name, level, first, second, *made)


def _compare(
    draws: Draws, size: int, alpha: float, null: float, stop: Stop, scale: float, exact: bool
) -> tuple[float, float, float, str]:
    """Return the mean of the draws minus `null` in points, its interval, and the decision."""
    near = stop.margin / 100 / scale
    verdicts = {ABOVE: (null, 2.0), BELOW: (-1.0, null), ALIKE: (null - near, null + near)}
    decided = next(
        (word for word, ends in verdicts.items() if within(draws, size, alpha, *ends)), OPEN
    )
    found = bounds(draws, size, alpha) if exact else None
    ends = (found.low, found.high) if found else (0.0, 1.0)
    value, low, high = (100 * scale * (each - null) for each in (draws.mean(), *ends))
    return float(value), low, high, decided
