"""Blurs: optics, glass and motion."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from corruptions.draws import Draws
from corruptions.filters import correlated, gaussian_filtered, kernel_filtered
from corruptions.registry import corruption
from corruptions.separable import gaussian_taps, zoom_cut
from corruptions.streaks import streaked
from corruptions.types import Images, as_fractions, quotient, truncated

_FAINTEST = 2.0**-60  # smaller weights change no bit of a float64 mean


@corruption(
    "blur",
    {
        32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        64: ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    },
    version=2,
)
def defocus_blur(images: Images, disk: tuple[float, float]) -> Images:
    """Spread each pixel over a disk, as a lens out of focus does.

    disk: radius of the disk, and standard deviation of the blur that softens its edge; in pixels.
    """
    return kernel_filtered(images.to(torch.float64), _disk(*disk))


@corruption(
    "blur",
    {
        32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        64: ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    },
    version=2,
)
def glass_blur(images: Images, glass: tuple[float, int, int], draws: Draws) -> Images:
    """Blur, move pixels randomly within a small reach, and blur again, as frosted glass does.

    glass: standard deviation of the blur and the reach, in pixels, and the number of rounds.
    """
    sigma, reach, rounds = glass
    pixels = truncated(gaussian_filtered(as_fractions(images), sigma).mul_(255))
    for _ in range(rounds):
        sources = _glass_sources(images, reach, draws).unsqueeze(1).expand(-1, 3, -1)
        pixels = pixels.flatten(2).gather(2, sources).view_as(images)
    return gaussian_filtered(as_fractions(pixels), sigma).mul_(255)


@corruption(
    "blur",
    {
        32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    },
)
def motion_blur(images: Images, streak: tuple[int, float], draws: Draws) -> Images:
    """Smear pixels along a line within 45 degrees of the horizontal.

    streak: radius and standard deviation of the line's fading, in pixels.
    """
    return streaked(images, *streak, draws.uniform(-45, 45))


@corruption(
    "blur",
    {
        32: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        64: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    },
    version=2,
)
def zoom_blur(images: Images, factors: tuple[float, float]) -> Images:
    """Average an image with growing magnifications of it, as zooming during exposure does.

    factors: their end and step, starting from 1. Rounding includes the end itself at some
        severities (1.06 and 1.11), as in the published sets.
    """
    # images and channels come last in memory, so that long runs of values share one weight
    pixels = as_fractions(images).float().flatten(0, 1).unsqueeze(0)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    exact, total = pixels.double(), torch.zeros_like(pixels)
    zooms = np.arange(1, *factors).tolist()
    for factor in zooms:
        total += _zoomed(exact, factor)
    mean = quotient(total + pixels, len(zooms) + 1)
    return (255 * mean).contiguous().view_as(images).double()


@corruption(
    "blur",
    {
        32: (0.4, 0.6, 0.7, 0.8, 1),
        64: (0.5, 0.75, 1, 1.25, 1.5),
        224: (1, 2, 3, 4, 6),
    },
    extra=True,
    version=2,
)
def gaussian_blur(images: Images, sigma: float) -> Images:
    """Convolve with a normal density.

    sigma: standard deviation of the density, in pixels.
    """
    return gaussian_filtered(as_fractions(images), sigma).mul_(255)


def _glass_sources(images: Images, reach: int, draws: Draws) -> Int64[Tensor, "batch pixels"]:
    """Return the pixel that each pixel gets its colour from.

    Pixels are processed from last to first. Each copies one that is at most `reach` rows and
    columns away (exactly `reach` only up and left; the outermost pixels stay). A pixel that copies
    from a later one gets that one's new colour.
    """
    batch, _, height, width = images.shape
    rows, columns = max(height - 2 * reach, 0), max(width - 2 * reach, 0)
    across, down = draws.integers(-reach, reach, 2, rows, columns).flip(2, 3).unbind(1)
    pixels = torch.arange(height * width, device=images.device).view(height, width)
    moving = (slice(reach + 1, reach + 1 + rows), slice(reach + 1, reach + 1 + columns))
    sources = pixels.repeat(batch, 1, 1)
    sources[:, *moving] += down * width + across
    if reach == 1:  # pixels never copy from a later one
        return sources.flatten(1)
    moved = torch.zeros_like(pixels, dtype=torch.bool)
    moved[moving] = True
    return _followed(sources.flatten(1), moved.flatten())


def _followed(
    sources: Int64[Tensor, "batch pixels"], moved: Bool[Tensor, " pixels"]
) -> Int64[Tensor, "batch pixels"]:
    """Return the pixel whose original colour reaches each pixel.

    Each round replaces sources that are not final by their own sources, so that the followed chains
    double in length.
    """
    pixels = torch.arange(len(moved), device=sources.device)
    final = (sources <= pixels) | ~moved[sources]
    while not final.all():
        sources, final = (
            torch.where(final, sources, sources.gather(1, sources)),
            final | final.gather(1, sources),
        )
    return sources


@lru_cache(maxsize=64)
def _disk(radius: float, softness: float) -> Float32[Tensor, "side side"]:
    """Return the kernel of a disk with a soft edge, which sums to about one.

    It is rounded to float32 as in OpenCV: the error of its sum decides whether flat areas darken.
    """
    reach = max(8, int(radius))
    places = torch.arange(-reach, reach + 1)
    inside = (places**2 + places.unsqueeze(1) ** 2 <= radius**2).to(torch.float32)
    taps = gaussian_taps(softness, 1 if radius <= 8 else 2).to(torch.float32).tolist()
    soft = correlated(inside / inside.sum(), taps, 1, "mirror")
    soft = correlated(soft, taps, 0, "mirror")
    soft = soft.masked_fill(soft < _FAINTEST, 0)
    margin = int((soft > 0).any(0).int().argmax())
    return soft[margin : len(soft) - margin, margin : len(soft) - margin]


def _zoomed(
    pixels: Float64[Tensor, "1 values height width"], factor: float
) -> Float32[Tensor, "1 values height width"]:
    """Magnify the centre, interpolating linearly."""
    cuts = [zoom_cut(size, factor) for size in pixels.shape[2:]]
    (rows, tall, top), (columns, wide, left) = cuts
    grown = interpolate(
        pixels[:, :, rows, columns], (tall, wide), mode="bilinear", align_corners=True
    )
    height, width = pixels.shape[2:]
    # rounding to float32 hides the last bit of float64, in which fused operations differ
    return grown[:, :, top : top + height, left : left + width].float()
