"""The relief of splashed water: the edges of its drops, and the light on them.

The published sets chain OpenCV functions on a map of the liquid. They are implemented here for
batches, in whole numbers, so that the chain gives the same bytes.
"""

import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor
from torch.nn.functional import pad

Planes = Float32[Tensor, "batch height width"]  # whole numbers
Spread = Shaped[Tensor, "batch height width"]

_SLANT = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_WEAK, _STRONG = 50, 150  # thresholds of an edge: to continue, to start
_FLAT, _STEEP = 13573 / 2**15, 13573 / 2**15 + 2  # tangents of 22.5 and 67.5 degrees
_UNIT = 2**16  # distances are in units of 1 / 65536 pixel
_FURTHEST = 20
# Steps along an axis, like a chess knight's and along a diagonal: the length of one, how many are
# tried at once so that any number up to the furthest distance is a sum, and the directions.
_STEPS = (
    (65536, (1, 2, 4, 8, 5), ((0, 1), (1, 0))),
    (143976, (1, 2, 4, 2), ((1, 2), (2, 1), (1, -2), (2, -1))),
    (91750, (1, 2, 4, 7), ((1, 1), (1, -1))),
)


def relief(liquid: Planes) -> Planes:
    """Return how brightly light catches each pixel of a liquid, 0 to 255.

    liquid: amount of liquid at each pixel, 0 to 255.
    """
    distances = _distances(_edges(liquid)).minimum(liquid.new_tensor(_FURTHEST))
    smooth = _boxed(distances.double()).div_(9).float().floor_()
    lit = _slanted(_equalised(smooth)).clamp_(0, 255)
    return _boxed(lit).div_(9).round_()


def _edges(planes: Planes) -> Bool[Tensor, "batch height width"]:
    """Find edges: ridges of the slope that start where it is strong and may continue where weak.

    Canny, 1986, doi:10.1109/TPAMI.1986.4767851.
    """
    wide = _framed(planes, "replicate")
    across = _summed(_summed(wide, 1, (1, 2, 1)), 2, (-1, 0, 1))
    down = _summed(_summed(wide, 2, (1, 2, 1)), 1, (-1, 0, 1))
    slope = across.abs() + down.abs()
    ridge = _is_ridge(slope, across, down)
    edges = ridge & (slope > _STRONG)
    while True:
        grown = ridge & _spread(_spread(edges, 1), 2)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def _is_ridge(slope: Planes, across: Planes, down: Planes) -> Bool[Tensor, "batch height width"]:
    """Return where the slope is not flat, and steeper than on both sides of the edge.

    To the right and below, an equal slope counts as less steep.
    """
    around = pad(slope, (1, 1, 1, 1))
    lower = around - 1
    upright = torch.maximum(around[:, 1:-1, :-2], lower[:, 1:-1, 2:])
    level = torch.maximum(around[:, :-2, 1:-1], lower[:, 2:, 1:-1])
    falling = torch.maximum(around[:, :-2, :-2], around[:, 2:, 2:])
    rising = torch.maximum(around[:, :-2, 2:], around[:, 2:, :-2])
    beside = torch.where(across * down < 0, rising, falling)
    across, down = across.abs(), down.abs()
    beside = torch.where(down > across * _STEEP, level, beside)
    beside = torch.where(down < across * _FLAT, upright, beside)
    return slope > beside.clamp_(min=_WEAK)


def _distances(targets: Bool[Tensor, "batch height width"]) -> Planes:
    """Return the distance in pixels to the nearest target, at most 20, in chamfer steps.

    A shortest way has steps of two neighbouring directions, which may come in any order. Borgefors,
    1986, doi:10.1016/S0734-189X(86)80047-0.
    """
    nearness = (targets.float() - 1) * (_FURTHEST * _UNIT)
    for length, counts, directions in _STEPS:
        for count in counts:
            moved, nearness = nearness - count * length, nearness.clone()
            for down, across in directions:
                _reach(nearness, moved, count * down, count * across)
                _reach(nearness, moved, -count * down, -count * across)
    return nearness / -_UNIT


def _reach(planes: Planes, moved: Planes, down: int, across: int) -> None:
    """Raise each pixel to that of `moved` from which it is so far down and across."""
    for axis, by in ((1, down), (2, across)):
        size = planes.shape[axis] - abs(by)
        if size <= 0:
            return
        planes, moved = planes.narrow(axis, max(by, 0), size), moved.narrow(axis, max(-by, 0), size)
    torch.maximum(planes, moved, out=planes)


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


def _boxed(planes: Tensor) -> Tensor:
    """Add the eight neighbours to each pixel."""
    return _summed(_summed(_framed(planes, "reflect"), 1, (1, 1, 1)), 2, (1, 1, 1))


def _slanted(planes: Planes) -> Planes:
    """Correlate with a kernel that is lit from above."""
    wide = _framed(planes, "reflect")
    rows = [wide.narrow(1, down, planes.shape[1]) for down in range(3)]
    return sum(
        (_summed(row, 2, weights) for row, weights in zip(rows, _SLANT, strict=True)),
        torch.zeros_like(planes),
    )


def _framed(planes: Tensor, border: str) -> Tensor:
    return pad(planes.unsqueeze(1), (1, 1, 1, 1), border).squeeze(1)


def _summed(wide: Tensor, axis: int, weights: tuple[int, int, int]) -> Tensor:
    """Add each three neighbours along an axis, in whole numbers."""
    size = wide.shape[axis] - 2
    parts = [(wide.narrow(axis, step, size), each) for step, each in enumerate(weights) if each]
    (first, weight), *others = parts
    total = first * weight
    for part, each in others:
        total.add_(part, alpha=each)
    return total
