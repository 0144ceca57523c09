"""Lights with rays of random lengths."""

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from corruptions.bar.level import Plane, grid, per_image
from corruptions.draws import Draws
from corruptions.types import Images

FEWEST, MOST = 50, 199  # numbers of rays per light
SPREAD = 0.25  # standard deviation of their lengths, relative to the mean


def ray_lengths(radius: float, spread: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """Return lengths in pixels, for standard normal draws."""
    return radius + SPREAD * radius * spread


def glow(
    like: Images,
    middle: Float64[Tensor, "batch 2"],
    lengths: Float64[Tensor, "batch rays"],
    counts: Int64[Tensor, " batch"],
    power: float,
) -> Plane:
    """Return each pixel's brightness, from 0 to 1: 1 inside the rays, fading outside.

    middle: row and column of each light.
    counts: number of rays of each light, evenly spaced around it.
    power: how fast light fades: 1 is with the square of the distance.
    """
    rows, columns = grid(like)
    down, across = (axis - per_image(m) for axis, m in zip((rows, columns), middle.T, strict=True))
    many = counts.view(-1, 1, 1)
    turn = (torch.atan2(across, down) + math.pi) / (2 * math.pi) * many
    ray = turn.long()
    rest = turn - ray
    here, there = (_picked(lengths, index % many) for index in (ray, ray + 1))
    length = here + rest * (there - here)
    distance = torch.sqrt(down * down + across * across)
    light = length * length / (distance * distance + 1e-4)
    return (1 - (rest - 0.5) ** 2).mul_(light if power == 1 else light**power).clamp_(0, 1)


def _picked(lengths: Float64[Tensor, "batch rays"], index: Int64[Tensor, "..."]) -> Plane:
    return lengths.gather(1, index.flatten(1)).view(index.shape)


def drawn_rays(draws: Draws, *lights: int) -> tuple[Int64[Tensor, "..."], Float64[Tensor, "..."]]:
    """Draw the numbers of rays, and a standard normal number for each possible ray."""
    counts = draws.integers(FEWEST, MOST + 1, *lights)
    return counts, draws.normal(*lights, MOST).double()
