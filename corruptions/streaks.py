"""Motion blur as in ImageMagick, which made the published sets."""

import torch
from jaxtyping import Float
from torch import Tensor

_FAINTEST = 1e-6  # weaker taps change values by less than a thousandth of a grey level
_HALF_STEP = 0.5 / 257  # values are rounded to 16 bits before truncation to 8


def streaked(
    images: Float[Tensor, "batch channels height width"],
    radius: int,
    sigma: float,
    degrees: Float[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """Smear each pixel to one side, fading like half a normal density, and truncate.

    radius: half of the largest shift, in pixels. sigma: standard deviation, in pixels.
    degrees: the direction that each image's pixels come from: 0 is right, 90 is below.
    Images and the result have whole grey levels.
    """
    fading = torch.arange(2 * radius + 1, dtype=torch.float64).div_(sigma).square_().mul_(-0.5)
    weights = fading.exp_().div_(fading.sum())
    weights = weights[weights > _FAINTEST]
    taps = len(weights)
    angles = torch.deg2rad(degrees.double()).unsqueeze(1)
    steps = torch.arange(taps, dtype=torch.float64, device=images.device)
    across, down = (torch.ceil(steps * way - 0.5).long() for way in (angles.cos(), angles.sin()))
    windows = _windows(images, taps)
    out = torch.zeros_like(images)
    if len(images) == 1:  # a view of the shifted image instead of a copy
        places = zip(down[0].tolist(), across[0].tolist(), strict=True)
        parts = (windows[:, :, row + taps, column + taps] for row, column in places)
    else:
        each = torch.arange(len(images), device=images.device)
        places = zip(down.T + taps, across.T + taps, strict=True)
        parts = (windows[each, :, rows, columns] for rows, columns in places)
    for part, weight in zip(parts, weights.tolist(), strict=True):
        out.add_(part, alpha=weight)
    return out.add_(_HALF_STEP).floor_()


def _windows(
    images: Float[Tensor, "batch channels height width"], reach: int
) -> Float[Tensor, "batch channels shifts shifts height width"]:
    """View the images shifted by up to `reach` pixels each way, with repeated border pixels."""
    _, _, height, width = images.shape
    down, across = (
        torch.arange(-reach, size + reach, device=images.device).clamp_(0, size - 1)
        for size in (height, width)
    )
    framed = images[:, :, down.unsqueeze(1), across]
    return framed.unfold(2, height, 1).unfold(3, width, 1)
