"""Straight lines with smooth edges."""

import torch
from jaxtyping import Float64
from torch import Tensor

from corruptions.bar.level import Plane, grid
from corruptions.images import Images

End = Float64[Tensor, "batch 1 1"]


def covered(like: Images, row: End, column: End, last_row: End, last_column: End) -> Plane:
    """Return how much of each pixel a line from one whole place to another covers, from 0 to 1.

    The pixels are those that Zingl's algorithm visits step by step (2012, "A rasterizing algorithm
    for drawing curves"): at each step along the line's longer extent one pixel, the next one
    sideways, and the one before where the line has just moved sideways. A pixel loses as much as
    its middle is off the line.
    """
    rows, columns = grid(like)
    height, width = (last_row - row).abs(), (last_column - column).abs()
    down = torch.where(last_row > row, rows - row, row - rows)
    across = torch.where(last_column > column, columns - column, column - columns)
    steep = height > width
    along, aside = down.where(steep, across), across.where(steep, down)
    long, short = height.where(steep, width), width.where(steep, height)
    long_or_1, length = long.clamp(min=1), (long * long + short * short).sqrt_()
    off = long * aside - short * along
    lane = _lane(along, long_or_1, short)
    main = aside == lane
    beside = (aside == lane + 1) & (along < long) & (off < length)
    left = (aside == lane - 1) & (_lane(along - 1, long_or_1, short) < lane) & (off > -length)
    visited = (main | beside | (left & (along > 0))) & (along >= 0) & (along <= long)
    return (1 - off.abs_() / length.clamp(min=1)).masked_fill_(~visited, 0)


def _lane(along: Plane, long: End, short: End) -> Plane:
    """Return how far sideways the line has moved after so many steps."""
    return torch.floor(short * (2 * along + 1) / (2 * long))
