"""Several devices of this machine: the same command on each; commands share a store's work."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from selbench._kit.device import check_device

COMMAND = (sys.executable, "-m", "selbench")


@contextmanager
def also_on(devices: Sequence[str], words: Sequence[str]) -> Iterator[None]:
    """Have processes do the command of `words` on further devices too, while the block runs.

    They say nothing: what one of them leaves undone the block does. They are waited for, or ended
    where the block fails.

    Raises:
        SelbenchError: where this machine lacks one of the devices.
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
