"""Several devices of this machine: each runs the same command, and they share a store's work."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from selbench._kit.device import check_device

COMMAND = (sys.executable, "-m", "selbench")


@contextmanager
def also_on(first: str, others: Sequence[str], words: Sequence[str]) -> Iterator[None]:
    """Run the command in `words` on further devices too, in processes, while the block runs.

    These processes print nothing, and the block, on the device `first`, does what one of them
    leaves undone. At the end they are waited for, or terminated if the block fails. Processes on
    the CPU share its cores.

    Raises:
        SelbenchError: if this machine lacks one of the devices.
    """
    for each in others:
        check_device(each)
    cores = torch.get_num_threads()
    threads = max(1, cores // max(1, [first, *others].count("cpu")))
    processes = [_process([*COMMAND, *words, "--device", e, "--quiet"], threads) for e in others]
    torch.set_num_threads(threads)
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.wait()
        torch.set_num_threads(cores)


def _process(command: Sequence[str], threads: int) -> "subprocess.Popen[bytes]":
    nothing, limited = subprocess.DEVNULL, os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, env=limited)
