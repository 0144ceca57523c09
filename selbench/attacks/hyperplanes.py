"""The shortest way onto a hyperplane that does not leave [0, 1]."""

import torch
from torch import Tensor

from selbench._kit.types import Images
from selbench.attacks.norms import Norm, Perturbations, Sizes


def onto_hyperplane(
    points: Images, slopes: Perturbations, excess: Sizes, norm: Norm
) -> Perturbations:
    """Return the smallest ways by which a linear function loses `excess`, within [0, 1].

    A pixel moves by a common level in L-inf, in L2 by the level times its slope, until it is black
    or white. What the function has lost is concave in the level, and straight between the levels at
    which pixels stop: Newton's method ends at the exact level. Where no point of [0, 1] lies so
    far, all pixels go as far as they can.

    Args:
        points: to start from, in [0, 1].
        slopes: of the function.
        excess: how much the function is to lose; what is below 0 it gains.
        norm: that is to be small.
    """
    weights = slopes.abs().flatten(1)
    largest = weights.amax(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    weights = weights / largest
    wanted = excess.abs()[:, None] / largest
    rates = weights if norm.name == "l2" else torch.ones_like(weights)
    ways = (-slopes.sign() * excess.sign().view(-1, 1, 1, 1)).flatten(1)
    places = points.flatten(1)
    room = torch.where(ways > 0, 1 - places, places).masked_fill(ways == 0, 0)
    free = room > 0
    while True:
        level = _level(weights, rates, room, free, wanted)
        moving = free & (room > level * rates)
        if torch.equal(moving, free):
            return (ways * torch.where(free, level * rates, room)).view_as(points)
        free = moving


def _level(weights: Tensor, rates: Tensor, room: Tensor, free: Tensor, wanted: Tensor) -> Tensor:
    """Return how far pixels that are free must go when the others have come to their ends."""
    gained = (weights * room).masked_fill(free, 0).sum(1, keepdim=True)
    each = (weights * rates).masked_fill(~free, 0).sum(1, keepdim=True)
    return (wanted - gained) / each
