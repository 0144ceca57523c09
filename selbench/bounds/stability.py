"""Stable units: always or never active, for all images or everywhere in balls around them.

Kumar, Serra & Ramalingam, 2019, arXiv:1905.11428: stable units can be removed from a network or
made linear without changing its outputs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selbench._kit.types import Images
from selbench.bounds.interval import Box, Traced, ball
from selbench.bounds.linear import quickly_bounded


@dataclass(frozen=True)
class Stability:
    """Shares of a layer's units (all channels and positions); they add up to 1.

    Attributes:
        active: units whose input is always positive.
        inactive: units that never respond.
        undecided: all others: active for some images only, or left open by the bounds.
    """

    active: float
    inactive: float
    undecided: float


def over_images(network: Traced, batches: Iterable[Tensor]) -> list[Stability]:
    """Return the stability of each ReLU's units over all images, in call order.

    Args:
        network: the result of `traced`.
        batches: batches of images in [0, 1].
    """
    on: list[Tensor] = []
    off: list[Tensor] = []
    for images in batches:
        positive = [values > 0 for values in _relu_inputs(network, images)]
        every = [each.all(0) for each in positive]
        none = [~each.any(0) for each in positive]
        on = [a & b for a, b in zip(on or every, every, strict=True)]
        off = [a & b for a, b in zip(off or none, none, strict=True)]
    return _shares([(a.double(), b.double()) for a, b in zip(on, off, strict=True)])


def in_balls(network: Traced, batches: Iterable[Tensor], epsilon: float) -> list[Stability]:
    """Return the stability of each ReLU's units in L-inf balls, averaged over images.

    Interval bounds decide it, so that the undecided share is an upper bound.

    Args:
        network: the result of `traced`.
        batches: batches of images in [0, 1].
        epsilon: radius of the balls.
    """
    counts: list[tuple[Tensor, Tensor]] = []
    seen = 0
    for images in batches:
        with torch.no_grad():
            boxes = quickly_bounded(network, ball(images, epsilon)).before
        decided = [_decided(boxes[place]) for place in network.relus]
        pairs = zip(counts or decided, decided, strict=True)
        counts = [(a + c, b + d) for (a, b), (c, d) in pairs] if counts else decided
        seen += len(images)
    return _shares([(on / seen, off / seen) for on, off in counts])


def _relu_inputs(network: Traced, images: Images) -> list[Tensor]:
    """Return the input of each ReLU."""
    with torch.no_grad():
        values = network.values(images)
    return [values[network.maps[place].inputs[0]] for place in network.relus]


def _decided(box: Box) -> tuple[Tensor, Tensor]:
    """Return for how many images each unit is active and inactive everywhere in its box."""
    return (box.low > 0).double().sum(0), (box.high <= 0).double().sum(0)


def _shares(layers: Sequence[tuple[Tensor, Tensor]]) -> list[Stability]:
    """Return each layer's means; all numbers are read at once, as each read waits for a GPU."""
    means = torch.stack([each.mean() for layer in layers for each in layer])
    pairs = means.view(-1, 2).tolist()
    return [Stability(active, inactive, 1 - active - inactive) for active, inactive in pairs]
