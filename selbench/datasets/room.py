"""Room for many images: in memory where they are few, else in a file that no name leads to."""

import os
import sys
from collections.abc import Iterable
from math import prod
from tempfile import TemporaryFile

import numpy as np
import torch

from selbench._kit.files import cannot_write, home
from selbench._kit.types import Pixels

IN_MEMORY = 2**30  # bytes


def gathered(parts: Iterable[Pixels], images: int) -> Pixels:
    """Join batches of images, at least one, on the CPU or not; `images` is how many there will be.

    Large ones lie in a file on the disk of the cache, mapped into memory; its room is free again
    when nobody uses them any more. They are channels_last in memory.
    """
    whole: Pixels | None = None
    start = 0
    for part in parts:
        rows = part.permute(0, 2, 3, 1)
        if whole is None:
            whole = _room((images, *rows.shape[1:]), rows.device)
        whole[start : start + len(rows)] = rows
        start += len(rows)
    assert whole is not None
    return whole.permute(0, 3, 1, 2)


def _room(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return an array of bytes of any values."""
    size = prod(shape)
    if device.type != "cpu" or size <= IN_MEMORY:
        return torch.empty(shape, dtype=torch.uint8, device=device)
    folder = home() / "datasets"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            if sys.platform == "linux":  # a full disk is an error here, not a signal later
                os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=shape))
    except OSError as problem:
        raise cannot_write(folder, problem) from problem
