"""How many dimensions points fill: principal components, participation ratio, neighbours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from selbench._kit.errors import SelbenchError

FRACTIONS = (0.90, 0.95, 0.99)  # of the variance, that principal components are to explain
NEGLIGIBLE = 1e-18  # of the points' mean square: a variance below is rounding
DISCARDED = 0.1  # of the points, those with the largest ratios, are left out of TwoNN's fit
CHUNK = 500  # points whose distances to all others are computed at once


class Scatter:
    """The covariance of points that come in batches, in float64; linear in their number.

    Batches are merged by means and centred sums of products, so that a large mean costs no digits
    (Chan, Golub & LeVeque, 1983, doi:10.1080/00031305.1983.10483115).

    Args:
        columns: number of coordinates.
        device: where it is kept.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(columns, dtype=torch.float64, device=device)
        self._products = torch.zeros(columns, columns, dtype=torch.float64, device=device)

    def add(self, points: Float[Tensor, "batch columns"]) -> None:
        """Take a batch in."""
        batch = points.double()
        mean = batch.mean(0)
        centred = batch - mean
        shift = mean - self.mean
        total = self.count + len(batch)
        self._products.addmm_(centred.T, centred)
        self._products.addr_(shift, shift, alpha=self.count * len(batch) / total)
        self.mean += shift * (len(batch) / total)
        self.count = total

    def spectrum(self) -> Float64[Tensor, " columns"]:
        """Return the variances along the principal components, the largest first."""
        return spectra([self])[0]


def spectra(scatters: Sequence[Scatter]) -> list[Float64[Tensor, " _"]]:
    """Return the spectrum of each; those of one width together, as a GPU is waited for each time.

    That takes the same steps as one after the other.
    """
    found: dict[int, Float64[Tensor, " columns"]] = {}
    for width in dict.fromkeys(len(each.mean) for each in scatters):
        own = [place for place, each in enumerate(scatters) if len(each.mean) == width]
        products = torch.stack([scatters[place]._products for place in own])
        for place, values in zip(own, torch.linalg.eigvalsh(products), strict=True):
            found[place] = _cleaned(values, scatters[place].mean, scatters[place].count)
    return [found[place] for place in range(len(scatters))]


def spectrum_of(points: Float[Tensor, "samples columns"]) -> Float64[Tensor, " smaller"]:
    """Return the variances along the principal components, the largest first.

    From the covariance or, with fewer points than columns, from the points' products with each
    other, whose eigenvalues are the same but for zeros; in float64, a block of columns at a time.

    Raises:
        ValueError: for points that are NaN or infinite.
    """
    _check_finite(points)
    return variances_of(points)


def variances_of(points: Float[Tensor, "samples columns"]) -> Float64[Tensor, " smaller"]:
    """Return `spectrum_of` finite points."""
    if len(points) >= points.shape[1]:
        scatter = Scatter(points.shape[1], points.device)
        for batch in points.split(CHUNK):
            scatter.add(batch)
        return scatter.spectrum()
    count = len(points)
    products = torch.zeros(count, count, dtype=torch.float64, device=points.device)
    mean = points.mean(0, dtype=torch.float64)
    for columns, centre in zip(points.split(4096, 1), mean.split(4096), strict=True):
        centred = columns.double() - centre
        products.addmm_(centred, centred.T)
    return _cleaned(torch.linalg.eigvalsh(products), mean, count)


def _cleaned(values: Tensor, mean: Tensor, count: int) -> Tensor:
    """Turn rising eigenvalues of sums of products to falling variances; rounding becomes 0."""
    if count < 2:
        raise SelbenchError(f"dimensionality needs at least 2 samples, got {count}")
    variances = (values.flip(0) / (count - 1)).clamp_(min=0)
    negligible = variances.sum() <= NEGLIGIBLE * mean.square().sum()
    return variances.masked_fill_(negligible, 0)


