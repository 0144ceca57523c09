"""Interpolating or smoothing cubic splines, with mirrored borders."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from corruptions.separable import border_index


def spline_taps(
    places: Float64[Tensor, "..."], size: int
) -> tuple[Int64[Tensor, "... 4"], Float64[Tensor, "... 4"]]:
    """Return the four coefficients behind a spline's value at each place, and their weights.

    Unser, 1999, doi:10.1109/79.799930.
    """
    first = places.floor()
    right = places - first
    left = 1 - right
    outer, inner = left**3 / 6, (right**2 * (right - 2) * 3 + 4) / 6
    after = (left**2 * (left - 2) * 3 + 4) / 6
    weights = torch.stack((outer, inner, after, 1 - outer - inner - after), dim=-1)
    steps = torch.arange(-1, 3, device=places.device)
    return border_index(first.long().unsqueeze(-1) + steps, size, "mirror"), weights


def spline_matrix(places: Float64[Tensor, " places"], size: int) -> Float64[Tensor, "places size"]:
    """Return the matrix that maps coefficients to the spline's values at places."""
    index, weights = spline_taps(places, size)
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    each = torch.arange(len(places)).unsqueeze(1).expand_as(index)
    return matrix.index_put((each, index), weights, accumulate=True)


def fitting_matrix(size: int) -> Float64[Tensor, "size size"]:
    """Return the matrix that maps values to the coefficients of the spline through them."""
    pixels = torch.arange(size, dtype=torch.float64)
    fitting: Float64[Tensor, "size size"] = torch.linalg.inv(spline_matrix(pixels, size))
    return fitting
