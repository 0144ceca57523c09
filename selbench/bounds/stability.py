"""Units that are stable: always active, or never, on images or all over balls around them.

Kumar, Serra & Ramalingam, 2019, arXiv:1905.11428: what is stable can be left out of a network, or
made linear, and nothing changes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from selbench._kit.types import Images
from selbench.bounds.interval import Box, Traced, ball
from selbench.bounds.linear import interval_bounded


@dataclass(frozen=True)
class Stability:
    """Shares of a layer's units, of all its channels and places, that add up to 1.

    Attributes:
        active: that always pass on what they get.
        inactive: that never respond.
        undecided: that do either, or may, as far as bounds know.
    """

    active: float
    inactive: float
    undecided: float


def over_images(network: Traced, batches: Iterable[Tensor]) -> list[Stability]:
    """Return the stability of each ReLU's units over all images, in calling order.

    Args:
        network: as `traced` returns it.
        batches: the images in parts, each in [0, 1].
    """
    on: list[Tensor] = []
    off: list[Tensor] = []
    for images in batches:
        positive = [values > 0 for values in _taken(network, images)]
        every = [each.all(0) for each in positive]
        none = [~each.any(0) for each in positive]
        on = [a & b for a, b in zip(on or every, every, strict=True)]
        off = [a & b for a, b in zip(off or none, none, strict=True)]
    return [_stability(a.double(), b.double()) for a, b in zip(on, off, strict=True)]


def in_balls(network: Traced, batches: Iterable[Tensor], epsilon: float) -> list[Stability]:
    """Return the stability of each ReLU's units all over an L-inf ball, in the mean over images.

    By interval bounds: a share that is undecided is at most so.

    Args:
        network: as `traced` returns it.
        batches: the images in parts, each in [0, 1].
        epsilon: of the balls.
    """
    counts: list[tuple[Tensor, Tensor]] = []
    seen = 0
    for images in batches:
        with torch.no_grad():
            boxes = interval_bounded(network, ball(images, epsilon)).before
        own = [_decided(boxes[place]) for place in network.relus]
        pairs = zip(counts or own, own, strict=True)
        counts = [(a + c, b + d) for (a, b), (c, d) in pairs] if counts else own
        seen += len(images)
    return [_stability(on / seen, off / seen) for on, off in counts]


def _taken(network: Traced, images: Images) -> list[Tensor]:
    """Return what each ReLU takes."""
    with torch.no_grad():
        values = network.values(images)
    return [values[network.maps[place].inputs[0]] for place in network.relus]


def _decided(box: Box) -> tuple[Tensor, Tensor]:
    """Return how many of the images' units are active and inactive all over a box."""
    return (box.low > 0).double().sum(0), (box.high <= 0).double().sum(0)


def _stability(on: Tensor, off: Tensor) -> Stability:
    active, inactive = float(on.mean()), float(off.mean())
    return Stability(active, inactive, 1 - active - inactive)
