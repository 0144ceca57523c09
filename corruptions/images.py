"""What the corruptions take and return, and the conversions at their edges.

A corruption gets float32 grey levels. Where it computes what the published sets hold number by
number, with the same roundings in the same order, it goes on with float64 fractions and returns
float64, which is truncated as it is. Where it returns float32, its own rounding is made good first.
"""

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

Bytes = UInt8[Tensor, "batch 3 height width"]  # what callers hold: 0 to 255
Images = Float[Tensor, "batch 3 height width"]  # what corruptions compute on: also 0 to 255
Fractions = Float64[Tensor, "batch 3 height width"]  # of the full range: 0 to 1

# float32 keeps about 1e-5 of a grey level; a value meant to be 17 must not truncate to 16.
ROUNDING = 2.0**-13


def as_images(images: Bytes) -> Images:
    """Turn bytes into float32 grey levels, laid out channel by channel."""
    return images.contiguous().to(torch.float32)


def as_fractions(images: Images) -> Fractions:
    """Divide whole grey levels by 255."""
    return quotient(images.to(torch.float64), 255)


def quotient(values: Float[Tensor, "..."], divisor: float) -> Float[Tensor, "..."]:
    """Divide with one rounding on every device; CUDA would multiply by a number's reciprocal."""
    return values / torch.full((), divisor, dtype=values.dtype, device=values.device)


def truncated(images: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Clip to 0..255 and cut off fractions, as the published sets do: 16.9 becomes 16."""
    return _with_rounding(images).clamp(0, 255).floor_()


def as_bytes(images: Images) -> Bytes:
    """Truncate to bytes."""
    return _with_rounding(images).clamp(0, 255).to(torch.uint8)


def _with_rounding(images: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return images if images.dtype == torch.float64 else images.add(ROUNDING)
