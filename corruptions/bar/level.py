"""The decorator for C-bar's corruptions, and shared computations."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from corruptions.registry import Function, corruption
from corruptions.types import Images

Levels = tuple[Any, Any, Any, Any, Any]
Plane = Float64[Tensor, "batch height width"]


def bar_corruption(
    family: str, *, small: Levels | None = None, large: Levels | None = None
) -> Callable[[Function], Function]:
    """Register a corruption under its name, with the published levels of its five severities.

    small: levels of CIFAR-10-C-bar, for 32 pixels.
    large: levels of ImageNet-C-bar, for 224 pixels.
    If one is missing, and for 64 pixels, the levels of the nearest size are used: our choice.
    """
    levels = {32: small or large, 64: small or large, 224: large or small}
    published = tuple(size for size, found in ((32, small), (224, large)) if found)
    known = {size: found for size, found in levels.items() if found is not None}
    return corruption(family, known, extra=True, bar=published)


def grid(images: Images) -> tuple[Float64[Tensor, "height 1"], Float64[Tensor, "1 width"]]:
    """Return the row numbers and the column numbers."""
    _, _, height, width = images.shape
    rows = torch.arange(height, dtype=torch.float64, device=images.device)
    columns = torch.arange(width, dtype=torch.float64, device=images.device)
    return rows.unsqueeze(1), columns.unsqueeze(0)


def short_side(images: Images) -> int:
    """Return the shorter side in pixels, which other lengths are relative to."""
    return min(images.shape[2:])


def per_image(drawn: Float[Tensor, " batch"]) -> Float64[Tensor, "batch 1 1"]:
    """Shape one number per image so that it broadcasts with pixels."""
    return drawn.double().view(-1, 1, 1)
