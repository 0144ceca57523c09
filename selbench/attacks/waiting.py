"""Choices that depend on numbers on a GPU, without waiting for them at every step.

A program that reads a number from a GPU waits until the GPU has finished all its work, and the GPU
then waits for the program.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def either(flag: Bool[Tensor, ""], changed: Callable[[], Tensor], usual: Tensor) -> Tensor:
    """Return `changed()` if `flag` is true, otherwise `usual`.

    A CPU calls `changed` only if needed. A GPU computes both and does not wait for `flag`.
    """
    if flag.device.type == "cpu":
        return changed() if flag else usual
    return torch.where(flag, changed(), usual)


def remaining(places: Int64[Tensor, " some"], count: int) -> Int64[Tensor, " others"]:
    """Return the positions below `count` that are not in `places`, which has no repeats."""
    left = torch.ones(count, dtype=torch.bool, device=places.device).index_fill_(0, places, False)
    return left.nonzero_static(size=count - len(places)).squeeze(1)
