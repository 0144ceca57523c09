"""Straight lines with smooth edges."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

Ends = Float64[Tensor, "batch lines 1"]  # ends of lines, in whole pixels


def strokes(
    height: int, width: int, row: Ends, column: Ends, last_row: Ends, last_column: Ends
) -> tuple[Int64[Tensor, "batch lines pixels"], Float64[Tensor, "batch lines pixels"]]:
    """Return the pixels of lines, numbered row by row, and the covered share of each.

    Pixels outside the image get the number after the last pixel's. The pixels are those that
    Zingl's algorithm visits (2012, "A rasterizing algorithm for drawing curves"): for each step
    along the line's longer extent one pixel, the next one sideways, and the previous one if the
    line has just moved sideways. The share falls with the distance of the pixel's centre from the
    line.
    """
    down, right = last_row - row, last_column - column
    high, wide = down.abs(), right.abs()
    steep = high > wide
    long, short = high.where(steep, wide), wide.where(steep, high)
    start, way = row.where(steep, column), down.where(steep, right).sign_() + (long == 0)
    side, sideways = column.where(steep, row), right.where(steep, down).sign_()
    places = torch.arange(max(height, width), dtype=torch.float64, device=row.device)
    steps = places.new_tensor([-1, 0, 1]).view(3, 1, 1, 1)  # sideways from the middle pixel
    along = (places - start) * way
    lane = (short * (2 * along + 1)).div_(2 * long.clamp(min=1)).floor_()
    off, length = long * lane - short * along, (long * long + short * short).sqrt_().clamp_(min=1)
    offs = (off + steps * long).abs_()
    seen = (offs < length) & (along >= (-steps).clamp(min=0)) & (along <= long - steps.clamp(min=0))
    seen[0] &= 2 * off > -short  # the line has just moved
    across = side + sideways * (lane + steps)
    rows, columns = places.where(steep, across), across.where(steep, places)
    seen &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = rows.mul_(width).add_(columns).where(seen, height * width).long()
    shares = 1 - offs / length
    return pixels.permute(1, 2, 0, 3).flatten(2), shares.permute(1, 2, 0, 3).flatten(2)