def components(spectrum: Float64[Tensor, " columns"], fraction: float) -> int:
    """Count the principal components that explain `fraction` of the variance; 0 if there is none.

    Leavitt & Morcos, 2020, arXiv:2010.07693.

    Raises:
        ValueError: for a fraction outside of 0 to 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction must be above 0 and at most 1, got {fraction}")
    return int(component_count(spectrum, fraction))


def component_count(spectrum: Float64[Tensor, " columns"], fraction: float) -> Int64[Tensor, ""]:
    """Return `components` where the spectrum lies."""
    explained = spectrum.cumsum(0)
    total = explained[-1]
    # What is missing for rounding alone is not missing.
    count = (explained < fraction * (1 - 1e-12) * total).sum() + 1
    return count.masked_fill_(total == 0, 0)


def participation_ratio(spectrum: Float64[Tensor, " columns"]) -> float:
    """Return the squared sum of the variances over the sum of their squares; 0 if there are none.

    It is d where d components share the variance evenly.
    """
    return participation(spectrum).item()


def participation(spectrum: Float64[Tensor, " columns"]) -> Float64[Tensor, ""]:
    """Return `participation_ratio` where the spectrum lies."""
    squares = spectrum.square().sum()
    return (spectrum.sum().square() / squares).masked_fill_(squares <= 0, 0)


@dataclass(frozen=True)
class Neighbours:
    """What two nearest neighbours tell of points.

    Attributes:
        dimension: intrinsic dimension by TwoNN; 0 where fewer than 3 distinct points are left.
        duplicates: points left out since they lie where an earlier one does.
    """

    dimension: float
    duplicates: int


def two_nn(points: Float[Tensor, "samples columns"]) -> Neighbours:
    """Estimate the intrinsic dimension from the ratio of the distances to two nearest neighbours.

    The ratio r2 / r1 follows a power law whose exponent is the dimension: the slope, through the
    origin, of -log(1 - F) over log(r2 / r1), where F is the empirical distribution and the tenth
    with the largest ratios is left out (Facco et al., 2017, arXiv:1803.06992). Points that coincide
    with others have no ratio; each place counts once. Too low for many dimensions, since most
    points then lie near the border of what they fill.

    Raises:
        ValueError: for points that are NaN or infinite.
    """
    _check_finite(points)
    dimension, duplicates = neighbours(points)
    return Neighbours(dimension.item(), duplicates)


def neighbours(
    points: Float[Tensor, "samples columns"],
) -> tuple[Float64[Tensor, ""], int]:
    """Return dimension and duplicates as `two_nn`, of finite points; the former where they lie."""
    distinct = torch.unique(points, dim=0)
    duplicates = len(points) - len(distinct)
    if len(distinct) < 3:
        return points.new_zeros((), dtype=torch.float64), duplicates
    centred = distinct.double() - distinct.mean(0, dtype=torch.float64)
    return _dimension(_neighbour_ratios(centred)), duplicates


def dimension_of_ratios(ratios: Float64[Tensor, " samples"]) -> float:
    """Return the dimension told by the ratios r2 / r1 of at least 3 points; see `two_nn`."""
    return _dimension(ratios).item()


def _dimension(ratios: Float64[Tensor, " samples"]) -> Float64[Tensor, ""]:
    kept = ratios.sort().values[: int(len(ratios) * (1 - DISCARDED))]
    below = torch.arange(1, len(kept) + 1, dtype=torch.float64, device=kept.device) / len(ratios)
    x, y = kept.log(), -(1 - below).log()
    squares = x @ x
    return ((x @ y) / squares).masked_fill_(squares <= 0, math.inf)


def _neighbour_ratios(points: Float64[Tensor, "samples columns"]) -> Float64[Tensor, " samples"]:
    """Return each point's distance to its second nearest neighbour over that to its nearest."""
    squares = points.square().sum(1)
    ratios = []
    for start in range(0, len(points), CHUNK):
        own = points[start : start + CHUNK]
        distances = (squares - 2 * own @ points.T).add_(squares[start : start + CHUNK, None])
        rows = torch.arange(len(own), device=points.device)
        distances[rows, rows + start] = torch.inf
        nearest = distances.topk(min(4, len(points) - 1), largest=False).indices
        # Exact for the few that matter: the short cut above loses digits between near points.
        exact = torch.stack([(points[each] - own).norm(dim=1) for each in nearest.T], 1)
        exact = exact.sort(1).values
        ratios.append(exact[:, 1] / exact[:, 0])
    return torch.cat(ratios)


def _check_finite(points: Float[Tensor, "samples columns"]) -> None:
    if not points.isfinite().all():
        raise ValueError("points must be finite, some are NaN or infinite")
