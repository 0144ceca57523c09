"""Digital corruptions: effects of editing, compressing and resampling."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from corruptions.colours import Plane, recoloured
from corruptions.draws import Draws
from corruptions.elastic import rippled, tilted
from corruptions.jpeg import by_codec, recompressed
from corruptions.registry import corruption
from corruptions.separable import box_matrix, product
from corruptions.types import Images, as_fractions, quotient

_BOX, _NEAREST = Image.Resampling.BOX, Image.Resampling.NEAREST


@corruption(
    "digital",
    {
        32: (0.75, 0.5, 0.4, 0.3, 0.15),
        64: (0.4, 0.3, 0.2, 0.1, 0.05),
        224: (0.4, 0.3, 0.2, 0.1, 0.05),
    },
    version=2,
)
def contrast(images: Images, factor: float) -> Images:
    """Shrink each channel's distance to its mean over the image by `factor`."""
    fractions = as_fractions(images)
    # Pixels are added one after another, as in the published sets: another order may change the
    # last bit. Along the last axis, a GPU would use its own order.
    totals = fractions.flatten(2).transpose(1, 2).cumsum(1)[:, -1, :, None, None]
    means = quotient(totals, fractions[0, 0].numel())
    return fractions.sub_(means).mul_(factor).add_(means).mul_(255)


@corruption(
    "digital",
    {
        32: (
            (0, 0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
        64: (
            (0, 0, 5.12),
            (3.2, 19.2, 3.84),
            (6.4, 5.12, 3.84),
            (6.4, 1.92, 1.92),
            (10.24, 1.92, 1.28),
        ),
        224: (
            (488, 170.8, 24.4),
            (488, 19.52, 48.8),
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
    },
)
def elastic_transform(images: Images, strain: tuple[float, float, float], draws: Draws) -> Images:
    """Tilt and shear an image at random, then ripple it.

    strain: strength and smoothness of the ripples, and the tilt's largest shift; in pixels.
    """
    strength, smoothness, jitter = strain
    return rippled(tilted(images, jitter, draws), strength, smoothness, draws)


def _by_resizing(factor: float) -> Callable[[Image.Image], Image.Image]:
    return partial(_pixelated, factor=factor)


def _pixelated(image: Image.Image, factor: float) -> Image.Image:
    sizes = [int(size * factor) for size in image.size]
    small = image.resize(sizes, _BOX)
    quick = all(map(_enlarge_alike, sizes, image.size))
    return small.resize(image.size, _NEAREST if quick else _BOX)


@lru_cache(maxsize=64)
def _enlarge_alike(size: int, new_size: int) -> bool:
    """Say whether both filters repeat the same pixels; "nearest" takes a tenth of the time."""
    ramp = Image.fromarray(np.arange(size, dtype=np.float32)[None])
    nearest, box = (np.asarray(ramp.resize((new_size, 1), each)) for each in (_NEAREST, _BOX))
    return np.array_equal(nearest, box)


@corruption(
    "digital",
    {
        32: (0.95, 0.9, 0.85, 0.75, 0.65),
        64: (0.9, 0.8, 0.7, 0.6, 0.5),
        224: (0.6, 0.5, 0.4, 0.3, 0.25),
    },
    version=2,
    on_image=_by_resizing,
)
def pixelate(images: Images, factor: float) -> Images:
    """Shrink to `factor` of the side by averaging, then enlarge by repeating pixels."""
    sizes = images.shape[2:]
    down, across = (_box_matrix(size, int(size * factor), images.device) for size in sizes)
    up, back = (_box_matrix(int(size * factor), size, images.device) for size in sizes)
    narrow = _rounded(product(images, across.T))
    small = _rounded(product(down, narrow))
    return product(up, product(small, back.T))


@corruption(
    "digital",
    {
        32: (80, 65, 58, 50, 40),
        64: (65, 58, 50, 40, 25),
        224: (25, 18, 15, 10, 7),
    },
    on_image=by_codec,
)
def jpeg_compression(images: Images, quality: int) -> Images:
    """Compress to JPEG with chroma at half resolution, and decompress.

    quality: quality of libjpeg, 1 to 100.
    """
    return recompressed(images, quality)


@corruption(
    "digital",
    {
        32: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        64: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        224: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
    extra=True,
    version=2,
)
def saturate(images: Images, change: tuple[float, float]) -> Images:
    """Scale and shift the saturation in HSV space, with hue and value kept.

    change: factor and summand, for saturation in [0, 1]. Grey has no hue; as in the published sets,
        added saturation turns it red.
    """
    factor, summand = change

    def stronger(saturation: Plane, value: Plane) -> tuple[Plane, Plane]:
        return (saturation * factor + summand).clamp_(0, 1), value

    return recoloured(as_fractions(images), stronger).mul_(255)


def _rounded(images: Images) -> Images:
    return images.add(0.5).floor_()


@lru_cache(maxsize=64)
def _box_matrix(size: int, new_size: int, device: torch.device) -> Float32[Tensor, "new_size size"]:
    return box_matrix(size, new_size).to(device, torch.float32)
