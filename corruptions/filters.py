"""Filters with the same roundings as the code behind the published sets.

If a mean should be a whole grey level, its last bits decide whether it truncates to that level or
to the one below, and in flat areas every pixel is affected. So numbers are float64 and added in the
same order, by operations that give equal results on every device. Matrix products and fused
operations do not.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from corruptions.separable import Border, border_index, gaussian_taps


def gaussian_filtered(
    values: Float64[Tensor, "batch channels height width"], sigma: float
) -> Float64[Tensor, "batch channels height width"]:
    """Blur as scipy.ndimage.gaussian_filter does with mode "nearest"; sigma in pixels."""
    taps = gaussian_taps(sigma, int(4 * sigma + 0.5)).tolist()
    return correlated(correlated(values, taps, 2, "nearest"), taps, 3, "nearest")


def correlated(
    values: Float[Tensor, "..."], taps: Sequence[float], axis: int, border: Border
) -> Float[Tensor, "..."]:
    """Correlate along an axis with symmetric taps.

    The centre is added first, then pairs of neighbours from the outermost inwards.
    """
    reach, size = len(taps) // 2, values.shape[axis]
    framed = _framed(values, reach, axis, border)
    total = values * taps[reach]
    for step in range(reach, 0, -1):
        pair = framed.narrow(axis, reach - step, size) + framed.narrow(axis, reach + step, size)
        total += pair.mul_(taps[reach - step])
    return total


def kernel_filtered(
    images: Float64[Tensor, "batch channels height width"], kernel: Float[Tensor, "side side"]
) -> Float64[Tensor, "batch channels height width"]:
    """Correlate mirrored images with a kernel that is symmetric along both axes."""
    reach = len(kernel) // 2
    height, width = images.shape[2:]
    framed = _framed(_framed(images, reach, 2, "mirror"), reach, 3, "mirror")
    rows = [framed.narrow(2, reach, height)]
    for step in range(1, reach + 1):
        above, below = (framed.narrow(2, reach + way, height) for way in (-step, step))
        rows.append(above + below)
    total = torch.zeros_like(images)
    for step, weights in enumerate(kernel[reach:, reach:].T.tolist()):
        column = _weighted(rows, weights)
        for way in sorted({-step, step}):
            total += column.narrow(3, reach + way, width)
    return total


def _weighted(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        if weight:
            total += part * weight
    return total


def _framed(
    values: Float[Tensor, "..."], reach: int, axis: int, border: Border
) -> Float[Tensor, "..."]:
    """Extend both ends of an axis."""
    size = values.shape[axis]
    places = torch.arange(-reach, size + reach, device=values.device)
    return values.index_select(axis, border_index(places, size, border))
