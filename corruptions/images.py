"""What the corruptions take and return, and the two conversions at their edges."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Bytes = UInt8[Tensor, "batch 3 height width"]  # what callers hold: 0 to 255
Images = Float[Tensor, "batch 3 height width"]  # what corruptions compute on: also 0 to 255

# float32 keeps about 1e-5 of a grey level; a value meant to be 17 must not truncate to 16.
ROUNDING = 2.0**-13


def as_images(images: Bytes) -> Images:
    """Turn bytes into float32 grey levels, laid out channel by channel."""
    return images.contiguous().to(torch.float32)


def truncated(images: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Clip to 0..255 and cut off fractions, as the published sets do: 16.9 becomes 16."""
    return images.add(ROUNDING).clamp_(0, 255).floor_()


def as_bytes(images: Images) -> Bytes:
    """Truncate to bytes."""
    return images.add(ROUNDING).clamp_(0, 255).to(torch.uint8)
