"""Shortest steps onto a hyperplane within [0, 1]."""

from itertools import count

import torch
from torch import Tensor

from selbench._kit.types import Images
from selbench.attacks.norms import Norm, Perturbations, Sizes

ROUNDS = 8  # of Newton's method on a GPU, before it is looked whether they suffice


def onto_hyperplane(
    points: Images, slopes: Perturbations, excess: Sizes, norm: Norm
) -> Perturbations:
    """Return the smallest steps that lower a linear function by `excess`, within [0, 1].

    Pixels move by a common level in L-inf, and by the level times their slope in L2, until they
    reach 0 or 1. The decrease is concave in the level, and linear between the levels at which
    pixels stop, so Newton's method finds the exact level. If no point of [0, 1] reaches `excess`,
    all pixels move as far as they can.

    Args:
        points: starting points, in [0, 1].
        slopes: slopes of the function.
        excess: how much the function must fall; negative for a rise.
        norm: the norm to minimise.
    """
    weights = slopes.abs().flatten(1)
    largest = weights.amax(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    weights = weights / largest
    target = excess.abs()[:, None] / largest
    rates = weights if norm.name == "l2" else torch.ones_like(weights)
    ways = (-slopes.sign() * excess.sign().view(-1, 1, 1, 1)).flatten(1)
    places = points.flatten(1)
    room = torch.where(ways > 0, 1 - places, places).masked_fill(ways == 0, 0)
    free = room > 0
    for number in count(1):
        level = _level(weights, rates, room, free, target)
        moving = free & (room > level * rates)
        # Further rounds change nothing, so a GPU is waited for only now and then.
        if (points.device.type == "cpu" or number % ROUNDS == 0) and torch.equal(moving, free):
            break
        free = moving
    return (ways * torch.where(free, level * rates, room)).view_as(points)


def _level(weights: Tensor, rates: Tensor, room: Tensor, free: Tensor, target: Tensor) -> Tensor:
    """Return the level for the free pixels when all others have reached their limits."""
    gained = (weights * room).masked_fill(free, 0).sum(1, keepdim=True)
    each = (weights * rates).masked_fill(~free, 0).sum(1, keepdim=True)
    return (target - gained) / each
