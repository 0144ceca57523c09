"""The table of all corruptions (Hendrycks & Dietterich, C-bar), and a function to apply one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from corruptions.arguments import (
    check_name,
    check_range,
    check_tensors,
    find_scale,
    find_seed,
    find_severity,
)
from corruptions.draws import KeyedDraws
from corruptions.registry import Corruption, registered
from corruptions.types import Bytes, quotient

__all__ = ["CORRUPTIONS", "bar_corruptions", "corrupt"]

CORRUPTIONS: Mapping[str, Corruption] = registered()


def bar_corruptions(size: int) -> tuple[str, ...]:
    """Return C-bar's ten corruptions for an image size: ImageNet's for 224, else CIFAR-10's."""
    published = 224 if size == 224 else 32
    return tuple(name for name, each in CORRUPTIONS.items() if published in each.bar)


# values to corrupt at once: those that fit into a CPU's cache, or keep a GPU busy
_VALUES_ON_CPU, _VALUES_ON_GPU = 2**17, 2**24
_MORE = 4  # factor for C-bar's corruptions, which take many short steps


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

    images: (batch, 3, height, width), uint8 or floating with values from 0 to 1, with at least
        `SMALLEST_SIDE` pixels a side, on any device and in any memory format; not changed.
        Floating values are first rounded to 256 levels, since the benchmark's images are bytes;
        values up to 1e-4 outside 0 to 1, as after resizing, are accepted.
    examples: int64 (batch,), each image's position in its data set. The random numbers of an image
        depend only on position, name, severity and seed: not on other images in the batch nor, up
        to rounding, on the device.
    scale: 32 for the constants of CIFAR-10-C, 64 for Tiny-ImageNet-C, 224 for ImageNet-C; None for
        the images' size.
    Returns images of the same shape, dtype and range, on the same device.
    Raises ValueError for an unknown name, severity or scale, a seed that is no int from 0 to
        2**64 - 1, a size that is too small or without constants, tensors of another dtype, layout
        or shape or that need a gradient, arguments that are no tensors, floating values outside 0
        to 1, and (`FrostError`) incomplete or damaged photographs of frost.
    Sources: Hendrycks & Dietterich, 2019, arXiv:1903.12261, and those named at each corruption.
    """
    check_name(name, CORRUPTIONS)
    corruption = CORRUPTIONS[name]
    severity, seed = find_severity(name, severity), find_seed(seed)
    check_tensors(images, examples)
    height, width = images.shape[2:]
    scale = find_scale(name, tuple(corruption.severities), height, width, scale)
    if not images.numel():
        return images.clone()
    if images.is_floating_point():
        check_range(images)
        out = corrupt(_levels(images), name, severity, examples=examples, seed=seed, scale=scale)
        return quotient(out.to(_precision(images)), 255).to(images.dtype)
    limit = _VALUES_ON_CPU if images.device.type == "cpu" else _VALUES_ON_GPU
    limit *= _MORE if corruption.bar else 1
    rows = max(1, limit // images[0].numel())
    key = f"{name}/{severity}/{seed}"
    examples = examples.to(images.device)
    parts = [
        corruption.apply(part, severity, scale=scale, draws=KeyedDraws(key, numbers))
        for part, numbers in zip(images.split(rows), examples.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _levels(images: Tensor) -> Bytes:
    """Round values from 0 to 1 to the nearest of 256 grey levels."""
    return images.to(_precision(images)).mul(255).round_().to(torch.uint8)


def _precision(images: Tensor) -> torch.dtype:
    """Return the dtype for conversions; half precision would shift values by half a grey level."""
    return torch.promote_types(images.dtype, torch.float32)
