"""Other axes: is class selectivity a property of units, or of any direction in a layer?

A layer's units are one basis of its representation. Random rotations show the selectivity of other
bases. The best direction for each class shows the highest selectivity in the representation.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Labels, Units
from selbench.analyses.arguments import checked
from selbench.analyses.frames import frame_of
from selbench.selectivity import EPSILON, class_means, index_of

if TYPE_CHECKING:
    import pandas as pd

STARTS = 2  # starts of gradient ascent for each class
STEPS = 100
FIRST_STEP = 0.5  # length of the first step, for unit vectors
RESPONDING = 0.25  # least share of its class to which a direction must respond

Responses = Float64[Tensor, "batch columns"]


@dataclass(frozen=True)
class BestAxes:
    """The most selective direction for each class with at least 2 examples, in order of classes.

    The index of a direction for class c is (mu_c - mu_rest) / (mu_c + mu_rest), where mu_rest is
    the mean of the other classes' means. It lies in [-1, 1], and is 0 if nothing responds.

    Attributes:
        directions: one unit vector per class; the response is relu(units @ direction).
        in_sample: index on the half of the examples that the directions were found on.
        held_out: index on the other half; `in_sample` is too high if examples are few.
    """

    directions: Float64[Tensor, "present units"]
    in_sample: Float64[Tensor, " present"]
    held_out: Float64[Tensor, " present"]

    def frame(self) -> "pd.DataFrame":
        """Return one row for each class with a direction, in order of classes."""
        places = torch.arange(len(self.in_sample))
        return frame_of({"place": places, "in_sample": self.in_sample, "held_out": self.held_out})

    def __repr__(self) -> str:
        """Describe the selectivity of the best directions in one line."""
        count, units = self.directions.shape
        return (
            f"best axes of {count} classes among {units} units: index {self.in_sample.mean():.3f} "
            f"in sample, {self.held_out.mean():.3f} held out (means)"
        )


@checked
def rotated_selectivity(
    units: Units, labels: Labels, classes: int, rotations: int, generator: torch.Generator
) -> Float64[Tensor, " rotations"]:
    """Return the mean class selectivity index over a layer's units after random rotations.

    The index needs non-negative activity, which rotations do not keep. So each direction gets the
    sign for which its mean over examples is positive, and negative responses become 0, as in a
    unit; this is ours. Dead units are included.

    Args:
        units: non-negative activities.
        labels: the examples' labels.
        classes: number of classes.
        rotations: number of rotations.
        generator: draws the rotations.
    """
    points = units.double()
    values = []
    for _ in range(rotations):
        rotation = random_rotation(units.shape[1], generator)
        rotated = rectified(points @ rotation.to(points.device, non_blocking=True))
        values.append(index_of(*class_means(rotated, labels, classes)).mean())
    return torch.stack(values)


def random_rotation(size: int, generator: torch.Generator) -> Float64[Tensor, "{size} {size}"]:
    """Draw an orthogonal matrix, uniformly distributed (Haar measure).

    It is Q of a Gaussian matrix's QR, with the signs of R's diagonal moved to Q; otherwise Q would
    depend on the algorithm of QR (Mezzadri, 2007, arXiv:math-ph/0609050).
    """
    gaussian = torch.randn(
        size, size, dtype=torch.float64, generator=generator, device=generator.device
    )
    q, r = torch.linalg.qr(gaussian)
    rotation: Tensor = q * r.diagonal().sign()
    return rotation


def rectified(responses: Responses) -> Responses:
    """Flip the columns whose mean is negative, then set negative responses to 0."""
    flip = responses.mean(0) < 0
    return torch.where(flip, -responses, responses).relu()


@checked
def best_axes(
    units: Units, labels: Labels, classes: int, *, responding: float = RESPONDING
) -> BestAxes:
    """Find the most selective direction for each class with at least 2 examples.

    Gradient ascent on the index has two starts: the class mean minus the mean of the other classes'
    means, and the best single unit, so that the result is at least as good as this unit. Directions
    are found on every other example of each class, in the given order, and tested on the rest. The
    result is a local optimum, without randomness.

    Without `responding` the best directions would be those to which one or two examples respond by
    chance. So a direction must respond to that share of its class, or to the share of the best unit
    if that is smaller; this is ours. If few examples of the other half respond, the held-out index
    is noisy: -1 if none of the class do.

    Args:
        units: non-negative activities.
        labels: the examples' labels.
        classes: number of classes.
        responding: required share of the class, in [0, 1].

    Raises:
        SelbenchError: for fewer than 2 such classes; examples of other classes are left out.
    """
    several = labels.bincount(minlength=classes)[labels] > 1
    units, labels = units[several], labels[several]
    here = _first_half(labels, classes)
    scale = units[here].double().square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # dead units stay 0
    points = units / scale  # so that one step length suits all units
    averaging = _averaging(labels[here], classes)
    found = _ascended(points[here], _starts(points[here], averaging), averaging, responding)
    chosen = found.selectivity.view(STARTS, -1).argmax(0) * len(averaging)
    chosen += torch.arange(len(averaging), device=chosen.device)
    directions = found.directions[chosen]
    responses = (points[~here] @ directions.T).relu()
    held_out = _own_index(responses, _averaging(labels[~here], classes))
    return BestAxes(F.normalize(directions / scale, dim=1), found.selectivity[chosen, 0], held_out)


class _Ascent(NamedTuple):
    """Directions in rows, with their properties; row k belongs to class k modulo classes.

    Attributes:
        selectivity: index for its class.
        share: share of the class's examples with a response.
        uphill: gradient of the index on the sphere, with length 1.
    """

    directions: Float64[Tensor, "columns units"]
    selectivity: Float64[Tensor, "columns 1"]
    share: Float64[Tensor, "columns 1"]
    uphill: Float64[Tensor, "columns units"]


def _ascended(
    points: Float64[Tensor, "batch units"],
    starts: Float64[Tensor, "columns units"],
    averaging: Float64[Tensor, "present batch"],
    responding: float,
) -> _Ascent:
    """Follow the gradient; undo a step that does not raise the index, and shorten the next."""
    here = _looked(points, starts, averaging)
    least = here.share[len(averaging) :].clamp(max=responding).repeat(STARTS, 1)
    allowed = here.share >= least
    here = here._replace(selectivity=here.selectivity.masked_fill(~allowed, -torch.inf))
    length = torch.full_like(here.selectivity, FIRST_STEP)
    for _ in range(STEPS):
        moved = F.normalize(here.directions + length * here.uphill, dim=1)
        there = _looked(points, moved, averaging)
        better = (there.selectivity > here.selectivity) & (there.share >= least)
        here = _Ascent(*(torch.where(better, t, h) for t, h in zip(there, here, strict=True)))
        length = torch.where(better, 1.5 * length, length / 2)
    return here


@torch.enable_grad()
def _looked(
    points: Float64[Tensor, "batch units"],
    directions: Float64[Tensor, "columns units"],
    averaging: Float64[Tensor, "present batch"],
) -> _Ascent:
    directions = directions.detach().requires_grad_()
    responses = (points @ directions.T).relu()
    index = _own_index(responses, averaging)
    (gradient,) = torch.autograd.grad(index.sum(), directions)
    directions, index = directions.detach(), index.detach()
    share = _own_class_entries(averaging @ (responses.detach() > 0).double())
    along = gradient - (gradient * directions).sum(1, keepdim=True) * directions
    return _Ascent(directions, index[:, None], share[:, None], F.normalize(along, dim=1))


def _starts(
    points: Float64[Tensor, "batch units"], averaging: Float64[Tensor, "present batch"]
) -> Float64[Tensor, "columns units"]:
    """Return the difference of means for each class and, below these, the best single units.

    The component along the mean of all classes is removed from the difference; it would make the
    direction respond to all classes, or to none.
    """
    means = averaging @ points
    rest = (means.sum(0) - means) / (len(means) - 1)
    best = ((means - rest) / (means + rest + EPSILON)).argmax(1)
    alone = F.one_hot(best, points.shape[1]).to(means.dtype)
    common = F.normalize(means.mean(0), dim=0)
    difference = means - rest
    apart = difference - (difference @ common)[:, None] * common
    return torch.cat([F.normalize(apart, dim=1), alone])


def _own_index(
    responses: Float64[Tensor, "batch columns"], averaging: Float64[Tensor, "present batch"]
) -> Float64[Tensor, " columns"]:
    """Return each column's index for its class."""
    means = averaging @ responses
    in_class = _own_class_entries(means)
    rest = (means.sum(0) - in_class) / (len(means) - 1)
    return (in_class - rest) / (in_class + rest + EPSILON)


def _own_class_entries(means: Float64[Tensor, "present columns"]) -> Float64[Tensor, " columns"]:
    """Return each column's entry for its class."""
    columns = torch.arange(means.shape[1], device=means.device)
    return means[columns % len(means), columns]


def _averaging(labels: Labels, classes: int) -> Float64[Tensor, "present batch"]:
    """Return the matrix that maps examples to the means of the classes present."""
    members = F.one_hot(labels, classes).double().T
    counts = members.sum(1, keepdim=True)
    return (members / counts)[counts[:, 0] > 0]


def _first_half(labels: Labels, classes: int) -> Bool[Tensor, " batch"]:
    """Select the first, third, fifth, ... example of each class."""
    members = F.one_hot(labels, classes)
    counts = members.sum(0)
    if (counts > 0).sum() < 2:
        raise SelbenchError(
            "the most selective directions need at least 2 images of each of 2 classes; use more"
        )
    return (members.cumsum(0) * members).sum(1) % 2 == 1
