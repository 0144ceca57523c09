"""Trains and evaluates on a Ray cluster: networks and pieces of work are its tasks.

Ray's object store holds the test images and each network once per node, for all its processes.
Results return to the command, the only process that writes the store.
"""

import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch

from selbench._engine.claiming import Claims, untried
from selbench._engine.packed import PackedSplit
from selbench._engine.plan import plan
from selbench._engine.ray_cluster import (
    Share,
    as_completed,
    describe,
    import_ray,
    places_of,
    received,
    room_for,
    share,
)
from selbench._engine.ray_objects import Networks, seat_of, sendable
from selbench._engine.ray_worker import Job, Written, run_elsewhere, train_elsewhere
from selbench._kit.crew import is_small, map_in_turn
from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.locks import POLL
from selbench._kit.progress import SILENT, Progress, Step
from selbench.datasets import Dataset, growing, limited
from selbench.networks.network import Network, trained_network
from selbench.request import ANYTHING, Request
from selbench.store import StudyStore
from selbench.study import Study
from selbench.suites import Task, Work
from selbench.suites.bench import Bench, record_failure
from selbench.training import adopt, find, untrained

Pairs = Sequence[tuple[float, int]]
Bundle = list[Task]


@dataclass(frozen=True)
class OnRay:
    """The engine for the Ray cluster that this process is connected to.

    Attributes:
        gpus: share of a GPU for each task; None for a full GPU if this machine computes on one,
            otherwise 0.
    """

    gpus: float | None = None

    def _gpus(self, device: torch.device) -> float:
        return float(device.type == "cuda") if self.gpus is None else self.gpus

    def describe(self, device: torch.device) -> str:
        """Name the hardware, for manifests."""
        return describe(self._gpus(device))

    def parallelism(self, small: bool, device: torch.device) -> tuple[int, int]:
        """Return how many pieces of work, and how many networks, compute at the same time."""
        places = places_of(share(small, self._gpus(device)))
        return places, places

    def train(
        self, study: Study, dataset: Dataset, pairs: Pairs, device: torch.device, progress: Progress
    ) -> list[Network]:
        """Train the networks for pairs of alpha and seed, one per task, or load trained ones.

        Raises:
            SelbenchError: if a task failed; the other networks are trained nevertheless.
        """
        epochs = study.recipe.epochs
        missing = [pair for pair in pairs if find(study, dataset, *pair) is None]
        done = (len(pairs) - len(missing)) * epochs
        with progress.track("train", len(pairs) * epochs, done) as step:
            if missing:
                pixels = dataset.train.images[0, 0].numel()
                small = is_small(untrained(study, dataset, 0), pixels)
                _train(study, dataset, missing, share(small, self._gpus(device)), step)
        return [trained_network(study, dataset, *pair, device) for pair in pairs]

    def evaluate(
        self,
        networks: Sequence[Network],
        pieces: Sequence[Work],
        dataset: Dataset,
        store: StudyStore,
        device: torch.device,
        request: Request = ANYTHING,
        progress: Progress = SILENT,
    ) -> int:
        """Evaluate what the store lacks, to the same bytes as `local.evaluate`."""
        split, limit = limited(dataset.test, request.limit), request.limit
        pending = untried(plan(networks, pieces, split, store, request), store, request.retry)
        away = apart([g for g in pending if not g[0].work.reads_outcomes])
        here = [bundle for bundle in pending if bundle[0].work.reads_outcomes]
        claims = Claims(store, min(request.save, len(split)))
        images = sum(task.work.images(split, limit) for bundle in away for task in bundle)
        with progress.track("evaluate", images) as step:
            classes = len(dataset.classes)
            bench = Bench(
                {},
                split,
                classes,
                limit,
                request.save,
                store,
                step,
                map_in_turn,
                request.time_limit,
                order=growing(dataset.test.labels, limit),
            )
            evaluated = _evaluate(away, bench, claims, store, self._gpus(device))
            return evaluated + claims.work_off(here, bench.do, step)


