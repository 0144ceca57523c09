"""Movement blur as ImageMagick computes it, which made the published sets."""

import torch
from jaxtyping import Float
from torch import Tensor

_FAINTEST = 1e-6  # a tap this weak moves no value by a thousandth of a grey level
_HALF_STEP = 0.5 / 257  # values are rounded to 16 bits first, and only then truncated to 8


def streaked(
    images: Float[Tensor, "batch channels height width"],
    radius: int,
    sigma: float,
    degrees: Float[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """Draw each pixel out to one side, fading like half a normal density, and truncate.

    radius: half the longest way, in pixels. sigma: the density's standard deviation, in pixels.
    degrees: the direction from which each image's pixels come; 0 is from the right, 90 from below.
    Images hold whole grey levels and so does the result.
    """
    fading = torch.arange(2 * radius + 1, dtype=torch.float64).div_(sigma).square_().mul_(-0.5)
    weights = fading.exp_().div_(fading.sum())
    weights = weights[weights > _FAINTEST]
    taps = len(weights)
    angles = torch.deg2rad(degrees.double()).unsqueeze(1)
    steps = torch.arange(taps, dtype=torch.float64, device=images.device)
    across, down = (torch.ceil(steps * way - 0.5).long() for way in (angles.cos(), angles.sin()))
    windows = _windows(images, taps)
    each = torch.arange(len(images), device=images.device)
    out = torch.zeros_like(images)
    for tap, weight in enumerate(weights.tolist()):
        out.add_(windows[each, :, down[:, tap] + taps, across[:, tap] + taps], alpha=weight)
    return out.add_(_HALF_STEP).floor_()


def _windows(
    images: Float[Tensor, "batch channels height width"], reach: int
) -> Float[Tensor, "batch channels shifts shifts height width"]:
    """View the images shifted by up to `reach` pixels each way, their outermost pixels repeated."""
    _, _, height, width = images.shape
    down, across = (
        torch.arange(-reach, size + reach, device=images.device).clamp_(0, size - 1)
        for size in (height, width)
    )
    framed = images[:, :, down.unsqueeze(1), across]
    return framed.unfold(2, height, 1).unfold(3, width, 1)
