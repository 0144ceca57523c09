"""The mean of an image over rotations about its centre, as weights of pixels."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from corruptions.bar.splines import fitting_matrix, spline_taps
from corruptions.separable import transformed
from corruptions.types import Images

_TURNS = 21


class Weights(NamedTuple):
    """For each pixel of the result, the coefficients that it uses and their weights."""

    sources: Int32[Tensor, " terms"]
    weights: Float32[Tensor, " terms"]
    starts: Int32[Tensor, " pixels"]  # start of each pixel's terms


def turned(images: Images, degrees: float) -> Images:
    """Average over rotations by up to `degrees` each way; small rotations weigh more.

    Splines interpolate between pixels; beyond the borders everything is black.
    """
    _, _, height, width = images.shape
    fits = (_fitting(size, images.device) for size in (height, width))
    table = transformed(images, *fits).flatten(2).flatten(0, 1).T.contiguous()
    sources, weights, starts = _weights(height, width, degrees, images.device)
    out = embedding_bag(sources, table, starts, mode="sum", per_sample_weights=weights)
    return out.T.reshape(images.shape)


@lru_cache(maxsize=16)
def _fitting(size: int, device: torch.device) -> Float32[Tensor, "1 size size"]:
    return fitting_matrix(size).to(device, torch.float32).unsqueeze(0)


@lru_cache(maxsize=5)
def _weights(height: int, width: int, degrees: float, device: torch.device) -> Weights:
    """Return the summed weights of all rotations.

    The lower half of the result is the upper half rotated by 180 degrees.
    """
    rows = [_row(row, height, width, degrees) for row in range((height + 1) // 2)]
    for sources, weights, counts in reversed(rows[: height // 2]):
        rows.append((height * width - 1 - sources.flip(0), weights.flip(0), counts.flip(0)))
    sources, weights, counts = (torch.cat(part) for part in zip(*rows, strict=True))
    kinds = torch.int32, torch.float32, torch.int32
    parts = sources, weights, counts.cumsum(0) - counts
    return Weights(*(part.to(device, kind) for part, kind in zip(parts, kinds, strict=True)))


def _row(
    row: int, height: int, width: int, degrees: float
) -> tuple[Int64[Tensor, " terms"], Float64[Tensor, " terms"], Int64[Tensor, " width"]]:
    """Return the weights for a row of the result, and the number of weights of each pixel."""
    turns = torch.linspace(-1, 1, _TURNS, dtype=torch.float64).unsqueeze(1)
    shares = torch.exp(-2 * turns**2)
    cosines, sines = (turns * math.radians(degrees)).cos(), (turns * math.radians(degrees)).sin()
    down = row - (height - 1) / 2
    across = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    from_rows = cosines * down + sines * across + (height - 1) / 2
    from_columns = cosines * across - sines * down + (width - 1) / 2
    inside = (from_rows.clamp(0, height - 1) == from_rows) & (
        from_columns.clamp(0, width - 1) == from_columns
    )
    rows, row_weights = spline_taps(from_rows, height)
    columns, column_weights = spline_taps(from_columns, width)
    column_weights = column_weights * (inside * shares / shares.sum()).unsqueeze(2)
    starts = torch.arange(width).unsqueeze(1) * (height * width)  # keys of each pixel
    keys = rows.unsqueeze(3) * width + (starts + columns).unsqueeze(2)
    weights = row_weights.unsqueeze(3) * column_weights.unsqueeze(2)
    found, places = keys.flatten().unique(return_inverse=True)
    totals = weights.new_zeros(len(found)).index_add_(0, places, weights.flatten())
    counts = torch.bincount(found // (height * width), minlength=width)
    return found % (height * width), totals, counts