def apart(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Split bundles that share no perturbed images into single tasks, to spread them."""
    found: list[Bundle] = []
    for bundle in bundles:
        found += [bundle] if bundle[0].work.shares else [[task] for task in bundle]
    return found


def _train(study: Study, dataset: Dataset, missing: Pairs, assigned: Share, step: Step) -> None:
    ray, seat = import_ray(), seat_of(assigned, [])
    task = assigned.task(train_elsewhere)
    data = ray.put((dataset.name, dataset.classes, PackedSplit.of(dataset.train)))
    failed: list[str] = []

    def submit(pair: tuple[float, int]) -> Any:
        return task.remote(seat, study, data, *pair)

    with closing(as_completed(missing, submit, room_for(assigned))) as arriving:
        for (alpha, seed), reference in arriving:
            try:
                weights, manifest = received(reference)
            except SelbenchError:
                raise
            except Exception as problem:  # whatever happens to a task
                failed.append(f"alpha={alpha:g} seed={seed}: {in_short(problem)}")
            else:
                adopt(study, dataset, alpha, seed, weights, manifest)
            step(study.recipe.epochs, f"alpha={alpha:g} seed={seed}")
    if failed:
        raise SelbenchError(
            f"{len(failed)} of {len(missing)} networks could not be trained ({failed[0]}); the "
            "same command tries again"
        )


def _evaluate(
    bundles: Sequence[Bundle], bench: Bench, claims: Claims, store: StudyStore, gpus: float
) -> int:
    """Put what the bundles need into the object store, and evaluate them."""
    if not bundles:
        return 0
    split = bench.split
    tasks = [task for bundle in bundles for task in bundle]
    networks = Networks.put(tasks, split.images[0, 0].numel(), store)
    assigned = share(networks.small, gpus)
    seat = seat_of(assigned, [bundle[0].work for bundle in bundles])
    packed = PackedSplit.of(split)
    settings = bench.classes, bench.limit, bench.save, bench.time_limit, bench.order
    job = Job(seat, packed, *settings)
    run = _Run(bench, claims, networks, assigned, import_ray().put(job))
    return run.work_off(untried(bundles, store))


@dataclass(frozen=True)
class _Run:
    """One command's work on the cluster; its results go to `bench`."""

    bench: Bench
    claims: Claims
    networks: Networks
    share: Share
    job: Any  # Ray's reference to a Job

    def work_off(self, bundles: Sequence[Bundle]) -> int:
        """Evaluate the bundles' tasks, and return the number of evaluated cells.

        Tasks of other commands are waited for.
        """
        evaluated, room = 0, room_for(self.share)
        while bundles:
            again: list[Bundle] = []
            claimed = self._claimed(bundles, again)
            with closing(claimed), closing(as_completed(claimed, self._submit, room)) as arriving:
                for (bundle, claim), reference in arriving:
                    with claim:
                        evaluated += self._receive(bundle, reference, again)
            if sum(map(len, again)) == sum(map(len, bundles)):
                self.bench.step(0, f"waits for {self.claims.waits_for}")
                time.sleep(POLL)
            bundles = again
        return evaluated

    def _claimed(
        self, bundles: Sequence[Bundle], again: list[Bundle]
    ) -> Generator[tuple[Bundle, ExitStack], None, None]:
        """Yield the free tasks of each bundle with their claim; add the others to `again`."""
        with ExitStack() as held:
            for bundle in bundles:
                claim = held.enter_context(ExitStack())
                free, others = claim.enter_context(self.claims.of(bundle))
                if others:
                    again.append(others)
                if free:
                    yield free, claim
                else:
                    claim.close()

    def _submit(self, claimed: tuple[Bundle, ExitStack]) -> Any:
        bundle, claim = claimed
        run = self.share.task(run_elsewhere)
        try:
            return run.remote(
                self.job, sendable(bundle, self.bench.limit), self.networks.of(bundle)
            )
        except Exception as problem:  # images on disk that cannot be read
            record_failure(bundle, problem, self.bench.sink)
            claim.close()
            return None

    def _receive(self, bundle: Bundle, reference: Any, again: list[Bundle]) -> int:
        """Store the results of a bundle's task, and return the number of evaluated cells.

        A bundle that was lost with its worker goes to `again`, split into single tasks.
        """
        work, bench, evaluated = bundle[0].work, self.bench, 0
        try:
            written: Written = received(reference)
        except Exception as problem:  # its worker or node died, repeatedly
            if len(bundle) > 1 and not isinstance(problem, SelbenchError):
                again.extend([task] for task in bundle)  # one network must not fail others
                return 0
            record_failure(bundle, problem, bench.sink)
        else:
            evaluated = written.unload(bench.sink)
            for message in written.warned:
                warnings.warn(message, RuntimeWarning, stacklevel=2)
        bench.step(work.images(bench.split, bench.limit) * len(bundle), work.name)
        return evaluated
