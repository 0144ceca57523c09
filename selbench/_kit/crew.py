"""Use all cores: run small networks in parallel, and large ones one after another.

A small network computes too little between two synchronisations of its threads. Two threads are
then hardly faster than one, and tens of times slower if another process uses a core, because
threads spin while they wait for a sleeping one. One thread per network, with as many networks as
cores, avoids both, and each network gives the same numbers as when it runs alone.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any, TypeVar

import torch
from torch import nn

from selbench._kit.progress import Step

SMALL = 1e8  # parameters x pixels of an image; ResNet8 has 2e7 at 32 pixels, ResNet20 3e8

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Sequence[Item]], list[Result]]


class StoppedError(Exception):
    """Ends a worker early, after another one failed or the user interrupted."""


def is_small(model: nn.Module, pixels: int) -> bool:
    """Return whether `model` is too small to share among cores, for images of so many pixels."""
    return sum(parameter.numel() for parameter in model.parameters()) * pixels < SMALL


def map_in_turn(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map over `items`, one after the other."""
    return [function(item) for item in items]


@contextmanager
def crew(small: bool, device: torch.device, step: Step) -> Iterator[tuple[Map[Any, Any], Step]]:
    """Yield a `map` over networks, and a `step` that several threads may call.

    For small networks on the CPU the map uses one thread per core, with one computing thread each.
    If one fails, or the user interrupts, the others end at their next `step` with `StoppedError`.
    """
    cores = torch.get_num_threads()
    if cores == 1 or not small or device.type != "cpu":
        yield map_in_turn, step
        return
    lock, stop = Lock(), Event()

    def safe_step(pieces: int = 1, note: str = "") -> None:
        with lock:
            if stop.is_set():
                raise StoppedError
            step(pieces, note)

    def run_all(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        futures = [pool.submit(function, item) for item in items]
        failed = [f for f in wait(futures, return_when=FIRST_EXCEPTION).done if f.exception()]
        if failed:
            stop.set()
        return [future.result() for future in failed or futures]

    torch.set_num_threads(1)  # new threads inherit this
    pool = ThreadPoolExecutor(cores)
    try:
        yield run_all, safe_step
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
