"""Gradient noise: Perlin, 1985, doi:10.1145/325165.325247."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from corruptions.bar.level import Plane
from corruptions.draws import Draws

_PERIOD = 256  # period of the lattice, in cells
_FAR = 16 * _PERIOD  # the image's position in the lattice; this offset gives the published rounding
_OCTAVES = 5


class Lattice:
    """A lattice with a random slope at each point, drawn for each image."""

    def __init__(self, draws: Draws) -> None:
        slopes = draws.integers(-_PERIOD, _PERIOD, _PERIOD, 2).double()
        slopes /= slopes.square().sum(2, keepdim=True).sqrt_().clamp_(min=1)
        self._places = draws.uniform(0, 1, _PERIOD).argsort(dim=1)
        picked = self._places.unsqueeze(2).expand_as(slopes)
        self._down, self._across = slopes.gather(1, picked).unbind(2)

    def turbulence(
        self, rows: Float64[Tensor, " height"], columns: Float64[Tensor, " width"]
    ) -> Plane:
        """Sum the noise's magnitude over octaves, each with half the weight of the one before."""
        scales = [2.0**octave for octave in range(_OCTAVES)]
        return sum((self._noise(f * rows, f * columns).abs_() / f for f in scales), torch.zeros(()))

    def _noise(self, rows: Float64[Tensor, " height"], columns: Float64[Tensor, " width"]) -> Plane:
        row, down = _cells(rows)
        column, across = _cells(columns)
        ease_down, ease_across = (_eased(share) for share in (down.unsqueeze(1), across))
        down = down.unsqueeze(1)
        left, right = (
            (
                self._slope(row, column + step, down, across - step),
                self._slope(row + 1, column + step, down - 1, across - step),
            )
            for step in (0, 1)
        )
        upper = left[0] + ease_down * (left[1] - left[0])
        lower = right[0] + ease_down * (right[1] - right[0])
        return (upper + ease_across * (lower - upper)).mul_(1.5)

    def _slope(
        self,
        row: Int64[Tensor, " height"],
        column: Int64[Tensor, " width"],
        down: Float64[Tensor, "height 1"],
        across: Float64[Tensor, " width"],
    ) -> Plane:
        """Return the height, at this offset, of the plane through each lattice point."""
        start = self._places[:, row % _PERIOD].unsqueeze(2)
        corner = (start + column % _PERIOD) % _PERIOD
        index = corner.flatten(1)
        along, beside = (
            each.gather(1, index).view(corner.shape) for each in (self._down, self._across)
        )
        return (along.mul_(down)).add_(beside.mul_(across))


def _cells(
    places: Float64[Tensor, " size"],
) -> tuple[Int64[Tensor, " size"], Float64[Tensor, " size"]]:
    far = places + _FAR
    return far.long(), far.remainder(1)


def _eased(share: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    return share * share * (3 - 2 * share)
