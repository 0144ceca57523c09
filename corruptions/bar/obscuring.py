"""Obscuring: parts of an image are covered or missing."""

import math

from corruptions.bar.level import bar_corruption, grid, per_image, short_side
from corruptions.bar.spectrum import coloured
from corruptions.bar.strokes import strokes
from corruptions.draws import Draws
from corruptions.types import Images

_TILES = 40  # tiles per side of the board: more than cover a roughly square image
_GREY = 128


@bar_corruption("obscuring", small=(1, 2, 3, 4, 5), large=(2, 3, 4, 5, 6))
def checkerboard_cutout(images: Images, level: float, draws: Draws) -> Images:
    """Lay a rotated checkerboard over the image and fill some of its dark squares with grey.

    level: a tenth of the level is the share of dark squares that are filled.
    """
    angle = draws.uniform(0, 2 * math.pi).double()
    size = per_image(draws.uniform(0.1, 0.25)) * short_side(images)
    size.clamp_(min=1)
    filled = draws.uniform(0, 1, _TILES, _TILES) < level * 1.0 / 10
    rows, columns = grid(images)
    cosine, sine = per_image(angle.cos()), per_image(angle.sin())
    down = (cosine * rows + sine * columns) / size
    across = (-sine * rows + cosine * columns) / size
    dark = down.remainder(2).long() == across.remainder(2).long()
    tile = down.long().remainder(_TILES) * _TILES + across.long().remainder(_TILES)
    cut = dark & filled.flatten(1).gather(1, tile.flatten(1)).view(tile.shape)
    return images.masked_fill(cut.unsqueeze(1), _GREY)


@bar_corruption("obscuring", small=(0.5, 1, 1.5, 2, 2.5))
def lines(images: Images, level: float, draws: Draws) -> Images:
    """Draw grey lines with smooth edges, one pixel wide, in similar directions.

    level: a tenth of the level is their number, relative to the image's side in pixels.
    """
    side = short_side(images)
    _, _, height, width = images.shape
    numbers = draws.uniform(0, 1, 2 + 3 * int(level * 1.0 / 10 * side)).double()
    angle, spread = (per_image(each) for each in numbers[:, :2].unbind(1))
    rows, columns, turns = numbers[:, 2:].view(len(images), -1, 3).split(1, dim=2)
    way = 2 * math.pi * (angle + (0.1 + 0.9 * spread) * (turns - 0.5))
    down, across = way.cos() * side, way.sin_() * side
    rows, columns = rows * height, columns * width
    ends = (rows - down, columns - across, rows + down, columns + across)
    pixels, shares = strokes(height, width, *(end.trunc() for end in ends))
    drawn = images.new_empty(len(images), 3, height * width + 1)
    drawn[..., :-1] = images.flatten(2)
    parts = (each.unsqueeze(2).unbind(1) for each in (pixels, 1 - shares, shares * _GREY))
    for index, kept, added in zip(*parts, strict=True):
        places = index.expand(-1, 3, -1)
        colours = drawn.gather(2, places).double().mul_(kept).add_(added)
        drawn.scatter_(2, places, colours.floor_().float())
    return drawn[..., :-1].view(images.shape)


@bar_corruption("obscuring", small=(0.7, 1.4, 2.1, 3.5, 4.2), large=(0.8, 1.6, 2.4, 4, 5.6))
def blue_noise_sample(images: Images, level: float, draws: Draws) -> Images:
    """Keep random pixels that are evenly spread, and make the others black.

    level: 0.3 times the level, minus 2.5, is the threshold of the blue noise for a pixel to be
        kept, in standard deviations.
    """
    noise = coloured(images, lambda waves: waves, draws)
    return images.masked_fill((noise <= level * 3 / 10 - 2.5).unsqueeze(1), 0)
