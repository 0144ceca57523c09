"""Certificates: images that no perturbation within a ball makes a network misclassify.

A certificate holds for the network in exact arithmetic. Linear bounds are computed in float64, and
intervals in float32 with their rounding (`selbench.bounds.rounding`). A certified margin exceeds
`TOLERANCE`, so that the certificate holds for a network in float32 too.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selbench._kit.types import Images, Labels
from selbench.attacks.norms import SLACK
from selbench.bounds.interval import Box, Traced, ball, traced
from selbench.bounds.linear import (
    MOST,
    SLOPES,
    Bounded,
    interval_bounded,
    linearly_bounded,
    quickly_bounded,
    rows_at_once,
)

Method = Literal["interval", "linear"]
TOLERANCE = 1e-4  # relative to the largest logit of the clean image; covers rounding in float32

# Linear bounds are tried where the margin lacks less than `HOPELESS` times the margin of the image
# itself. Elsewhere they would take minutes and still fail.
HOPELESS = 2

# Margins this close to 0, as a share of the image's largest, are bounded again in float64.
NEAR = 0.01

Margins = Float[Tensor, "batch classes"]  # the label's logit minus each; infinite for the label


def margin_bounds(bounded: Bounded, labels: Labels, relaxed: bool) -> Margins:
    """Return lower bounds of the label's logit minus each other logit, over the whole box.

    Args:
        bounded: the bounds of a network on boxes of images.
        labels: the images' labels.
        relaxed: bound ReLUs by lines; otherwise by intervals alone.
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
    """Return the best lower bounds over several slopes of the lines, for a few images at a time."""
    few = max(1, rows_at_once(bounded.traced) // rows.shape[1])
    slopes, parts = SLOPES if relaxed else SLOPES[:1], []
    for begin in range(0, len(rows), few):
        places = slice(begin, begin + few)
        bounded_part, part = bounded.take(places), rows[places]
        bounds = [bounded_part.lowest(part, slope=each, relaxed=relaxed) for each in slopes]
        parts.append(torch.stack(bounds).amax(0))
    return torch.cat(parts)


@torch.no_grad()
def bounded_margins(
    network: Traced, images: Box, labels: Labels, method: Method = "linear", most: int = MOST
) -> Margins:
    """Bound the margins of a network on boxes of images.

    Args:
        network: the result of `traced`.
        images: boxes, from `ball`.
        labels: the images' labels.
        method: "interval" or "linear"; "linear" takes longer and is never looser.
        most: see `linearly_bounded`.
    """
    if method == "interval":
        return _interval_margins(network, images, labels)
    bounded = interval_bounded(network, images)
    margins = margin_bounds(bounded, labels, relaxed=False)
    margins = _improved(margins, bounded.take, labels, margins.amin(1) <= 0)
    logits = network.values(images.centre)[network.output]
    middle = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf)
    lacking = -margins.amin(1)
    near = (lacking >= 0) & (lacking < HOPELESS * middle.amin(1))
    return _improved(
        margins, lambda left: linearly_bounded(network, images.take(left), most), labels, near
    )


def _interval_margins(network: Traced, images: Box, labels: Labels) -> Margins:
    margins = margin_bounds(quickly_bounded(network, images), labels, relaxed=False)
    largest = margins.where(margins.isfinite(), 0).abs().amax(1)
    near = margins.amin(1).abs() < NEAR * largest

    def precisely(left: Tensor) -> Bounded:
        return interval_bounded(network, images.take(left))

    return _improved(margins, precisely, labels, near, relaxed=False)


def _improved(
    margins: Margins,
    bounded: Callable[[Tensor], Bounded],
    labels: Labels,
    where: Tensor,
    relaxed: bool = True,
) -> Margins:
    """Return the margins, improved by other bounds for the images in `where`."""
    (left,) = where.nonzero(as_tuple=True)
    if not len(left):
        return margins
    improved = margin_bounds(bounded(left), labels[left], relaxed)
    return margins.index_copy(0, left, margins[left].maximum(improved))


@torch.no_grad()
def certify(
    network: nn.Module | Traced,
    images: Images,
    labels: Labels,
    epsilons: Sequence[float],
    method: Method = "linear",
    most: int = MOST,
) -> list[Margins]:
    """Bound margins in L-inf balls of rising size; an image is certified where all are positive.

    Once an image has lost its certificate, its margins are not computed again.

    Args:
        network: in evaluation mode, or the result of `traced`.
        images: in [0, 1].
        labels: the images' labels.
        epsilons: in rising order; each ball has the attacks' `SLACK` for rounding.
        method: see `bounded_margins`.
        most: see `linearly_bounded`.

    Returns:
        lower bounds of the margins for each epsilon, minus `TOLERANCE` times the largest logit.

    Raises:
        UnboundedError: if the network has an operation without known bounds.
    """
    found = network if isinstance(network, Traced) else traced(network, images)
    logits = found.logits(images)
    least = TOLERANCE * logits.abs().amax(1, keepdim=True)
    margins = logits.gather(1, labels[:, None]) - logits
    margins.scatter_(1, labels[:, None], torch.inf)
    results = []
    for epsilon in epsilons:
        (left,) = (margins.amin(1) > 0).nonzero(as_tuple=True)
        if len(left):
            boxes = ball(images[left], epsilon, SLACK)
            found_margins = bounded_margins(found, boxes, labels[left], method, most)
            margins = margins.index_copy(0, left, found_margins - least[left])
        results.append(margins)
    return results
