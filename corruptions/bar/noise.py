"""Additive noise and light: patterns over a whole image."""

import math

import torch

from corruptions.bar.level import bar_corruption, grid, per_image, short_side
from corruptions.bar.perlin import Lattice
from corruptions.bar.rays import drawn_rays, glow, ray_lengths
from corruptions.bar.spectrum import coloured
from corruptions.draws import Draws
from corruptions.types import Images


@bar_corruption("noise", large=(1, 1.5, 2, 4.5, 5))
def single_frequency_greyscale(images: Images, level: float, draws: Draws) -> Images:
    """Add a grey wave with a random direction, length and phase.

    level: a tenth of the level, times 196, is the wave's amplitude in grey levels.
    Source: Mintun, Kirillov & Xie, 2021, arXiv:2102.11273, as for all corruptions here.
    """
    first = draws.uniform(-math.pi, math.pi).double()
    second = draws.uniform(-1, 1).double() * first.abs()
    swapped = draws.integers(0, 2).bool()
    phase = per_image(draws.uniform(0, 2 * math.pi))
    across, down = first.where(~swapped, second), second.where(~swapped, first)
    rows, columns = grid(images)
    wave = (columns * per_image(across) + rows * per_image(down) + phase).sin_()
    return images + wave.mul_(level * 196 / 10).unsqueeze(1)


@bar_corruption("noise", large=(3, 5, 8, 9, 10))
def cocentric_sine_waves(images: Images, level: float, draws: Draws) -> Images:
    """Add wavy rings around a random point, each brightening from its inner to its outer edge.

    level: a tenth of the level, times 128, is the difference between the edges in grey levels.
    """
    side = short_side(images)
    _, _, height, width = images.shape
    place = draws.uniform(0, 1, 2).double()
    waves = per_image(draws.uniform(0, 10))
    amplitude, ring = (per_image(draws.uniform(0, 1)) * (side / 10) for _ in range(2))
    rows, columns = grid(images)
    down, across = rows - per_image(place[:, 0] * height), columns - per_image(place[:, 1] * width)
    angle = torch.atan2(across, down).mul_(waves)
    distance = (across * across + down * down).sqrt_() + angle.sin_().mul_(amplitude)
    rings = distance.remainder(ring) / ring - 0.5
    return images + rings.mul_(level * 128 / 10).unsqueeze(1)


@bar_corruption("noise", large=(4.75, 7, 8.5, 9.25, 10))
def plasma_noise(images: Images, level: float, draws: Draws) -> Images:
    """Cover the image with clouds of all colours.

    level: a tenth of the level, times 64, is the most that clouds add, in grey levels; the image is
        dimmed by as much.
    """
    time = per_image(draws.uniform(0, 6 * math.pi))
    steps = draws.integers(4, 7).view(-1, 1, 1)
    sharpness = per_image(draws.uniform(0.5, 1))
    size = per_image(draws.uniform(0.075, 0.2)) * short_side(images)
    rows, columns = grid(images)
    x, y = (axis.expand(images.shape[2:]) / size for axis in (columns, rows))
    frequency, slowness, damping = 1.0, 1.0, torch.ones_like(sharpness)
    for step in range(6):
        down = (y * frequency + time / slowness).cos_().div_(damping)
        across = (x * frequency + time / slowness).sin_().div_(damping)
        going = (step < steps).double()
        x, y = x + (down - 0.3 * across) * going, y + (across + 0.3 * down) * going
        frequency, slowness, damping = (
            frequency * 1.93,
            slowness * 1.15,
            damping * (2.25 - sharpness),
        )
    red, blue = (x - time).sin(), (y + time).sin()
    green = ((x + y + time.sin()) * 0.5).sin_()
    strength = level * 64 / 10
    return (1 - strength / 255) * images.double() + strength * torch.stack((red, green, blue), 1)


@bar_corruption("noise", large=(4.6, 5.2, 5.8, 7.6, 8.8))
def perlin_noise(images: Images, level: float, draws: Draws) -> Images:
    """Blend the image with Perlin's turbulence, which is grey and brighter than medium grey.

    level: a twentieth of the level is the share of the noise.
    """
    rows, columns = (axis.flatten() / (32 * short_side(images) / 224) for axis in grid(images))
    cloud = Lattice(draws).turbulence(rows, columns).mul_(0.5).add_(0.5).clamp_(0, 1)
    share = level * 0.5 / 10
    dimmed = images * (1 - share)  # the published sets round here
    return dimmed + cloud.mul_(255 * share).unsqueeze(1)


@bar_corruption("noise", small=(2.5, 4, 5.5, 6.5, 7), large=(1, 2, 3, 4, 5))
def brownish_noise(images: Images, level: float, draws: Draws) -> Images:
    """Add noise to each channel, with an amplitude that falls with the square of the frequency.

    level: a tenth of the level, times 64, is the noise's standard deviation in grey levels.
    """
    noise = [coloured(images, lambda waves: 1 / (waves**2 + 1), draws) for _ in range(3)]
    return images + torch.stack(noise, dim=1).mul_(level * 64 / 10)


@bar_corruption("noise", small=(0.7, 3.5, 5.6, 6.3, 7), large=(1, 2, 3, 5, 6))
def sparkles(images: Images, level: float, draws: Draws) -> Images:
    """Add five bright lights with rays.

    level: a hundredth of the level is the rays' mean length, relative to the image's side.
    """
    radius = level * 0.1 / 10 * short_side(images)
    sides = torch.tensor(images.shape[2:], device=images.device)
    middles = draws.uniform(0, 1, 5, 2).double() * sides
    counts, spread = drawn_rays(draws, 5)
    lengths = ray_lengths(radius, spread).clamp_(min=1)
    lit = images.double()
    for light in range(5):
        values = lit.float().double()  # the published sets round here
        bright = glow(images, middles[:, light], lengths[:, light], counts[:, light], 1)
        lit = values + bright.unsqueeze(1) * (255 - values)
    return lit


@bar_corruption("noise", small=(1, 1.5, 2.5, 4.5, 5), large=(1, 2, 4, 9, 10))
def inverse_sparkles(images: Images, level: float, draws: Draws) -> Images:
    """Turn everything white except the inside of a star.

    level: how fast the image fades outside the star; 0.13 times the level is the exponent of the
        squared distance.
    """
    radius = 0.25 * short_side(images)
    sides = torch.tensor(images.shape[2:], device=images.device)
    middle = draws.uniform(0.25, 0.75, 2).double() * sides
    counts, spread = drawn_rays(draws)
    power = (100 - (100 - level * 65 / 10)) / 50
    seen = glow(images, middle, ray_lengths(radius, spread), counts, power)
    return 255 + seen.unsqueeze(1) * (images.double() - 255)
