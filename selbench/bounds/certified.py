"""Certificates: images that no perturbation of a ball makes a network misclassify.

A certificate is about the network in exact numbers, its bounds are in float64, and images are
certified by a margin of `TOLERANCE`, so that a network in float32 keeps to it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selbench._kit.types import Images, Labels, Logits
from selbench.attacks.norms import SLACK
from selbench.bounds.interval import Box, Traced, ball, traced
from selbench.bounds.linear import (
    MOST,
    SLOPES,
    Bounded,
    interval_bounded,
    linearly_bounded,
    rows_at_once,
)

Method = Literal["interval", "linear"]
TOLERANCE = 1e-4  # of logits, relative to the largest of the clean image: rounding in float32

# Units are looked at again where what lacks to a certificate is less than so many times the margin
# of the image itself: else it would take minutes, and be in vain.
HOPELESS = 2

Margins = Float[Tensor, "batch classes"]  # the label's logit minus each; infinite for the label


def margin_bounds(bounded: Bounded, labels: Labels, relaxed: bool) -> Margins:
    """Return how much the label's logit exceeds each other one at least, all over the box.

    Args:
        bounded: the values of a network on boxes of images.
        labels: of the images.
        relaxed: whether ReLUs are bounded by lines; else intervals alone are used.
    """
    classes = bounded.traced.shapes[bounded.traced.output].numel()
    others = torch.arange(classes, device=labels.device).expand(len(labels), classes)
    others = others[others != labels[:, None]].view(len(labels), classes - 1)
    rows = -torch.nn.functional.one_hot(others, classes).double()
    rows.scatter_(2, labels[:, None, None].expand(-1, classes - 1, 1), 1)
    low = _lowest(bounded, rows, relaxed)
    margins = low.new_full((len(labels), classes), torch.inf)
    return margins.scatter(1, others, low)


def _lowest(bounded: Bounded, rows: Tensor, relaxed: bool) -> Tensor:
    """Return the best lower bounds of several slopes of lines, a part of the images at a time."""
    few = max(1, rows_at_once(bounded.traced) // rows.shape[1])
    slopes, parts = SLOPES if relaxed else SLOPES[:1], []
    for places in torch.arange(len(rows), device=rows.device).split(few):
        own, part = bounded.take(places), rows[places]
        bounds = [own.lowest(part, slope=each, relaxed=relaxed) for each in slopes]
        parts.append(torch.stack(bounds).amax(0))
    return torch.cat(parts)


@torch.no_grad()
def bounded_margins(
    network: Traced, images: Box, labels: Labels, method: Method = "linear", most: int = MOST
) -> Margins:
    """Bound the margins of a network on boxes of images.

    Args:
        network: as `traced` returns it.
        images: boxes, as `ball` returns them.
        labels: of the images.
        method: "interval", or "linear", which takes longer and is never looser.
        most: as of `linearly_bounded`.
    """
    bounded = interval_bounded(network, images)
    margins = margin_bounds(bounded, labels, relaxed=False)
    if method == "interval":
        return margins
    margins = _improved(margins, bounded.take, labels, margins.amin(1) <= 0)
    logits = network.values(images.centre)[network.output]
    middle = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf)
    lacking = -margins.amin(1)
    near = (lacking >= 0) & (lacking < HOPELESS * middle.amin(1))
    return _improved(
        margins, lambda left: linearly_bounded(network, images.take(left), most), labels, near
    )


def _improved(
    margins: Margins, bounded: Callable[[Tensor], Bounded], labels: Labels, where: Tensor
) -> Margins:
    """Return the better of bounds and those by lines, of some images."""
    (left,) = where.nonzero(as_tuple=True)
    if not len(left):
        return margins
    own = margin_bounds(bounded(left), labels[left], relaxed=True)
    return margins.index_copy(0, left, margins[left].maximum(own))


@torch.no_grad()
def certify(
    network: nn.Module | Traced,
    images: Images,
    labels: Labels,
    epsilons: Sequence[float],
    method: Method = "linear",
    most: int = MOST,
) -> list[Margins]:
    """Bound margins in L-inf balls of rising size: an image is certified where all are positive.

    An image that lost its certificate is not looked at again: its margins stay.

    Args:
        network: in evaluation mode, or as `traced` returns it.
        images: in [0, 1].
        labels: of the images.
        epsilons: rising; as attacks count, with `SLACK` for rounding.
        method: as of `bounded_margins`.
        most: as of `linearly_bounded`.

    Returns:
        for each epsilon bounds of margins, less `TOLERANCE` of the largest logit.

    Raises:
        UnboundedError: for a network that no bounds are known of.
    """
    found = network if isinstance(network, Traced) else traced(network, images)
    logits: Logits = found.values(images)[found.output]
    least = TOLERANCE * logits.abs().amax(1, keepdim=True)
    margins = logits.gather(1, labels[:, None]) - logits
    margins.scatter_(1, labels[:, None], torch.inf)
    results = []
    for epsilon in epsilons:
        (left,) = (margins.amin(1) > 0).nonzero(as_tuple=True)
        if len(left):
            boxes = ball(images[left], epsilon, SLACK)
            own = bounded_margins(found, boxes, labels[left], method, most)
            margins = margins.index_copy(0, left, own - least[left])
        results.append(margins)
    return results
