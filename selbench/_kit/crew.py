"""Use all cores: networks side by side where they are small, one after the other where not.

A small network computes too little between two meetings of its threads: two threads are hardly
faster than one, and tens of times slower where another process takes a core, since threads that
wait for a sleeping one spin. One thread per network and as many networks at once as there are
cores has neither problem, and each network's numbers are those of computing it alone.
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
    """Raised in a worker to end it early, after another failed or the user interrupted."""


def is_small(model: nn.Module, pixels: int) -> bool:
    """Say whether `model` computes too little per image of so many pixels to share among cores."""
    return sum(parameter.numel() for parameter in model.parameters()) * pixels < SMALL


def map_in_turn(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map over `items`, one after the other."""
    return [function(item) for item in items]


@contextmanager
def crew(small: bool, device: torch.device, step: Step) -> Iterator[tuple[Map[Any, Any], Step]]:
    """Yield a `map` over networks, and `step` made safe to call from several of them.

    On the CPU and for small networks the map runs in as many threads as there are cores, with one
    computing thread each. When one fails, or the user interrupts, the others end at their next
    `step` with `StoppedError`.
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

    torch.set_num_threads(1)  # new threads take this over
    pool = ThreadPoolExecutor(cores)
    try:
        yield run_all, safe_step
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
