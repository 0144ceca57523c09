"""Types of images for corruptions, and their conversions.

A corruption receives float32 grey levels. If it reproduces the published sets exactly, with the
same roundings in the same order, it computes in float64 fractions and returns float64, which is
truncated directly. If it returns float32, a small number is added first to correct its rounding.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from PIL import Image
from torch import Tensor

Bytes = UInt8[Tensor, "batch 3 height width"]  # images of callers: 0 to 255
Images = Float[Tensor, "batch 3 height width"]  # for computations: also 0 to 255
Fractions = Float64[Tensor, "batch 3 height width"]  # share of the full range: 0 to 1

# float32 is exact to about 1e-5 of a grey level; a value of 17 must not be truncated to 16.
ROUNDING = 2.0**-13


def as_images(images: Bytes) -> Images:
    """Convert bytes to float32 grey levels, channels first in memory."""
    return images.contiguous().to(torch.float32)


def as_fractions(images: Images) -> Fractions:
    """Divide whole grey levels by 255."""
    return quotient(images.to(torch.float64), 255)


def quotient(values: Float[Tensor, "..."], divisor: float) -> Float[Tensor, "..."]:
    """Divide with equal rounding on all devices; CUDA would multiply by the reciprocal."""
    return values / torch.full((), divisor, dtype=values.dtype, device=values.device)


def truncated(images: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Clip to 0..255 and cut off fractions, as the published sets do: 16.9 becomes 16."""
    return _with_rounding(images).clamp(0, 255).floor_()


def as_bytes(images: Images) -> Bytes:
    """Truncate to bytes."""
    return _with_rounding(images).clamp(0, 255).to(torch.uint8)


def by_pillow(images: Bytes, change: Callable[[Image.Image], Image.Image]) -> Bytes:
    """Change images on a CPU one by one, by functions of Pillow; quickest in channels_last."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    # stacking channels takes half the time of copying permuted images
    pixels = images.permute(0, 2, 3, 1) if last else torch.stack(images.unbind(1), dim=3)
    changed = np.empty(pixels.shape, np.uint8)
    for before, after in zip(pixels.numpy(), changed, strict=True):
        after[:] = np.asarray(change(Image.fromarray(before)))
    found = torch.from_numpy(changed)
    return found.permute(0, 3, 1, 2) if last else torch.stack(found.unbind(3), dim=1)


def _with_rounding(images: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return images if images.dtype == torch.float64 else images.add(ROUNDING)
