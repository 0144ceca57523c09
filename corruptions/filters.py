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
from torch.nn.functional import pad

from corruptions.separable import Border, border_index, gaussian_taps

_DIRECT = 7  # sides of kernels up to which adding up takes less time than Fourier transforms


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
    """Correlate mirrored images with a kernel that is symmetric along both axes.

    Both ways agree to about 1e-15 of the largest value.
    """
    reach = len(kernel) // 2
    if reach < min(images.shape[2:]):
        framed = pad(images, (reach,) * 4, "reflect")
    else:
        framed = _framed(_framed(images, reach, 2, "mirror"), reach, 3, "mirror")
    filtered = _in_frequencies if len(kernel) > _DIRECT else _weight_by_weight
    return filtered(framed, kernel, reach)


def _in_frequencies(
    framed: Float64[Tensor, "batch channels framed_height framed_width"],
    kernel: Float[Tensor, "side side"],
    reach: int,
) -> Float64[Tensor, "batch channels height width"]:
    """Multiply Fourier transforms, whose time does not depend on the kernel's size."""
    height, width = (size - 2 * reach for size in framed.shape[2:])
    sizes = [_quick_size(size) for size in framed.shape[2:]]
    centred = framed.new_zeros(sizes)
    centred[: len(kernel), : len(kernel)] = kernel
    transfer = torch.fft.rfft2(centred.roll((-reach, -reach), (0, 1))).real
    spectrum = torch.fft.rfft2(framed, s=sizes).mul_(transfer)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=sizes)
    return filtered[..., reach : reach + height, reach : reach + width]


def _quick_size(size: int) -> int:
    """Return the next size whose only prime factors are 2, 3 and 5: its transform is fast."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _weight_by_weight(
    framed: Float64[Tensor, "batch channels framed_height framed_width"],
    kernel: Float[Tensor, "side side"],
    reach: int,
) -> Float64[Tensor, "batch channels height width"]:
    """Add up shifted images, a weight at a time."""
    height, width = (size - 2 * reach for size in framed.shape[2:])
    rows = [framed.narrow(2, reach, height)]
    for step in range(1, reach + 1):
        above, below = (framed.narrow(2, reach + way, height) for way in (-step, step))
        rows.append(above + below)
    total = framed.new_zeros((*framed.shape[:2], height, width))
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
