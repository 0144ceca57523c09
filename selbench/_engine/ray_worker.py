"""What a Ray task does; nothing here knows Ray."""

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
from selbench.suites.attacking import Order
from selbench.suites.bench import Bench, Sink
from selbench.training import train_or_find


@dataclass(frozen=True)
class Seat:
    """Where a task computes.

    Attributes:
        device: "cpu", or "cuda" for the part of a GPU that Ray assigned.
        threads: that compute, on the CPU.
        versions: of what numbers depend on, where the command was given.
        variants: of the corruptions whose pictures are looked for on disk, there.
        gpus: how much of a GPU is the task's; 0 for none.
    """

    device: str
    threads: int
    versions: Mapping[str, str]
    variants: Mapping[str, str]
    gpus: float = 0


@dataclass(frozen=True)
class Job:
    """What all bundles of a run have in common; the rest is as of a `Bench`."""

    seat: Seat
    split: PackedSplit
    classes: int
    limit: int | None
    save: int
    time_limit: float | None = None
    order: Order | None = None


@dataclass(frozen=True)
class Written:
    """Results on their way to a store: a `selbench.suites.bench.Sink`.

    Attributes:
        results: what was written together, with the outcomes behind it.
        saved: adversarials, each told by a cell of the attack.
        failed: what could not be evaluated.
        warned: what the user should hear.
    """

    results: list[tuple[list[Result], pa.Table | None]] = field(default_factory=list)
    saved: list[tuple[Cell, dict[str, Tensor]]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    parts: Parts = field(default_factory=Parts)  # of an attack all comes at once

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None:
        """Take results along."""
        self.results.append((list(results), outcomes))

    def fail(self, failed: Sequence[Failure]) -> None:
        """Take along what could not be evaluated."""
        self.failed.extend(failed)

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None:
        """Take adversarials along."""
        self.saved.append((cell, tensors))

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table:
        """Refuse: what a store holds is read where it lies."""
        raise NotImplementedError

    def unload(self, sink: Sink) -> int:
        """Write everything where it belongs, and return how many cells were evaluated."""
        for cell, tensors in self.saved:
            sink.save(cell, tensors)
        for results, outcomes in self.results:
            sink.write(results, outcomes)
        if self.failed:
            sink.fail(self.failed)
        return sum(len(results) for results, _ in self.results)


_networks: dict[str, nn.Module] = {}  # prepared, of the task before: the next one has most too


def run_elsewhere(
    job: Job,
    bundle: Sequence[Task],
    fetch: Callable[[Sequence[str]], Sequence[PackedNetwork]],
) -> Written:
    """Do a bundle's tasks; `fetch` brings networks by the hashes of their weights."""
    written = Written()
    with _seated(job.seat, bundle[0].work) as device, _listening(written.warned):
        own = _prepared(bundle, fetch, device)
        split = job.split.split().to(device)
        limit, save = job.limit, job.save
        bench = Bench(
            own,
            split,
            job.classes,
            limit,
            save,
            written,
            quiet,
            map_in_turn,
            job.time_limit,
            ends=True,  # Ray tells the command that the worker died
            order=job.order,
        )
        bench.do(bundle)
    return written


def _prepared(
    bundle: Sequence[Task],
    fetch: Callable[[Sequence[str]], Sequence[PackedNetwork]],
    device: torch.device,
) -> dict[str, nn.Module]:
    """Return a bundle's networks by the hash of their weights, and forget all others."""
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
    """Train a network, or find it in this node's cache; return its file's content and manifest."""
    name, classes, images = data
    train = images.split()
    with _seated(seat, None) as device, deterministic(device):
        dataset = Dataset(name, classes, train, train)  # training looks at no test image
        found = train_or_find(study, dataset, alpha, seed, device)
    return found.weights.read_bytes(), found.manifest


@contextmanager
def _seated(seat: Seat, work: Work | None) -> Iterator[torch.device]:
    """Compute as `seat` says, after looking whether this node computes the same numbers."""
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
    """Take no more than a part of a GPU's memory, and leave none of it to what comes next."""
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
    """Collect what selbench warns of, which would be lost in a worker's log."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    warned += [str(each.message) for each in heard if each.category is RuntimeWarning]


def _check_versions(seat: Seat) -> None:
    own = versions()
    for name, version in seat.versions.items():
        if own[name] != version:
            raise SelbenchError(
                f"the node {platform.node()} has {name} {own[name]}, this machine {version}; "
                "install the same version on all nodes"
            )


def _check_variants(seat: Seat, work: Work) -> None:
    """Refuse a node that would look at other pictures than the cells' source says."""
    for name, variant in find_variants(generated(work)).items():
        if variant != seat.variants[name]:
            raise SelbenchError(
                f"the node {platform.node()} makes {name} with other pictures than this machine "
                f"({variant or 'published'}, not {seat.variants[name] or 'published'}); put the "
                "same ones into SELBENCH_HOME/frost on all nodes"
            )


def generated(work: Work) -> list[str]:
    """Return the corruptions that a piece of work makes of images, each once."""
    return list(dict.fromkeys(each.name for each in work.makes if each.name in CORRUPTIONS))
