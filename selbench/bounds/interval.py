"""Interval bounds: what each value of a network lies between, for images in a box.

Gowal et al., 2018, arXiv:1810.12715.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from selbench._kit.errors import NotFiniteError, UnboundedError
from selbench._kit.types import Images
from selbench.bounds.maps import RULES, Affine, Call, Map, ReLU
from selbench.bounds.program import (
    IMAGES,
    Operation,
    Recorded,
    Ref,
    not_bounded,
    record,
)

TRIED = 8  # images on which the recorded operations must give the network's own logits
AGREEMENT = 1e-3  # of logits, relative to the largest: a network computes in float32

Values = Float[Tensor, "batch ..."]


@dataclass(frozen=True)
class Box:
    """The values between two bounds, given as their middle and how far they reach from it."""

    centre: Values
    radius: Values

    @classmethod
    def between(cls, low: Values, high: Values) -> "Box":
        """Return the box between a lower and an upper bound."""
        return cls((high + low) / 2, (high - low) / 2)

    @property
    def low(self) -> Values:
        """The lower bound."""
        return self.centre - self.radius

    @property
    def high(self) -> Values:
        """The upper bound."""
        return self.centre + self.radius

    def take(self, places: Tensor) -> "Box":
        """Return the boxes of some images."""
        return Box(self.centre[places], self.radius[places])


@dataclass(frozen=True)
class Traced:
    """A network as maps between values, in the numbers to compute with.

    Attributes:
        maps: of every value but the images, by place, in order.
        shapes: of the values, without the batch dimension.
    """

    maps: Mapping[int, Map]
    shapes: Mapping[int, torch.Size]

    @property
    def output(self) -> int:
        """The place of the logits."""
        return max(self.shapes)

    @property
    def relus(self) -> list[int]:
        """The places of what ReLUs make, in order."""
        return [place for place, each in self.maps.items() if isinstance(each, ReLU)]

    def values(self, images: Images) -> dict[int, Values]:
        """Compute every value of images, in float64."""
        found: dict[int, Values] = {IMAGES: images.double()}
        for place, each in self.maps.items():
            given = [found[where] for where in each.inputs]
            if isinstance(each, Affine):
                found[place] = _shifted(each.linear(*given), each.constant)
            else:
                found[place] = given[0].relu() if isinstance(each, ReLU) else each.apply(given[0])
        return found

    def boxes(self, images: Box) -> Iterator[tuple[int, Box]]:
        """Yield the interval bounds of every value, in order.

        What is sent back takes the place of a value's bounds.
        """
        found: dict[int, Box] = {IMAGES: images}
        last = {where: place for place, each in self.maps.items() for where in each.inputs}
        for place, each in self.maps.items():
            found[place] = through(each, [found[where] for where in each.inputs])
            yield place, found[place]
            for where in each.inputs:
                if last[where] == place:
                    del found[where]


def through(each: Map, boxes: list[Box]) -> Box:
    """Return the interval bounds of what a map makes of boxes."""
    if isinstance(each, Affine):
        centre = _shifted(each.linear(*(box.centre for box in boxes)), each.constant)
        return Box(centre, each.size(*(box.radius for box in boxes)))
    apply = torch.relu if isinstance(each, ReLU) else each.apply
    return Box.between(apply(boxes[0].low), apply(boxes[0].high))


def _shifted(value: Tensor, constant: Tensor | None) -> Tensor:
    return value if constant is None else value + constant


def bound(
    recorded: Recorded,
    dtype: torch.dtype = torch.float64,
    instead: Mapping[int, Tensor] = MappingProxyType({}),
) -> Traced:
    """Return the maps of recorded operations, with the weights as they are now.

    Args:
        recorded: the operations.
        dtype: of the numbers to compute with.
        instead: tensors to take instead of some of the network's, by the ids of these.

    Raises:
        UnboundedError: for an operation that no bounds are known of.
    """
    constants = {place: _as(dtype, each) for place, each in recorded.constants().items()}
    shapes = {p: each.shape[1:] for p, each in recorded.operations.items() if each.follows}
    maps: dict[int, Map] = {}

    def filled(each: Any) -> Any:
        if isinstance(each, Ref):
            return constants.get(each.place, each)
        return _as(dtype, instead.get(id(each), each)) if isinstance(each, Tensor) else each

    for place, operation in recorded.operations.items():
        if place == IMAGES or not operation.follows:
            continue
        if operation.name not in RULES:
            raise not_bounded(operation)
        args, kwargs = tree_map(filled, (operation.args, dict(operation.kwargs)))
        maps[place] = RULES[operation.name](_call(operation, args, kwargs, recorded.batch, shapes))
    return Traced(maps, shapes)


def _call(
    operation: Operation, args: Any, kwargs: Any, batch: int, shapes: Mapping[int, torch.Size]
) -> Call:
    return Call(operation, args, batch, {**shapes}, kwargs)


def _as(dtype: torch.dtype, value: Tensor) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def traced(network: nn.Module, images: Images) -> Traced:
    """Return a network in evaluation mode as maps whose values can be bounded, in float64.

    Args:
        network: it.
        images: some of those that it will see, in [0, 1]; on them and on their negatives the maps
            must give its logits.

    Raises:
        NotFiniteError: for logits that are not finite.
        UnboundedError: for a network that no bounds are known of: one with operations beside
            convolutions, linear layers, batch norms, ReLUs and other functions that never fall,
            sums and pooling, or one that does something else on other images.
    """
    found = bound(record(network, torch.cat([images, images])[:2]))
    tried = torch.cat([1 - images[:TRIED], images[:TRIED]])  # others than were recorded come first
    with torch.no_grad():
        own, made = network(tried).double(), found.values(tried)[found.output]
    if not own.isfinite().all():
        raise NotFiniteError("the network returns NaN or infinity; has its training diverged?")
    if not (own - made).abs().max() <= AGREEMENT * own.abs().max():
        raise UnboundedError(
            "bounds cannot follow this network: what it does to images is not always the same"
        )
    return found


def ball(images: Images, epsilon: float, slack: float = 0) -> Box:
    """Return the images of [0, 1] that differ from given ones by at most epsilon in any value.

    With `slack` the ball is that much larger on all sides, as what attacks return may be.
    """
    exact = images.double()
    low = (exact - epsilon).clamp(min=0) - slack
    high = (exact + epsilon).clamp(max=1) + slack
    return Box.between(low, high)
