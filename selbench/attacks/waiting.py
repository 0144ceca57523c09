"""Choices that depend on numbers a GPU has, without waiting for them at every step.

A program that reads a number from a GPU waits until all that was asked of it before is done, and
the GPU then waits for the program.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def either(flag: Bool[Tensor, ""], changed: Callable[[], Tensor], usual: Tensor) -> Tensor:
    """Return what `changed` makes where `flag` is true, else `usual`.

    A processor makes it only where it is wanted; elsewhere both are there, and none is waited for.
    """
    if flag.device.type == "cpu":
        return changed() if flag else usual
    return torch.where(flag, changed(), usual)


def remaining(places: Int64[Tensor, " some"], count: int) -> Int64[Tensor, " others"]:
    """Return the places below `count` that are not among some, each of which is there once."""
    left = torch.ones(count, dtype=torch.bool, device=places.device).index_fill_(0, places, False)
    return left.nonzero_static(size=count - len(places)).squeeze(1)
