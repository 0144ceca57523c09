"""Trains and evaluates on one device; small networks run in parallel, one per core."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from selbench._engine.claiming import Claims, untried
from selbench._engine.plan import plan
from selbench._kit.crew import crew, is_small
from selbench._kit.device import describe, deterministic
from selbench._kit.locks import BusyError
from selbench._kit.progress import SILENT, Progress, quiet
from selbench.datasets import Dataset, growing, limited
from selbench.networks.network import Network, trained_network
from selbench.request import ANYTHING, Request
from selbench.store import StudyStore
from selbench.study import Study
from selbench.suites import Task, Work
from selbench.suites.bench import RAISED, Bench, record_failure
from selbench.training import find, untrained

Made = TypeVar("Made")


def evaluate(
    networks: Sequence[Network],
    pieces: Sequence[Work],
    dataset: Dataset,
    store: StudyStore,
    device: torch.device,
    request: Request = ANYTHING,
    progress: Progress = SILENT,
    ends: bool = False,
) -> int:
    """Evaluate all networks under all pieces of work that the store lacks.

    The cells of a condition are written as soon as it is done, so an interruption loses only the
    current condition. Failed tasks are stored as failed and not tried again. Tasks of other runs
    are waited for.

    Args:
        networks: the networks to test.
        pieces: conditions, analyses and attacks, from `selbench.suites.collect`.
        dataset: its test images are used.
        store: where results are written.
        device: where networks and images are placed.
        request: the numbers of test images and adversarials, and whether to retry failures.
        progress: called after every batch.
        ends: end the process if a network exceeds the time limit and cannot be interrupted.

    Returns:
        the number of cells evaluated.
    """
    split, limit = limited(dataset.test, request.limit), request.limit
    pending = untried(plan(networks, pieces, split, store, request), store, request.retry)
    prepared = networks_of(
        [task for bundle in pending for task in bundle],
        lambda network: prepare(network.load(), device),
        store,
    )
    pending, split = untried(pending, store), split.to(device)
    small = all(is_small(network, split.images[0, 0].numel()) for network in prepared.values())
    images = sum(task.work.images(split, limit) for bundle in pending for task in bundle)
    with (
        progress.track("evaluate", images) as step,
        crew(small, device, step) as (run_all, safe_step),
    ):
        classes = len(dataset.classes)
        bench = Bench(
            prepared,
            split,
            classes,
            limit,
            request.save,
            store,
            safe_step,
            run_all,
            request.time_limit,
            ends,
            growing(dataset.test.labels.cpu(), limit),
        )
        claims = Claims(store, min(request.save, len(split)))
        return claims.work_off(pending, bench.do, safe_step)


def prepare(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a network on `device`, in evaluation mode and with frozen weights."""
    prepared = model.to(device).eval()
    for parameter in prepared.parameters():  # a loop, because scripted networks lack requires_grad_
        parameter.requires_grad_(False)
    return prepared


@dataclass(frozen=True)
class Local:
    """The engine of this machine.

    Attributes:
        processes: how many processes of this machine share the work.
        ends: see `evaluate`; for commands, which own their process.
    """

    processes: int = 1
    ends: bool = False

    def describe(self, device: torch.device) -> str:
        """Name the hardware, for manifests."""
        return describe(device)

    def parallelism(self, small: bool, device: torch.device) -> tuple[int, int]:
        """Return how many pieces of work, and how many networks, compute at the same time."""
        cores = torch.get_num_threads() if small and device.type == "cpu" else 1
        return self.processes, self.processes * max(1, cores // self.processes)

    def train(
        self,
        study: Study,
        dataset: Dataset,
        pairs: Sequence[tuple[float, int]],
        device: torch.device,
        progress: Progress,
    ) -> list[Network]:
        """Train networks or load trained ones; wait last for those that another command trains."""
        small = is_small(untrained(study, dataset, 0), dataset.train.images[0, 0].numel())
        known, epochs = {p for p in pairs if find(study, dataset, *p)}, study.recipe.epochs

        def trained(pair: tuple[float, int], wait: bool = True) -> Network | None:
            told = quiet if pair in known else safe_step
            try:
                return trained_network(study, dataset, *pair, device, told, wait)
            except BusyError:
                return None

        with (
            deterministic(device),
            progress.track("train", len(pairs) * epochs, len(known) * epochs) as step,
            crew(small, device, step) as (run_all, safe_step),
        ):
            found = dict(zip(pairs, run_all(partial(trained, wait=False), pairs), strict=True))
            late = [pair for pair in pairs if found[pair] is None]
            found |= zip(late, run_all(trained, late), strict=True)
        return [each for each in found.values() if each is not None]

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
        """Evaluate what the store lacks."""
        return evaluate(networks, pieces, dataset, store, device, request, progress, self.ends)


def networks_of(
    tasks: Sequence[Task], make: Callable[[Network], Made], store: StudyStore
) -> dict[str, Made]:
    """Apply `make` to the networks that tasks need; return the results by the weights' hash.

    Tasks whose networks cannot be loaded are stored as failed.
    """
    needing: dict[str, list[Task]] = {}
    known: dict[str, Network] = {}
    for task in tasks:
        for each in task.networks:
            needing.setdefault(each.weights, []).append(task)
            known[each.weights] = each
    networks = {}
    for weights, network in known.items():
        try:
            networks[weights] = make(network)
        except RAISED as problem:
            record_failure(needing[weights], problem, store)
    return networks
