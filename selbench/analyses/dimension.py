"""The dimension of a set of points: principal components, participation ratio, neighbours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from selbench._kit.errors import SelbenchError

FRACTIONS = (0.90, 0.95, 0.99)  # shares of the variance to explain by principal components
NEGLIGIBLE = 1e-18  # share of the points' mean square; a smaller variance is rounding
DISCARDED = 0.1  # share of points with the largest ratios that TwoNN's fit leaves out
CHUNK = 500  # points whose distances to all others are computed together


class Scatter:
    """The covariance of points that arrive in batches, in float64; its cost is linear in them.

    Batches are merged by means and centred sums of products, so that a large mean loses no digits
    (Chan, Golub & LeVeque, 1983, doi:10.1080/00031305.1983.10483115).

    Args:
        columns: number of coordinates.
        device: device of the sums.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(columns, dtype=torch.float64, device=device)
        self._products = torch.zeros(columns, columns, dtype=torch.float64, device=device)

    def add(self, points: Float[Tensor, "batch columns"]) -> None:
        """Add a batch."""
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
        """Return the variances along the principal components, largest first."""
        return spectra([self])[0]


def spectra(scatters: Sequence[Scatter]) -> list[Float64[Tensor, " _"]]:
    """Return the spectrum of each; equal widths are computed together, to wait less for a GPU.

    The results are the same as one by one.
    """
    found: dict[int, Float64[Tensor, " columns"]] = {}
    for width in dict.fromkeys(len(each.mean) for each in scatters):
        same_width = [place for place, each in enumerate(scatters) if len(each.mean) == width]
        products = torch.stack([scatters[place]._products for place in same_width])
        for place, values in zip(same_width, torch.linalg.eigvalsh(products), strict=True):
            found[place] = _cleaned(values, scatters[place].mean, scatters[place].count)
    return [found[place] for place in range(len(scatters))]


def spectrum_of(points: Float[Tensor, "samples columns"]) -> Float64[Tensor, " smaller"]:
    """Return the variances along the principal components, largest first.

    They come from the covariance or, with fewer points than columns, from the products of points
    with each other, whose nonzero eigenvalues are the same. Columns are processed in blocks, in
    float64.

    Raises:
        ValueError: for points that are NaN or infinite.
    """
    _check_finite(points)
    return variances_of(points)


def variances_of(points: Float[Tensor, "samples columns"]) -> Float64[Tensor, " smaller"]:
    """Return `spectrum_of` points that are known to be finite."""
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
    """Convert rising eigenvalues of product sums to falling variances; rounding becomes 0."""
    if count < 2:
        raise SelbenchError(f"dimensionality needs at least 2 samples, got {count}")
    variances = (values.flip(0) / (count - 1)).clamp_(min=0)
    negligible = variances.sum() <= NEGLIGIBLE * mean.square().sum()
    return variances.masked_fill_(negligible, 0)


def components(spectrum: Float64[Tensor, " columns"], fraction: float) -> int:
    """Return how many principal components explain `fraction` of the variance; 0 without variance.

    Leavitt & Morcos, 2020, arXiv:2010.07693.

    Raises:
        ValueError: for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction must be above 0 and at most 1, got {fraction}")
    return int(component_count(spectrum, fraction))


def component_count(spectrum: Float64[Tensor, " columns"], fraction: float) -> Int64[Tensor, ""]:
    """Return `components` as a tensor on the spectrum's device."""
    explained = spectrum.cumsum(0)
    total = explained[-1]
    # Ignore what is missing only because of rounding.
    count = (explained < fraction * (1 - 1e-12) * total).sum() + 1
    return count.masked_fill_(total == 0, 0)


def participation_ratio(spectrum: Float64[Tensor, " columns"]) -> float:
    """Return the squared sum of the variances over the sum of their squares; 0 without variance.

    It equals d if d components have equal variance.
    """
    return participation(spectrum).item()


def participation(spectrum: Float64[Tensor, " columns"]) -> Float64[Tensor, ""]:
    """Return `participation_ratio` as a tensor on the spectrum's device."""
    squares = spectrum.square().sum()
    return (spectrum.sum().square() / squares).masked_fill_(squares <= 0, 0)


@dataclass(frozen=True)
class Neighbours:
    """What the two nearest neighbours say about points.

    Attributes:
        dimension: intrinsic dimension by TwoNN; 0 with fewer than 3 distinct points.
        duplicates: number of points left out because they equal an earlier one.
    """

    dimension: float
    duplicates: int


def two_nn(points: Float[Tensor, "samples columns"]) -> Neighbours:
    """Estimate the intrinsic dimension from the distances to the two nearest neighbours.

    The ratio r2 / r1 follows a power law with the dimension as exponent. The estimate is the slope,
    through the origin, of -log(1 - F) over log(r2 / r1), where F is the empirical distribution; the
    tenth with the largest ratios is left out (Facco et al., 2017, arXiv:1803.06992). Duplicates
    have no ratio, so each position counts once. High dimensions are underestimated, because most
    points then lie near the border of their set.

    Raises:
        ValueError: for points that are NaN or infinite.
    """
    _check_finite(points)
    dimension, duplicates = neighbours(points)
    return Neighbours(dimension.item(), duplicates)


def neighbours(
    points: Float[Tensor, "samples columns"],
) -> tuple[Float64[Tensor, ""], int]:
    """Return dimension (on the points' device) and duplicates as `two_nn`, for finite points."""
    distinct = torch.unique(points, dim=0)
    duplicates = len(points) - len(distinct)
    if len(distinct) < 3:
        return points.new_zeros((), dtype=torch.float64), duplicates
    centred = distinct.double() - distinct.mean(0, dtype=torch.float64)
    return _dimension(_neighbour_ratios(centred)), duplicates


def dimension_of_ratios(ratios: Float64[Tensor, " samples"]) -> float:
    """Return the dimension for the ratios r2 / r1 of at least 3 points; see `two_nn`."""
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
        chunk = points[start : start + CHUNK]
        distances = (squares - 2 * chunk @ points.T).add_(squares[start : start + CHUNK, None])
        rows = torch.arange(len(chunk), device=points.device)
        distances[rows, rows + start] = torch.inf
        nearest = distances.topk(min(4, len(points) - 1), largest=False).indices
        # Compute the nearest few exactly: the fast formula above loses digits for close points.
        exact = torch.stack([(points[each] - chunk).norm(dim=1) for each in nearest.T], 1)
        exact = exact.sort(1).values
        ratios.append(exact[:, 1] / exact[:, 0])
    return torch.cat(ratios)


def _check_finite(points: Float[Tensor, "samples columns"]) -> None:
    if not points.isfinite().all():
        raise ValueError("points must be finite, some are NaN or infinite")
