"""Blur by rotation, and by a lens that refracts colours differently."""

from functools import lru_cache

import torch
from jaxtyping import Float32
from torch import Tensor

from corruptions.bar.level import bar_corruption
from corruptions.bar.splines import spline_matrix
from corruptions.bar.turning import turned
from corruptions.draws import Draws
from corruptions.separable import product
from corruptions.types import Images


@bar_corruption("blur", small=(2.8, 3.6, 4.4, 5.2, 6))
def circular_motion_blur(images: Images, level: float) -> Images:
    """Rotate the image about its centre during exposure; beyond its borders it is black.

    level: 1.5 times the level is the largest rotation each way, in degrees.
    """
    return turned(images, level * 15 / 10)


@bar_corruption("blur", small=(1, 2, 5, 9, 10))
def transverse_chromatic_abberation(images: Images, level: float, draws: Draws) -> Images:
    """Magnify one random channel, another one half as much, and soften all three.

    level: a twentieth of the level is the largest channel's magnification minus 1.
    """
    ranks = draws.uniform(0, 1, 3).argsort(dim=1)  # rank of each channel
    _, _, height, width = images.shape
    largest = 1 + level * 0.5 / 10
    factors = (1.0, (1 + largest) / 2, largest)
    rows, columns = (_magnified(size, factors, images.device) for size in (height, width))
    starts = 3 * torch.arange(len(images), device=images.device)
    order = (ranks.argsort(dim=1).T + starts).flatten()
    planes = images.flatten(0, 1).index_select(0, order)  # planes ordered by factor
    wide = product(planes.view(3, -1, width), columns).view(3, -1, height, width)
    grown = product(wide.transpose(2, 3).flatten(1, 2), rows).view(-1, width, height)
    places = (ranks * len(images) + starts.unsqueeze(1) // 3).flatten()
    return grown.index_select(0, places).transpose(1, 2).reshape(images.shape).add_(0.5)


@lru_cache(maxsize=64)
def _magnified(
    size: int, factors: tuple[float, ...], device: torch.device
) -> Float32[Tensor, "factors size size"]:
    """Return matrices that magnify the centre of `size` values when multiplied from the right."""
    matrices = []
    for factor in factors:
        long = round(size * factor)
        places = torch.arange(long, dtype=torch.float64) * ((size - 1) / (long - 1))
        start = (long - size) // 2
        matrices.append(spline_matrix(places[start : start + size], size))
    return torch.stack(matrices).transpose(1, 2).to(device, torch.float32)
