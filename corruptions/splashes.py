"""The relief of splashed water: the edges of its drops, and the light on them.

The published sets chain OpenCV functions on a map of the liquid. They are implemented here for
batches, in whole numbers, so that the chain gives the same bytes.
"""

import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor
from torch.nn.functional import pad

from corruptions.separable import Border, border_index

Planes = Float32[Tensor, "batch height width"]  # whole numbers
Spread = Shaped[Tensor, "batch height width"]
Kernel = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]

_SLOPE: Kernel = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_SLANT: Kernel = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_BOX: Kernel = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
_WEAK, _STRONG = 50, 150  # thresholds of an edge: to continue, to start
_FLAT, _STEEP = 13573 / 2**15, 13573 / 2**15 + 2  # tangents of 22.5 and 67.5 degrees
_UNIT = 2**16  # distances are in units of 1 / 65536 pixel
_FURTHEST = 20
# lengths of a step along an axis, along a diagonal, and like a chess knight's
_STRAIGHT, _DIAGONAL, _KNIGHT = 65536, 91750, 143976


def relief(liquid: Planes) -> Planes:
    """Return how brightly light catches each pixel of a liquid, 0 to 255.

    liquid: amount of liquid at each pixel, 0 to 255.
    """
    distances = _distances(_edges(liquid)).minimum(liquid.new_tensor(_FURTHEST))
    smooth = _correlated(distances.double(), _BOX, "mirror").div_(9).float().floor_()
    lit = _correlated(_equalised(smooth), _SLANT, "mirror").clamp_(0, 255)
    return _correlated(lit, _BOX, "mirror").div_(9).round_()


def _edges(planes: Planes) -> Bool[Tensor, "batch height width"]:
    """Find edges: ridges of the slope that start where it is strong and may continue where weak.

    Canny, 1986, doi:10.1109/TPAMI.1986.4767851.
    """
    across = _correlated(planes, _SLOPE, "nearest")
    down = _correlated(planes.mT, _SLOPE, "nearest").mT
    slope = across.abs() + down.abs()
    ridge = (slope > _WEAK) & _is_ridge(slope, across, down)
    edges = ridge & (slope > _STRONG)
    while True:
        grown = ridge & _spread(_spread(edges, 1), 2)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def _is_ridge(slope: Planes, across: Planes, down: Planes) -> Bool[Tensor, "batch height width"]:
    """Return where the slope is steeper than on both sides of the edge."""
    around = pad(slope, (1, 1, 1, 1))
    left, right = around[:, 1:-1, :-2], around[:, 1:-1, 2:]
    above, below = around[:, :-2, 1:-1], around[:, 2:, 1:-1]
    falling = (slope > around[:, :-2, :-2]) & (slope > around[:, 2:, 2:])
    rising = (slope > around[:, :-2, 2:]) & (slope > around[:, 2:, :-2])
    upright = (slope > left) & (slope >= right)
    level = (slope > above) & (slope >= below)
    diagonal = torch.where((across < 0) != (down < 0), rising, falling)
    steep = torch.where(down.abs() > across.abs() * _STEEP, level, diagonal)
    return torch.where(down.abs() < across.abs() * _FLAT, upright, steep)


def _distances(targets: Bool[Tensor, "batch height width"]) -> Planes:
    """Return the distance in pixels to the nearest target, at most 20, in chamfer steps.

    Borgefors, 1986, doi:10.1016/S0734-189X(86)80047-0.
    """
    nearness = torch.where(targets, 0.0, -_FURTHEST * float(_UNIT)).float()
    while True:
        beside, above = _spread(nearness, 2), _spread(nearness, 1)
        square = _spread(beside, 1)
        straight = torch.maximum(beside, above) - _STRAIGHT
        knight = torch.maximum(_spread(square, 1), _spread(square, 2)) - _KNIGHT
        nearer = nearness.maximum(straight).maximum(square - _DIAGONAL).maximum(knight)
        if torch.equal(nearer, nearness):
            return nearness / -_UNIT
        nearness = nearer


def _spread(planes: Spread, axis: int) -> Spread:
    """Return the maximum of each pixel and its two neighbours along an axis."""
    steps = planes.shape[axis] - 1
    spread = planes.clone()
    for there, here in ((0, 1), (1, 0)):
        part = spread.narrow(axis, here, steps)
        torch.maximum(part, planes.narrow(axis, there, steps), out=part)
    return spread


def _equalised(planes: Planes) -> Planes:
    """Equalise grey levels, so that all are equally frequent; a single level stays unchanged."""
    levels = planes.flatten(1).long()
    counts = planes.new_zeros(len(planes), _FURTHEST + 1)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float32))
    lowest = counts.gather(1, levels.amin(1, keepdim=True))
    others = levels.shape[1] - lowest
    spread = ((counts.cumsum(1) - lowest) * (255 / others)).round_().clamp_(0, 255)
    spread = torch.where(others > 0, spread, torch.arange(_FURTHEST + 1, device=planes.device))
    return spread.gather(1, levels).view_as(planes)


def _correlated(planes: Tensor, kernel: Kernel, border: Border) -> Tensor:
    """Correlate with a 3x3 kernel."""
    _, height, width = planes.shape
    rows, columns = (
        border_index(torch.arange(-1, size + 1, device=planes.device), size, border)
        for size in (height, width)
    )
    framed = planes[:, rows.unsqueeze(1), columns]
    total = torch.zeros_like(planes)
    for down, weights in enumerate(kernel):
        for across, weight in enumerate(weights):
            if weight:
                part = framed[:, down : down + height, across : across + width]
                total.add_(part, alpha=weight)
    return total
