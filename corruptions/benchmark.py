"""The nineteen corruptions of Hendrycks & Dietterich, 2019, arXiv:1903.12261, and how to apply one.

Importing this module fills the table: each family's module enters its own functions.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from corruptions import blur, digital, noise, weather  # noqa: F401 (they fill the table)
from corruptions.draws import KeyedDraws
from corruptions.registry import Corruption, registered

__all__ = ["CORRUPTIONS", "corrupt"]

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(registered())

# values corrupted at once: what keeps a processor's working set in its cache, and a GPU busy
_VALUES_ON_CPU, _VALUES_ON_GPU = 2**17, 2**26


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    examples: Tensor,
    seed: int = 0,
    scale: int | None = None,
) -> Tensor:
    """Apply one corruption of `CORRUPTIONS` to a batch.

    images: uint8 (batch, 3, height, width), on any device and in any memory format; not changed.
    examples: int64 (batch,), each image's position in its data set. The random numbers of an image
        depend on its position, name, severity and seed alone: neither on its neighbours in the
        batch nor, up to rounding, on the device.
    scale: 32 for the constants of CIFAR-10-C, 64 for Tiny-ImageNet-C, 224 for ImageNet-C; by
        default that of the images' own size.
    Returns uint8 of the same shape, on the same device.
    Raises ValueError for an unknown name, severity or scale, a size without constants, and tensors
        of another dtype or shape.
    Source: Hendrycks & Dietterich, 2019, arXiv:1903.12261.
    """
    corruption = _find(name)
    _check_severity(corruption, severity)
    _check_tensors(images, examples)
    scale = _find_scale(corruption, images, scale)
    if not len(images):
        return images.clone()
    limit = _VALUES_ON_CPU if images.device.type == "cpu" else _VALUES_ON_GPU
    rows = max(1, limit // images[0].numel())
    key = f"{name}/{severity}/{seed}"
    examples = examples.to(images.device)
    parts = [
        corruption.apply(part, severity, scale=scale, draws=KeyedDraws(key, numbers))
        for part, numbers in zip(images.split(rows), examples.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _find(name: str) -> Corruption:
    if name in CORRUPTIONS:
        return CORRUPTIONS[name]
    nearest = difflib.get_close_matches(name.lower(), CORRUPTIONS, n=1, cutoff=0)
    raise ValueError(f"unknown corruption {name!r}; the nearest known one is {nearest[0]!r}")


def _check_severity(corruption: Corruption, severity: int) -> None:
    if severity not in range(1, 6):
        raise ValueError(f"{corruption.name} has severities 1-5, got {severity}")


def _check_tensors(images: Tensor, examples: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 with values 0 to 255, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape)
        raise ValueError(f"images must have shape (batch, 3, height, width), got {shape}")
    if examples.dtype != torch.int64:
        raise ValueError(f"examples must be int64 positions in the data set, got {examples.dtype}")
    if examples.shape != images.shape[:1]:
        raise ValueError(
            f"examples must be one position per image, of shape ({len(images)},), "
            f"got {tuple(examples.shape)}"
        )


def _find_scale(corruption: Corruption, images: Tensor, scale: int | None) -> int:
    *most, last = corruption.severities
    known = f"{', '.join(map(str, most))} or {last}"
    if scale is None:
        height, width = images.shape[-2:]
        if height != width or height not in corruption.severities:
            raise ValueError(
                f"{corruption.name} has no constants for {height}x{width} pixels; "
                f"choose the constants of one with scale={known}"
            )
        return height
    if scale not in corruption.severities:
        raise ValueError(f"scale must be {known}, got {scale}")
    return scale
