"""Intervals in float32 that contain those of exact arithmetic.

A sum of n products is off by at most n u / (1 - n u) times the sum of their sizes, whatever the
order of summation and wherever products are fused with sums; u = 2^-24. Higham, 2002, Accuracy and
Stability of Numerical Algorithms, 2nd edition, section 3.1. That holds for direct convolutions, not
for Winograd's, and for products in full float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

UNIT = 2.0**-24  # the largest relative error of one operation
MOST = 100_000  # products of a sum; with more, its drift is no longer nearly n u
TINY = 1e-30  # covers what is rounded near 0, where errors are not relative

Pair = tuple[Tensor, Tensor]  # centre and radius, in float32
Single = Callable[..., Pair]  # maps the pairs of the inputs to that of the output
Apply = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, weight, constant)


def drift(steps: int) -> float:
    """Return a bound of the relative error of so many roundings, at most `MOST`."""
    return 1.01 * steps * UNIT


def sums_directly(device: torch.device) -> bool:
    """Return whether convolutions on `device` sum products, as oneDNN's do."""
    mkldnn = torch.backends.mkldnn
    return device.type == "cpu" and mkldnn.is_available() and bool(mkldnn.enabled)


def weighted(
    apply: Apply, weight: Tensor, constant: Tensor, terms: int, rectified: bool = False
) -> Single | None:
    """Return a map x -> weight * x + constant with its rounding; None if its sums are too long.

    The radius contains the error of the centre and, through the weights, its own.

    Args:
        apply: computes the map; linear in x and in the weight.
        weight: in float64.
        constant: in float64.
        terms: the number of products of a sum.
        rectified: x is never negative, as after a ReLU.
    """
    if terms > MOST:
        return None
    error = drift(terms + 2)  # with the weight's own rounding, and the constant
    wider = 1 + drift(terms + 8)  # covers all roundings of the radius
    own, wide = weight.float(), (weight.abs() * wider).float()
    shift, slack = constant.float(), ((constant.abs() * error + TINY) * wider).float()

    def single(x: Pair) -> Pair:
        centre, radius = x
        size = centre if rectified else centre.abs()
        return apply(centre, own, shift), apply(radius.add(size, alpha=error), wide, slack)

    return single


def added(one: Pair, other: Pair, alpha: float = 1) -> Pair:
    """Return the sum of two intervals, or their difference for an `alpha` of -1."""
    centre = torch.add(one[0], other[0], alpha=alpha)
    radius = torch.add(one[1], other[1]).mul_(1 + drift(4))
    return centre, radius.add_(centre.abs(), alpha=drift(2))


def relu(x: Pair) -> Pair:
    """Return the larger of 0 and x."""
    centre, radius = x
    low, high = (centre - radius).clamp_(min=0), (centre + radius).clamp_(min=0)
    middle = torch.lerp(low, high, 0.5)
    return middle, high.mul_(0.5 + drift(8)).sub_(low, alpha=0.5)


def rounded(centre: Tensor, radius: Tensor) -> Pair:
    """Return an interval in float64 as one in float32 that contains it."""
    wide = radius * (1 + 4 * UNIT) + centre.abs() * (2 * UNIT) + TINY
    return centre.float(), wide.float()
