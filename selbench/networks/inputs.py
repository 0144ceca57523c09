"""Preprocessing of images in [0, 1] for a user's network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selbench.models import Normalize
from selbench.study import Channels

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Inputs:
    """The preprocessing of a network, in this order.

    Attributes:
        resize: the shorter side after resizing, in pixels; None for no resize.
        crop: side of the central square, in pixels; None for the full image.
        interpolation: one of `INTERPOLATIONS`; the last two are antialiased.
        mean, std: per channel on [0, 1]; None if the network itself normalises.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    mean: Channels | None = None
    std: Channels | None = None

    def __str__(self) -> str:
        parts = [f"shorter side {self.resize} ({self.interpolation})"] if self.resize else []
        parts += [f"centre {self.crop}"] if self.crop else []
        for name, values in (("mean", self.mean), ("std", self.std)):
            parts += [f"{name} {','.join(f'{v:g}' for v in values)}"] if values else []
        return ", ".join(parts) or "as they are"


class Preprocess(nn.Module):
    """Preprocess images in [0, 1] as `inputs` says; differentiable."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        if inputs.mean or inputs.std:
            mean, std = inputs.mean or (0.0, 0.0, 0.0), inputs.std or (1.0, 1.0, 1.0)
            self.normalize: nn.Module = Normalize(mean, std)
        else:
            self.normalize = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 3, height, width) in any memory format to contiguous network input."""
        crop = self.inputs.crop
        if self.inputs.resize:
            images = resized(images, self.inputs.resize, self.inputs.interpolation)
        if crop:
            if min(images.shape[-2:]) < crop:
                raise ValueError(f"images have no centre of {crop} x {crop} pixels")
            top, left = (round((side - crop) / 2) for side in images.shape[-2:])
            images = images[..., top : top + crop, left : left + crop]
        normalized: Tensor = self.normalize(images)
        return normalized.contiguous(memory_format=torch.contiguous_format)


def resized(images: Tensor, side: int, interpolation: str) -> Tensor:
    """Scale the shorter side of images in [0, 1] to `side` pixels, keeping their proportions."""
    height, width = images.shape[-2:]
    if min(height, width) == side:
        return images
    size = [each * side // min(height, width) for each in (height, width)]
    if interpolation == "nearest":
        return F.interpolate(images, size, mode="nearest-exact")
    scaled = F.interpolate(images, size, mode=interpolation, align_corners=False, antialias=True)
    return scaled.clamp(0, 1)  # bicubic interpolation overshoots; image files cannot hold that
