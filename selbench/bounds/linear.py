"""Linear bounds: a value lies between two linear functions of the image, found backwards.

A ReLU whose input may have either sign lies between two straight lines. Going back from the logits,
each ReLU is replaced by the line that keeps the bound valid. Zhang et al., 2018, arXiv:1811.00866
(CROWN); one slope for both lines is Weng et al., 2018, arXiv:1804.09699 (Fast-Lin).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from selbench._kit.device import measuring
from selbench.bounds.interval import Box, Traced, through, through_single
from selbench.bounds.maps import Affine, Map, ReLU
from selbench.bounds.program import IMAGES
from selbench.bounds.rounding import sums_directly

ROWS = 2**21  # most values of the widest layer in rows that are followed back together
# The most units of a layer that get linear bounds, per image. If the sign of more units is open,
# the image keeps its interval bounds from there on: linear ones would take longest and still fail.
MOST = 64

Rows = Float[Tensor, "images rows ..."]
Slope = Callable[[Tensor, Tensor], Tensor]  # slope of the lower line, from low < 0 < high


def parallel(low: Tensor, high: Tensor) -> Tensor:
    """Return the slope of the upper line."""
    return high / (high - low)


def nearest(low: Tensor, high: Tensor) -> Tensor:
    """Return the slope, 0 or 1, that leaves the smaller area between the lines."""
    return (high > -low).to(low.dtype)


SLOPES: tuple[Slope, ...] = (nearest, parallel)


@dataclass(frozen=True)
class Bounded:
    """Bounds of a network's values on boxes of images.

    Attributes:
        traced: the network.
        images: the boxes of images.
        before: bounds of each ReLU's input, by the place of its output.
        after: bounds of the outputs of other maps that are not affine, by place.
        lines: the lines around each ReLU, by its place and the slope of the lower line.
    """

    traced: Traced
    images: Box
    before: dict[int, Box] = field(default_factory=dict)
    after: dict[int, Box] = field(default_factory=dict)
    lines: dict[tuple[int, Slope], "_Lines"] = field(default_factory=dict)

    def take(self, places: Int64[Tensor, " images"] | slice) -> "Bounded":
        """Return the bounds of the images at `places`."""
        before = {place: each.take(places) for place, each in self.before.items()}
        after = {place: each.take(places) for place, each in self.after.items()}
        return Bounded(self.traced, self.images.take(places), before, after)

    def lowest(
        self,
        rows: Rows,
        place: int | None = None,
        slope: Slope = nearest,
        relaxed: bool = True,
    ) -> Float[Tensor, "images rows"]:
        """Return lower bounds of weighted sums of a value's elements.

        Args:
            rows: the weights, equally many rows for each image.
            place: the value's place; None for the logits.
            slope: slope of the lower lines.
            relaxed: replace ReLUs by lines; otherwise stop at them and use their interval bounds.
        """
        where = self.traced.output if place is None else place
        return self._back(rows, where, slope, relaxed)[0]

    def both(
        self, rows: Rows, place: int
    ) -> tuple[Float[Tensor, "images rows"], Float[Tensor, "images rows"]]:
        """Return lower and upper bounds together, from lines of equal slope."""
        return self._back(rows, place, parallel, True)

    def _back(self, rows: Rows, place: int, slope: Slope, relaxed: bool) -> tuple[Tensor, Tensor]:
        """Follow rows back to the images, or to the ReLUs if not relaxed.

        The upper bound holds only if both lines of each ReLU have the same slope.
        """
        weights, (images, count) = {place: rows}, rows.shape[:2]
        low, high = rows.new_zeros(2, images, count)
        while weights:
            where = max(weights)
            outer, each = weights.pop(where), self.traced.maps.get(where)
            inputs: tuple[int, ...] = ()
            if isinstance(each, Affine):
                inputs, shapes = each.inputs, tuple(self.traced.shapes[it] for it in each.inputs)
                found = each.adjoint(outer.flatten(0, 1), shapes)
                given = [term.unflatten(0, (images, count)) for term in found]
                least = most = 0 if each.constant is None else _dot(outer, each.constant)
            elif isinstance(each, ReLU) and relaxed:
                inputs = each.inputs
                term, least, most = self._lines(where, slope).back(outer)
                given = [term]
            else:
                box = self.images if where == IMAGES else self._made(where)
                middle, reach = _dot(outer, box.centre), _dot(outer.abs(), box.radius)
                least, most = middle - reach, middle + reach
            low, high = low + least, high + most
            for there, term in zip(inputs, given if inputs else (), strict=True):
                weights[there] = weights[there] + term if there in weights else term
        return low, high

    def _lines(self, where: int, slope: Slope) -> "_Lines":
        """Return the lines around a ReLU, computed once."""
        if (where, slope) not in self.lines:
            self.lines[where, slope] = _Lines.of(self.before[where], slope)
        return self.lines[where, slope]

    def _made(self, place: int) -> Box:
        """Return the bounds of the output of a map that is not affine."""
        if place in self.after:
            return self.after[place].double()
        return through(self.traced.maps[place], [self.before[place].double()])


@dataclass(frozen=True)
class _Lines:
    """Two lines around each ReLU: at least `under` * x, at most `over` * x + `offset`."""

    under: Tensor
    over: Tensor
    offset: Tensor

    @classmethod
    def of(cls, box: Box, slope: Slope) -> "_Lines":
        low, high = box.low, box.high
        undecided = (low < 0) & (high > 0)
        on = (low >= 0).to(low.dtype)
        # Where the sign is decided, -1 and 1 only avoid a division by zero.
        below, above = torch.where(undecided, low, -1), torch.where(undecided, high, 1)
        over = torch.where(undecided, parallel(below, above), on)
        under = over if slope is parallel else torch.where(undecided, slope(below, above), on)
        return cls(under, over, torch.where(undecided, -over * low, 0))

    def back(self, outer: Rows) -> tuple[Rows, Tensor, Tensor]:
        """Return the rows for the ReLUs' inputs, and what to add to the lower and upper bounds."""
        negative = outer.clamp(max=0)
        positive = outer - negative
        least, most = _dot(negative, self.offset), _dot(positive, self.offset)
        if self.under is self.over:
            return outer * self.over[:, None], least, most
        given = positive.mul_(self.under[:, None]).addcmul_(negative, self.over[:, None])
        return given, least, most


