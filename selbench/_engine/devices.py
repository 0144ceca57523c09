"""Several devices of this machine: each runs the same command, and they share a store's work."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from selbench._kit.device import check_device

COMMAND = (sys.executable, "-m", "selbench")


@contextmanager
def also_on(devices: Sequence[str], words: Sequence[str]) -> Iterator[None]:
    """Run the command in `words` on further devices too, in processes, while the block runs.

    These processes print nothing, and the block does what one of them leaves undone. At the end
    they are waited for, or terminated if the block fails.

    Raises:
        SelbenchError: if this machine lacks one of the devices.
    """
    for each in devices:
        check_device(each)
    others = [_process([*COMMAND, *words, "--device", each, "--quiet"]) for each in devices]
    try:
        yield
    except BaseException:
        for process in others:
            process.terminate()
        raise
    finally:
        for process in others:
            process.wait()


def _process(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
