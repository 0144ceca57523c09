"""Interval bounds: a lower and an upper bound of each value of a network, for images in a box.

Gowal et al., 2018, arXiv:1810.12715.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from selbench._kit.errors import NotFiniteError, UnboundedError
from selbench._kit.types import Images, Logits
from selbench.bounds.maps import Affine, Call, Map, ReLU
from selbench.bounds.program import (
    IMAGES,
    Recorded,
    Ref,
    not_bounded,
    record,
)
from selbench.bounds.rounding import relu, rounded
from selbench.bounds.rules import RULES

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

    def double(self) -> "Box":
        """Return the box in float64."""
        return Box(self.centre.double(), self.radius.double())

    def rounded(self) -> "Box":
        """Return a box in float32 that contains it."""
        return Box(*rounded(self.centre, self.radius))

    def take(self, places: Tensor | slice) -> "Box":
        """Return the boxes of the images at `places`."""
        return Box(self.centre[places], self.radius[places])


@dataclass(frozen=True)
class Traced:
    """A network as a series of maps between values, with its weights in the chosen dtype.

    Attributes:
        maps: the map of each value except the images, by place, in order.
        shapes: shapes of the values, without the batch dimension.
        network: the network itself, or None.
    """

    maps: Mapping[int, Map]
    shapes: Mapping[int, torch.Size]
    network: nn.Module | None = None

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

    def logits(self, images: Images) -> Logits:
        """Return the network's own logits in float64, or those of the maps without a network."""
        if self.network is None:
            return self.values(images)[self.output]
        logits: Logits = self.network(images)
        return logits.double()

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


def through_single(each: Map, boxes: list[Box]) -> Box:
    """Return the interval bounds of a map's output in float32, which contain those of `through`."""
    pairs = [(box.centre, box.radius) for box in boxes]
    if isinstance(each, ReLU):
        return Box(*relu(*pairs))
    if isinstance(each, Affine) and each.single is not None:
        return Box(*each.single(*pairs))
    return through(each, [box.double() for box in boxes]).rounded()


def _shifted(value: Tensor, constant: Tensor | None) -> Tensor:
    return value if constant is None else value + constant


def bound(
    recorded: Recorded,
    dtype: torch.dtype = torch.float64,
    instead: Mapping[int, Tensor] = MappingProxyType({}),
    joining: bool = False,
) -> Traced:
    """Return recorded operations as maps, with the network's current weights.

    Args:
        recorded: the operations.
        dtype: dtype of all constants.
        instead: tensors that replace tensors of the network, by the `id` of the replaced ones.
        joining: make one map of a convolution and the batch norm after it.

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
        before = maps if joining else {}
        call = Call(operation, args, recorded.batch, shapes, kwargs, before)
        maps[place] = RULES[operation.name](call)
    return Traced(_needed(maps), shapes)


def _needed(maps: Mapping[int, Map]) -> dict[int, Map]:
    """Return the maps that the last one depends on."""
    needed = {max(maps)}
    for place in sorted(maps, reverse=True):
        needed |= {*maps[place].inputs} if place in needed else set()
    return {place: each for place, each in maps.items() if place in needed}


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
    found = bound(record(network, torch.cat([images, images])[:2]), joining=True)
    tried = torch.cat([1 - images[:TRIED], images[:TRIED]])  # first some not recorded
    with torch.no_grad():
        expected, made = network(tried).double(), found.values(tried)[found.output]
    if not expected.isfinite().all():
        raise NotFiniteError("the network returns NaN or infinity; has its training diverged?")
    if not (expected - made).abs().max() <= AGREEMENT * expected.abs().max():
        raise UnboundedError(
            "bounds cannot follow this network: its operations differ from call to call"
        )
    return replace(found, network=network)


def ball(images: Images, epsilon: float, slack: float = 0) -> Box:
    """Return the box of images in [0, 1] that differ from `images` by at most epsilon per value.

    `slack` widens the box on all sides, even beyond [0, 1], since attacks may return such images.
    """
    exact = images.double()
    low = (exact - epsilon).clamp(min=0) - slack
    high = (exact + epsilon).clamp(max=1) + slack
    return Box.between(low, high)
