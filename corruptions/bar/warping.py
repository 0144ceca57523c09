"""Distortions: pixels from other positions."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import pad

from corruptions.bar.level import Plane, bar_corruption, grid, per_image, short_side
from corruptions.bar.sampling import sampled
from corruptions.draws import Draws
from corruptions.filters import correlated
from corruptions.separable import gaussian_taps
from corruptions.types import Images, quotient

_TURN = 6.28318530718  # as published, with all its digits
_ETA = 4  # how much slower light is in the water


@bar_corruption("distortion", large=(2.35, 3.2, 4.9, 6.6, 9.15))
def caustic_refraction(images: Images, level: float, draws: Draws) -> Images:
    """Show the image through moving water, which bends and focuses light.

    level: a twentieth of the level is the distance of the water's surface, relative to the image's
        side; a fifth is the light that the surface's slopes add, relative to the full range.
    """
    side = short_side(images)
    time, size = per_image(draws.uniform(0.5, 2)), per_image(draws.uniform(0.75, 1.25)) * side
    rows, columns = grid(images)
    water = _caustics(rows, columns, time, size)
    taps = gaussian_taps(1, 4).tolist()
    water = pad(correlated(correlated(water, taps, 1, "reflect"), taps, 2, "reflect"), (1, 1, 1, 1))
    down = water[:, 2:, 1:-1] - water[:, :-2, 1:-1]
    across = water[:, 1:-1, 2:] - water[:, 1:-1, :-2]
    push, steepness = _push(down, across)
    lens = level * (0.5 * side) / 10
    moves = [
        (push * each / steepness * lens).mul_(1000).round_().div_(1000) for each in (down, across)
    ]
    seen = sampled(quotient(images, 255), rows + moves[0], columns + moves[1])
    light = level * 2 / 10
    seen = seen.sub_((across * light).unsqueeze(1)).add_((down * light).unsqueeze(1))
    return seen.clamp_(0, 1).mul_(255)


def _push(down: Plane, across: Plane) -> tuple[Plane, Plane]:
    """Return how far the surface bends a view from above, and the length of its normal.

    By Snell's law; an almost level surface bends nothing.
    """
    steepness = (down * down + across * across + 1).sqrt_()
    incidence = 1 / steepness  # cosine of the incidence
    slope = ((down / steepness) ** 2 + (across / steepness) ** 2).sqrt_()
    refraction = (incidence.acos().sin_() / _ETA).asin_()
    push = refraction.cos() - incidence / slope.clamp(min=1e-9) * refraction.sin()
    return push.masked_fill_(incidence >= 1 - 1e-3, 0), steepness


def _caustics(
    rows: Float64[Tensor, "height 1"],
    columns: Float64[Tensor, "1 width"],
    time: Float64[Tensor, "batch 1 1"],
    size: Float64[Tensor, "batch 1 1"],
) -> Plane:
    """Return the light that water focuses, from 0 to 1, with a period of `size` pixels."""
    first, second = ((axis / size).remainder(1) * _TURN - 250 for axis in (rows, columns))
    one, other = torch.broadcast_tensors(first, second)
    total = torch.ones_like(one)
    for step in range(1, 6):
        t = time * (1 - 3.5 / step)
        one, other = (
            first + (t - one).cos_() + (t + other).sin_(),
            second + (t - other).sin_() + (t + one).cos_(),
        )
        waves = (first / ((one + t).sin_() / 0.005)) ** 2
        waves += (second / ((other + t).cos_() / 0.005)) ** 2
        total += 1 / waves.sqrt_()
    total = 1.17 - (total / 5) ** 1.4
    return total.abs_().pow_(8).clamp_(0, 1)


@bar_corruption(
    "distortion",
    small=((5.5, 3), (6, 3), (6.5, 3), (8.5, 3), (10, 3)),
)
def pinch_and_twirl(images: Images, swirl: tuple[float, int], draws: Draws) -> Images:
    """Pinch circles side by side and twirl each in a random direction.

    swirl: the level and the number of circles along the shorter side. A tenth of the level is the
        twist of a circle's centre in right angles, and 0.04 of it, plus 0.1, the pinch.
    """
    level, count = swirl
    _, _, height, width = images.shape
    short = min(height, width)
    cell = short // count
    many, wide = (count if size == short else size // cell for size in (height, width))
    signs = 1 - 2 * draws.integers(0, 2, many * wide).view(-1, many, wide).double()
    rows, columns = grid(images)
    row, column = (rows // cell).clamp_(max=many - 1), (columns // cell).clamp_(max=wide - 1)
    middle_row, middle_column = row * cell + cell / 2, column * cell + cell / 2
    down, across = rows - middle_row, columns - middle_column
    distance = (down * down + across * across).sqrt_()
    turned = (distance <= cell / 2) & (distance > 0)
    share = (distance / (cell / 2)).masked_fill_(~turned, 1)
    pinch = (math.pi * 0.5 * share).sin_() ** -(level * 0.4 / 10 + 0.1)
    twist = signs[:, row.long(), column.long()] * (level * (math.pi / 2) / 10)
    angle = twist * (1 - share) ** 2
    cosine, sine = angle.cos(), angle.sin_()
    down, across = down * pinch, across * pinch
    seen = sampled(
        images,
        (middle_row + (down * cosine - across * sine)).where(turned, rows),
        (middle_column + (down * sine + across * cosine)).where(turned, columns),
    )
    return seen.float().double()  # the rounding of the published sets


@bar_corruption("distortion", small=(5.5, 6, 6.5, 7.5, 8))
def ripple(images: Images, level: float, draws: Draws) -> Images:
    """Shift rows up and down and columns left and right in waves.

    level: a four-hundredth of the level is the waves' amplitude, relative to the image's side.
    """
    side = short_side(images)
    lengths = draws.uniform(0.1, 0.3, 2).double() * side
    phases = draws.uniform(0, 2 * math.pi, 2).double()
    amplitude = level * 0.025 / 10 * side
    places = []
    for axis, length, phase in zip(grid(images), lengths.T, phases.T, strict=True):
        wave = (2 * math.pi * axis / per_image(length) + per_image(phase)).sin_()
        places.append(axis + amplitude * wave)
    rows, columns = torch.broadcast_tensors(*places)
    return sampled(images, rows, columns)
