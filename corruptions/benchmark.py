"""The nineteen corruptions of Hendrycks & Dietterich, 2019, arXiv:1903.12261, and how to apply one.

Importing this module fills the table: each family's module enters its own functions.
"""

import difflib
import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from corruptions import blur, digital, noise, weather  # noqa: F401 (they fill the table)
from corruptions.draws import KeyedDraws
from corruptions.images import Bytes, quotient
from corruptions.registry import Corruption, registered

__all__ = ["CORRUPTIONS", "corrupt"]

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(registered())

# values corrupted at once: what keeps a processor's working set in its cache, and a GPU busy
_VALUES_ON_CPU, _VALUES_ON_GPU = 2**17, 2**24


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

    images: (batch, 3, height, width), uint8 or floating with values from 0 to 1, on any device and
        in any memory format; not changed. The benchmark's images are bytes: of a floating image
        each value is rounded to the nearest of 256 levels first.
    examples: int64 (batch,), each image's position in its data set. The random numbers of an image
        depend on its position, name, severity and seed alone: neither on its neighbours in the
        batch nor, up to rounding, on the device.
    scale: 32 for the constants of CIFAR-10-C, 64 for Tiny-ImageNet-C, 224 for ImageNet-C; by
        default that of the images' own size.
    Returns images of the same shape, dtype and range, on the same device.
    Raises ValueError for an unknown name, severity or scale, a size without constants, tensors
        of another dtype or shape, and floating values that are not from 0 to 1.
    Source: Hendrycks & Dietterich, 2019, arXiv:1903.12261.
    """
    corruption = _find(name)
    _check_severity(corruption, severity)
    _check_tensors(images, examples)
    scale = _find_scale(corruption, images, scale)
    if not images.numel():
        return images.clone()
    if images.is_floating_point():
        out = corrupt(_levels(images), name, severity, examples=examples, seed=seed, scale=scale)
        return quotient(out.to(_precision(images)), 255).to(images.dtype)
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
    nearest = difflib.get_close_matches(str(name).lower(), CORRUPTIONS, n=1, cutoff=0)
    raise ValueError(f"unknown corruption {name!r}; the nearest known one is {nearest[0]!r}")


def _check_severity(corruption: Corruption, severity: object) -> None:
    if type(severity) is not int or severity not in range(1, 6):
        raise ValueError(f"{corruption.name} has severities 1-5, got {severity!r}")


def _check_tensors(images: Tensor, examples: Tensor) -> None:
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(
            f"images must be uint8 from 0 to 255 or floating from 0 to 1, got {images.dtype}; "
            "convert values from 0 to 255 with images.to(torch.uint8)"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape)
        raise ValueError(
            f"images must have shape (batch, 3, height, width), got {shape}{_shape_hint(shape)}"
        )
    if examples.dtype != torch.int64:
        raise ValueError(f"examples must be int64 positions in the data set, got {examples.dtype}")
    if examples.shape != images.shape[:1]:
        raise ValueError(
            f"examples must be one position per image, of shape ({len(images)},), "
            f"got {tuple(examples.shape)}"
        )


def _shape_hint(shape: tuple[int, ...]) -> str:
    match shape:
        case (_, 1, _, _):
            return "; repeat the grey channel with images.expand(-1, 3, -1, -1)"
        case (_, _, _, 3):
            return "; put the channels first with images.permute(0, 3, 1, 2)"
        case (3, _, _):
            return "; make one image a batch with images.unsqueeze(0)"
        case _:
            return ""


def _levels(images: Tensor) -> Bytes:
    """Round values from 0 to 1 to the nearest of 256 grey levels."""
    lowest, highest = (extreme.item() for extreme in images.aminmax())
    if lowest >= 0 and highest <= 1:
        return images.to(_precision(images)).mul(255).round_().to(torch.uint8)
    found, hint = highest, "divide them by 255"
    if lowest < 0:
        found, hint = lowest, "corrupt images before they are normalised"
    if not math.isfinite(lowest + highest):
        found = lowest if math.isinf(lowest) else highest
        hint = "look for a division by zero where they were made"
    raise ValueError(f"floating images must have values from 0 to 1, got {found:g}; {hint}")


def _precision(images: Tensor) -> torch.dtype:
    """Choose what to convert with: half precision would move halves of a grey level."""
    return torch.promote_types(images.dtype, torch.float32)


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
