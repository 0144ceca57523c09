"""Space for many images: in memory if they are few, else in an unnamed temporary file."""

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
    """Join at least one batch of images, on any device; `images` is the total number.

    If they are large, they are in a memory-mapped file on the disk of the cache, whose space is
    freed with the tensor. The memory format is channels_last.
    """
    pixels: Pixels | None = None
    start = 0
    for part in parts:
        rows = part.permute(0, 2, 3, 1)
        if pixels is None:
            pixels = _room((images, *rows.shape[1:]), rows.device)
        pixels[start : start + len(rows)] = rows
        start += len(rows)
    assert pixels is not None
    return pixels.permute(0, 3, 1, 2)


def _room(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return an uninitialised array of bytes."""
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
