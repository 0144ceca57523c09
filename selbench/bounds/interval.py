"""Interval bounds: a lower and an upper bound of each value of a network, for images in a box.

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
    """The values between two bounds, stored as centre and radius."""

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
        """Return the boxes of the images at `places`."""
        return Box(self.centre[places], self.radius[places])


@dataclass(frozen=True)
class Traced:
    """A network as a series of maps between values, with its weights in the chosen dtype.

    Attributes:
        maps: the map of each value except the images, by place, in order.
        shapes: shapes of the values, without the batch dimension.
    """

    maps: Mapping[int, Map]
    shapes: Mapping[int, torch.Size]

    @property
    def output(self) -> int:
        """The place of the logits."""
        return max(self.shapes)

    @property
    def relus(self) -> list[int]:
        """The places of the ReLUs' outputs, in order."""
        return [place for place, each in self.maps.items() if isinstance(each, ReLU)]

    def values(self, images: Images) -> dict[int, Values]:
        """Compute all values of a batch of images, in float64."""
        found: dict[int, Values] = {IMAGES: images.double()}
        for place, each in self.maps.items():
            given = [found[where] for where in each.inputs]
            if isinstance(each, Affine):
                found[place] = _shifted(each.linear(*given), each.constant)
            else:
                found[place] = given[0].relu() if isinstance(each, ReLU) else each.apply(given[0])
        return found

    def boxes(self, images: Box) -> Iterator[tuple[int, Box]]:
        """Yield the interval bounds of every value, in order."""
        found: dict[int, Box] = {IMAGES: images}
        last = {where: place for place, each in self.maps.items() for where in each.inputs}
        for place, each in self.maps.items():
            found[place] = through(each, [found[where] for where in each.inputs])
            yield place, found[place]
            for where in each.inputs:
                if last[where] == place:
                    del found[where]


def through(each: Map, boxes: list[Box]) -> Box:
    """Return the interval bounds of a map's output, for inputs in `boxes`."""
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
    """Return recorded operations as maps, with the network's current weights.

    Args:
        recorded: the operations.
        dtype: dtype of all constants.
        instead: tensors that replace tensors of the network, by the `id` of the replaced ones.

    Raises:
        UnboundedError: if an operation has no known bounds.
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
    """Return a network as maps whose values can be bounded, in float64.

    Args:
        network: in evaluation mode.
        images: typical inputs, in [0, 1]. The maps must give the network's logits on them and on
            their negatives.

    Raises:
        NotFiniteError: if logits are not finite.
        UnboundedError: if the network has an operation without known bounds (known are
            convolutions, linear layers, batch norms, ReLUs and other functions that never fall,
            sums and pooling), or computes something different on other images.
    """
    found = bound(record(network, torch.cat([images, images])[:2]))
    tried = torch.cat([1 - images[:TRIED], images[:TRIED]])  # first some not recorded
    with torch.no_grad():
        expected, made = network(tried).double(), found.values(tried)[found.output]
    if not expected.isfinite().all():
        raise NotFiniteError("the network returns NaN or infinity; has its training diverged?")
    if not (expected - made).abs().max() <= AGREEMENT * expected.abs().max():
        raise UnboundedError(
            "bounds cannot follow this network: its operations differ from call to call"
        )
    return found


def ball(images: Images, epsilon: float, slack: float = 0) -> Box:
    """Return the box of images in [0, 1] that differ from `images` by at most epsilon per value.

    `slack` widens the box on all sides, even beyond [0, 1], since attacks may return such images.
    """
    exact = images.double()
    low = (exact - epsilon).clamp(min=0) - slack
    high = (exact + epsilon).clamp(max=1) + slack
    return Box.between(low, high)
