"""The engines that do the work: this machine, or a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Protocol, runtime_checkable

import torch

from selbench._engine.local import Local
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.progress import SILENT, Progress
from selbench.datasets import Dataset
from selbench.networks.network import Network
from selbench.request import ANYTHING, Request
from selbench.store import StudyStore
from selbench.study import Study
from selbench.suites import Work

ENGINES = ("local", "ray")


@runtime_checkable
class Engine(Protocol):
    """Trains networks and evaluates what a store lacks; every engine gives the same numbers."""

    def describe(self, device: torch.device) -> str:
        """Name the hardware, for manifests."""
        ...

    def parallelism(self, small: bool, device: torch.device) -> tuple[int, int]:
        """Return how many pieces of work, and how many networks, compute at the same time.

        `small`: whether each network computes with one thread.
        """
        ...

    def train(
        self,
        study: Study,
        dataset: Dataset,
        pairs: Sequence[tuple[float, int]],
        device: torch.device,
        progress: Progress,
    ) -> list[Network]:
        """Train the study's networks for pairs of alpha and seed, or load trained ones."""
        ...

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
        """Evaluate what the store lacks; see `selbench._engine.evaluate`."""
        ...


@contextmanager
def opened(
    name: str, address: str | None, gpus_per_task: float | None, processes: int = 1
) -> Iterator[Engine]:
    """Yield the engine called `name`, and close it at the end.

    `processes`: how many processes of this machine share the work, each with its own device.

    Raises:
        SelbenchError: for an unknown engine, options of another engine, or a cluster that does not
            answer or lacks such GPUs.
    """
    if name not in ENGINES:
        raise unknown("--engine", name, ENGINES)
    options = {"--address": address, "--gpus-per-task": gpus_per_task}
    for option, value in options.items():
        if name == "local" and value is not None:
            raise SelbenchError(f"{option} belongs to --engine ray; add that, or leave it out")
    if name == "local":
        yield Local(processes, ends=True)
        return
    if processes > 1:
        raise SelbenchError(
            "--engine ray divides the devices itself; name one device, or leave out --device"
        )
    from selbench._engine.on_ray import OnRay
    from selbench._engine.ray_cluster import connected, share

    check_gpus(gpus_per_task)
    with connected(address):
        share(True, gpus_per_task or 0)
        yield OnRay(gpus_per_task)


def check_gpus(gpus: float | None) -> None:
    """Refuse parts of GPUs that Ray cannot assign."""
    if gpus is not None and not (0 < gpus <= 1 or (isfinite(gpus) and gpus == int(gpus) > 0)):
        raise SelbenchError(
            f"--gpus-per-task takes a part of a GPU, such as 0.25, or a whole number, got {gpus:g}"
        )
