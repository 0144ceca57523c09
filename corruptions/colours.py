"""Hue, saturation and value: colours as an editor's sliders have them."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from corruptions.images import Fractions, quotient

Plane = Float64[Tensor, "batch height width"]

_TINY = 2.0**-60  # instead of a divisor that is zero, where the dividend is zero too
_FAR = 2.0**12  # a grey level, a 255th, of this is more than any angle


def recoloured(
    fractions: Fractions, change: Callable[[Plane, Plane], tuple[Plane, Plane]]
) -> Fractions:
    """Give each pixel the saturation and value that `change` makes of its own; hue is kept.

    Grey has no hue and turns red where it gets saturation, as in the published sets.
    Smith, 1978, doi:10.1145/965139.807361; every rounding is that of skimage.color.rgb2hsv and
    hsv2rgb.
    """
    red, green, blue = fractions.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = chroma / value.clamp(min=_TINY)
    hue = _hue(fractions, value, chroma)
    depths = torch.empty_like(fractions)  # how far a channel goes down: 0 the highest, 1 the lowest
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
    # the highest channel's angle counts: with those of lower ones out of the way, and it as it is,
    # it is the largest of the three; to select by a mask takes several times as long
    near_green.add_(green - value, alpha=_FAR)
    near_blue.add_(blue - value, alpha=_FAR)
    angle = torch.maximum(torch.maximum(near_red, near_green), near_blue)
    turns = quotient(angle.mul_(chroma.sign()), 6)
    return turns.sub_(turns.floor()).mul_(6)
