"""The work of a Ray task, without any reference to Ray."""

import platform
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from corruptions import CORRUPTIONS
from selbench._engine.local import prepare
from selbench._engine.packed import PackedNetwork, PackedSplit
from selbench._kit.crew import map_in_turn
from selbench._kit.device import choose_device, deterministic, versions
from selbench._kit.errors import SelbenchError
from selbench._kit.memory import keep_memory
from selbench._kit.progress import quiet
from selbench._kit.registry import load_plugins
from selbench.datasets import Dataset
from selbench.sets.treatment import find_variants
from selbench.store import Cell, Failure, Result
from selbench.store.parts import Parts
from selbench.study import Study
from selbench.suites import Task, Work
from selbench.suites.bench import Bench, Sink
from selbench.suites.chunked import Order
from selbench.training import train_or_find


@dataclass(frozen=True)
class Seat:
    """The conditions under which a task computes.

    Attributes:
        device: "cpu", or "cuda" for the part of a GPU that Ray assigned.
        threads: number of computing threads, on the CPU.
        versions: versions of packages on the command's machine, which numbers depend on.
        variants: variants of corruptions with pictures on the command's machine.
        gpus: the task's share of a GPU; 0 for none.
    """

    device: str
    threads: int
    versions: Mapping[str, str]
    variants: Mapping[str, str]
    gpus: float = 0


@dataclass(frozen=True)
class Job:
    """What all bundles of a run share; for the other fields see `Bench`."""

    seat: Seat
    split: PackedSplit
    classes: int
    limit: int | None
    save: int
    time_limit: float | None = None
    order: Order | None = None


@dataclass(frozen=True)
class Written:
    """Results for a store; implements `selbench.suites.bench.Sink`.

    Attributes:
        results: each a group of results written together, with their outcomes.
        saved: adversarials, each with a cell of its attack.
        failed: failures.
        warned: warnings for the user.
    """

    results: list[tuple[list[Result], pa.Table | None]] = field(default_factory=list)
    saved: list[tuple[Cell, dict[str, Tensor]]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    parts: Parts = field(default_factory=Parts)  # an attack's parts arrive all at once

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None:
        """Collect results."""
        self.results.append((list(results), outcomes))

    def fail(self, failed: Sequence[Failure]) -> None:
        """Collect failures."""
        self.failed.extend(failed)

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None:
        """Collect adversarials."""
        self.saved.append((cell, tensors))

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table:
        """Refuse: only the command can read the store."""
        raise NotImplementedError

    def unload(self, sink: Sink) -> int:
        """Write everything to `sink`, and return the number of evaluated cells."""
        for cell, tensors in self.saved:
            sink.save(cell, tensors)
        for results, outcomes in self.results:
            sink.write(results, outcomes)
        if self.failed:
            sink.fail(self.failed)
        return sum(len(results) for results, _ in self.results)


_networks: dict[str, nn.Module] = {}  # prepared, from the task before: the next one shares most


def run_elsewhere(
    job: Job,
    bundle: Sequence[Task],
    fetch: Callable[[Sequence[str]], Sequence[PackedNetwork]],
) -> Written:
    """Evaluate a bundle's tasks; `fetch` returns networks by the hash of their weights."""
    written = Written()
    with _seated(job.seat, bundle[0].work) as device, _listening(written.warned):
        networks = _prepared(bundle, fetch, device)
        split = job.split.split().to(device)
        limit, save = job.limit, job.save
        bench = Bench(
            networks,
            split,
            job.classes,
            limit,
            save,
            written,
            quiet,
            map_in_turn,
            job.time_limit,
            ends=True,  # Ray reports the worker's death to the command
            order=job.order,
        )
        bench.do(bundle)
    return written


def _prepared(
    bundle: Sequence[Task],
    fetch: Callable[[Sequence[str]], Sequence[PackedNetwork]],
    device: torch.device,
) -> dict[str, nn.Module]:
    """Return a bundle's networks by the hash of their weights, and drop all others."""
    names = list(dict.fromkeys(each.weights for task in bundle for each in task.networks))
    for name in _networks.keys() - set(names):
        del _networks[name]
    missing = [name for name in names if name not in _networks]
    for name, packed in zip(missing, fetch(missing), strict=True):
        _networks[name] = prepare(packed.network(), device)
    return dict(_networks)


def train_elsewhere(
    seat: Seat,
    study: Study,
    data: tuple[str, tuple[str, ...], PackedSplit],
    alpha: float,
    seed: int,
) -> tuple[bytes, dict[str, Any]]:
    """Train a network, or load it from this node's cache; return its file's bytes and manifest."""
    name, classes, images = data
    train = images.split()
    with _seated(seat, None) as device, deterministic(device):
        dataset = Dataset(name, classes, train, train)  # training does not use the test images
        found = train_or_find(study, dataset, alpha, seed, device)
    return found.weights.read_bytes(), found.manifest


@contextmanager
def _seated(seat: Seat, work: Work | None) -> Iterator[torch.device]:
    """Compute as `seat` requires, after checking that this node gives the same numbers."""
    keep_memory()
    load_plugins()
    _check_versions(seat)
    if work is not None:
        _check_variants(seat, work)
    before = torch.get_num_threads()
    torch.set_num_threads(seat.threads)
    try:
        with _shared(choose_device(seat.device), seat.gpus) as device:
            yield device
    finally:
        torch.set_num_threads(before)


@contextmanager
def _shared(device: torch.device, part: float) -> Iterator[torch.device]:
    """Use at most a share of a GPU's memory, and free it at the end."""
    if device.type != "cuda":
        yield device
        return
    torch.cuda.set_per_process_memory_fraction(min(1.0, part), device)
    try:
        yield device
    finally:
        _networks.clear()
        torch.cuda.empty_cache()


@contextmanager
def _listening(warned: list[str]) -> Iterator[None]:
    """Collect selbench's warnings, which would be lost in a worker's log."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    warned += [str(each.message) for each in heard if each.category is RuntimeWarning]


def _check_versions(seat: Seat) -> None:
    installed = versions()
    for name, version in seat.versions.items():
        if installed[name] != version:
            raise SelbenchError(
                f"the node {platform.node()} has {name} {installed[name]}, this machine {version}; "
                "install the same version on all nodes"
            )


def _check_variants(seat: Seat, work: Work) -> None:
    """Refuse a node whose pictures differ from those on the command's machine."""
    for name, variant in find_variants(generated(work)).items():
        if variant != seat.variants[name]:
            raise SelbenchError(
                f"the node {platform.node()} makes {name} with other pictures than this machine "
                f"({variant or 'published'}, not {seat.variants[name] or 'published'}); put the "
                "same ones into SELBENCH_HOME/frost on all nodes"
            )


def generated(work: Work) -> list[str]:
    """Return the corruptions that a piece of work applies, without repeats."""
    return list(dict.fromkeys(each.name for each in work.makes if each.name in CORRUPTIONS))
