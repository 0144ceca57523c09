"""Hue, saturation and value: colours as in an image editor."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from corruptions.types import Fractions, quotient

Plane = Float64[Tensor, "batch height width"]

_TINY = 2.0**-60  # avoids divisions 0 / 0
_FAR = 2.0**12  # a grey level (1/255) times this exceeds any angle


def recoloured(
    fractions: Fractions, change: Callable[[Plane, Plane], tuple[Plane, Plane]]
) -> Fractions:
    """Change each pixel's saturation and value by `change`; hue stays.

    Grey has no hue and turns red when saturation is added, as in the published sets. Smith, 1978,
    doi:10.1145/965139.807361; all roundings are those of skimage.color.rgb2hsv and hsv2rgb.
    """
    red, green, blue = fractions.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = chroma / value.clamp(min=_TINY)
    hue = _hue(fractions, value, chroma)
    depths = torch.empty_like(fractions)  # a channel's place from the highest (0) to the lowest (1)
    torch.minimum(hue - 1, 5 - hue, out=depths[:, 0])
    torch.maximum(1 - hue, hue - 3, out=depths[:, 1])
    torch.maximum(3 - hue, hue - 5, out=depths[:, 2])
    saturation, value = (plane.unsqueeze(1) for plane in change(saturation, value))
    return (1 - depths.clamp_(0, 1).mul_(saturation)).mul_(value)


def _hue(fractions: Fractions, value: Plane, chroma: Plane) -> Plane:
    """Return the angle of each colour in units of 60 degrees: 0 is red, 2 green, 4 blue."""
    red, green, blue = fractions.unbind(1)
    scale = chroma.clamp(min=_TINY)
    near_red = (green - blue).div_(scale)
    near_green = (blue - red).div_(scale).add_(2)
    near_blue = (red - green).div_(scale).add_(4)
    # The highest channel's angle counts. Subtracting a large number from the others makes it the
    # largest of the three, several times as fast as selecting by a mask.
    near_green.add_(green - value, alpha=_FAR)
    near_blue.add_(blue - value, alpha=_FAR)
    angle = torch.maximum(torch.maximum(near_red, near_green), near_blue)
    turns = quotient(angle.mul_(chroma.sign()), 6)
    return turns.sub_(turns.floor()).mul_(6)
