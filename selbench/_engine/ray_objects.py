"""Networks and images for Ray tasks, in Ray's object store."""

import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import device as on
from torch import nn

from selbench._engine.local import networks_of, prepare
from selbench._engine.packed import PackedNetwork, PackedSplit
from selbench._engine.ray_cluster import Share, import_ray
from selbench._engine.ray_worker import Seat, generated
from selbench._kit.crew import is_small
from selbench._kit.device import versions
from selbench._kit.errors import SelbenchError, in_short
from selbench.datasets import Split
from selbench.networks.code import is_installed
from selbench.networks.network import Network
from selbench.sets.treatment import find_variants
from selbench.store import StudyStore
from selbench.suites import Task, Work


@dataclass(frozen=True)
class FetchNetworks:
    """Fetches networks from the object store by the hash of their weights."""

    references: Mapping[str, Any]

    def __call__(self, names: Sequence[str]) -> list[PackedNetwork]:
        """Return the networks with these hashes."""
        found: list[PackedNetwork] = import_ray().get([self.references[name] for name in names])
        return found


@dataclass(frozen=True)
class FetchSplit:
    """Fetches images from the object store, for a seed if each has its own."""

    references: Mapping[int, Any]

    def __call__(self, seed: int = 0) -> Split:
        """Return the images, on the CPU."""
        packed: PackedSplit = import_ray().get(self.references[seed])
        return packed.split()


@dataclass(frozen=True)
class Networks:
    """Networks in Ray's object store.

    Attributes:
        references: Ray's references, by the hash of the weights.
        small: whether all networks are too small to share among cores.
    """

    references: dict[str, Any]
    small: bool

    @classmethod
    def put(cls, tasks: Sequence[Task], pixels: int, store: StudyStore) -> "Networks":
        """Store the networks of tasks; tasks whose networks cannot be loaded are kept as failed."""

        def send(network: Network) -> tuple[Any, bool]:
            model = prepare(network.load(), on("cpu"))
            return _put(model, network), is_small(model, pixels)

        sent = networks_of(tasks, send, store)
        references = {weights: reference for weights, (reference, _) in sent.items()}
        return cls(references, all(small for _, small in sent.values()))

    def of(self, tasks: Sequence[Task]) -> FetchNetworks:
        """Return a function that fetches the networks of tasks."""
        weights = {each.weights for task in tasks for each in task.networks}
        return FetchNetworks({name: self.references[name] for name in weights})


def _put(model: nn.Module, network: Network) -> Any:
    ray = import_ray()
    for module in {type(each).__module__ for each in model.modules()}:
        if not is_installed(sys.modules[module]):  # a user's file, which other nodes lack
            ray.cloudpickle.register_pickle_by_value(sys.modules[module])
    try:
        return ray.put(PackedNetwork.of(model))
    except (TypeError, AttributeError, ValueError, RuntimeError, pickle.PicklingError) as problem:
        raise SelbenchError(
            f"{network.name} cannot be sent to other processes ({in_short(problem)}); use "
            "--engine local"
        ) from problem


def seat_of(share: Share, pieces: Sequence[Work]) -> Seat:
    """Return the conditions under which tasks compute, which must be the same as here."""
    packages = {name: version for name, version in versions().items() if name != "python"}
    made = sorted({name for work in pieces for name in generated(work)})
    return Seat(
        "cuda" if share.gpus else "cpu", share.cpus, packages, find_variants(made), share.gpus
    )


def sendable(bundle: Sequence[Task], limit: int | None) -> list[Task]:
    """Return tasks that read their images from the object store and carry no networks."""
    work = bundle[0].work.sent(_put_splits, limit, {task.network.seed or 0 for task in bundle})

    def light(network: Network) -> Network:
        return replace(network, load=_left_behind)

    return [
        Task(work, light(task.network), task.cells, task.helper and light(task.helper))
        for task in bundle
    ]


def _put_splits(splits: Mapping[int, Split]) -> FetchSplit:
    ray = import_ray()
    return FetchSplit({seed: ray.put(PackedSplit.of(split)) for seed, split in splits.items()})


def _left_behind() -> nn.Module:
    raise NotImplementedError("networks are sent apart from their subjects")
