"""Noise: each value of an image changes independently."""

import torch

from corruptions.draws import Draws
from corruptions.registry import corruption
from corruptions.types import Images


@corruption(
    "noise",
    {
        32: (0.04, 0.06, 0.08, 0.09, 0.10),
        64: (0.04, 0.08, 0.12, 0.15, 0.18),
        224: (0.08, 0.12, 0.18, 0.26, 0.38),
    },
)
def gaussian_noise(images: Images, std: float, draws: Draws) -> Images:
    """Add zero-mean normal noise.

    std: standard deviation of the noise, as a fraction of the full range.
    Source: Hendrycks & Dietterich, 2019, arXiv:1903.12261, as for all corruptions here.
    """
    return images + 255 * std * draws.normal(*images.shape[1:])


@corruption(
    "noise",
    {
        32: (500, 250, 100, 75, 50),
        64: (250, 100, 50, 30, 15),
        224: (60, 25, 12, 5, 3),
    },
)
def shot_noise(images: Images, photons: float, draws: Draws) -> Images:
    """Replace each value by a Poisson count with this mean, like the noise of a light sensor.

    photons: mean count at full brightness; fewer mean more noise.
    """
    return 255 / photons * draws.poisson(images.to(torch.uint8), photons)


@corruption(
    "noise",
    {
        32: (0.01, 0.02, 0.03, 0.05, 0.07),
        64: (0.01, 0.02, 0.05, 0.08, 0.14),
        224: (0.03, 0.06, 0.09, 0.17, 0.27),
    },
)
def impulse_noise(images: Images, amount: float, draws: Draws) -> Images:
    """Set values to 0 or 255 with equal probability, per channel ("salt and pepper").

    amount: probability that a value is changed.
    """
    chance = draws.uniform(0, 1, *images.shape[1:])
    # Comparisons and masks take three times as long. 2^40 makes any difference more than 1.
    white = (amount - chance).mul_(255 * 2.0**40).clamp_(0, 255)
    kept = chance.sub_(amount / 2).mul_(2.0**40).add_(1).clamp_(0, 1)
    return images.maximum(white).mul_(kept)


@corruption(
    "noise",
    {
        32: (0.06, 0.10, 0.12, 0.16, 0.20),
        64: (0.15, 0.20, 0.25, 0.30, 0.35),
        224: (0.15, 0.20, 0.35, 0.45, 0.60),
    },
    extra=True,
)
def speckle_noise(images: Images, std: float, draws: Draws) -> Images:
    """Add zero-mean normal noise in proportion to each value.

    std: standard deviation of the noise, as a fraction of the value.
    """
    return images + std * images * draws.normal(*images.shape[1:])