def _dot(rows: Rows, values: Tensor) -> Float[Tensor, "images rows"]:
    """Return the sums of each image's values, weighted by its rows; `values` may be shared."""
    wide = values.expand(len(values), *rows.shape[2:])
    flat = wide.flatten(1)[..., None].expand(len(rows), -1, 1)
    return torch.bmm(rows.flatten(2), flat)[..., 0]


def interval_bounded(traced: Traced, images: Box) -> Bounded:
    """Bound the values of a network by intervals in float64."""
    return _bounded(traced, images, _unrefined)


def quickly_bounded(traced: Traced, images: Box) -> Bounded:
    """Bound the values of a network by intervals in float32 that contain those in float64.

    They are in float64 where convolutions may not sum products one by one (see `rounding`), and
    where they grow beyond float32, as in ResNets of 56 and more layers.
    """
    if sums_directly(images.centre.device):
        with measuring():
            bounded = _bounded(traced, images, _unrefined, images.rounded(), through_single)
        deepest = [bounded.before[max(bounded.before)]] if bounded.before else []
        if all(bool((each.centre.abs() + each.radius).isfinite().all()) for each in deepest):
            return bounded
    return interval_bounded(traced, images)


def _unrefined(bounded: Bounded, place: int, box: Box) -> Box:
    return box


def linearly_bounded(traced: Traced, images: Box, most: int = MOST) -> Bounded:
    """Bound the values of a network by intervals, and the inputs of ReLUs also by linear functions.

    Only units of open sign get linear bounds, and only if a layer has at most `most` of them for an
    image.
    """
    left = torch.ones(len(images.centre), dtype=torch.bool)

    def refined(bounded: Bounded, place: int, box: Box) -> Box:
        if not bounded.before and not bounded.after:  # only affine maps so far: intervals are exact
            return box
        return _refined(bounded, place, box, most, left)

    return _bounded(traced, images, refined)


def _bounded(
    traced: Traced,
    images: Box,
    refine: Callable[[Bounded, int, Box], Box],
    first: Box | None = None,
    step: Callable[[Map, list[Box]], Box] = through,
) -> Bounded:
    """Bound values map by map with `step`, beginning with the box `first` instead of `images`."""
    bounded, boxes = Bounded(traced, images), {IMAGES: first or images}
    last = {where: place for place, each in traced.maps.items() for where in each.inputs}
    for place, each in traced.maps.items():
        if isinstance(each, ReLU):
            (where,) = each.inputs
            boxes[where] = refine(bounded, where, boxes[where])
            bounded.before[place] = boxes[where]
        boxes[place] = step(each, [boxes[where] for where in each.inputs])
        if not isinstance(each, Affine | ReLU):
            bounded.after[place] = boxes[place]
        for where in each.inputs:
            if last[where] == place:
                boxes.pop(where, None)
    return bounded


def _refined(bounded: Bounded, place: int, box: Box, most: int, left: Tensor) -> Box:
    """Return bounds of a value in which linear ones replace intervals that contain 0.

    `left` marks the images that had at most `most` open units in every layer so far.
    """
    shape = bounded.traced.shapes[place]
    low, high = box.low.flatten(1), box.high.flatten(1)
    for image in range(len(low)):
        (units,) = ((low[image] < 0) & (high[image] > 0)).nonzero(as_tuple=True)
        left[image] &= len(units) <= most
        if not left[image]:
            continue
        one_image = bounded.take(torch.tensor([image]))
        for part in units.split(rows_at_once(bounded.traced)):
            rows = low.new_zeros(len(part), shape.numel())
            rows[torch.arange(len(part)), part] = 1
            (least,), (greatest,) = one_image.both(rows.view(1, -1, *shape), place)
            low[image, part] = low[image, part].maximum(least)
            high[image, part] = high[image, part].minimum(greatest).maximum(low[image, part])
    return Box.between(low.view(-1, *shape), high.view(-1, *shape))


def rows_at_once(traced: Traced) -> int:
    """Return how many rows may be followed back together."""
    return max(1, ROWS // max(shape.numel() for shape in traced.shapes.values()))
