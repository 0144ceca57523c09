"""Other axes: is class selectivity one of a layer's units, or of whatever directions one takes?

A layer's units are one basis of its representation. Random rotations tell what any other basis
would have; the best direction for each class tells what the representation offers at most.
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

STARTS = 2  # of gradient ascent, for every class
STEPS = 100
FIRST_STEP = 0.5  # for directions of length 1
RESPONDING = 0.25  # share of its class that a direction must respond to

Responses = Float64[Tensor, "batch columns"]


@dataclass(frozen=True)
class BestAxes:
    """The most selective direction for each class with 2 examples, in the order of their numbers.

    The index of a direction for class c is (mu_c - mu_rest) / (mu_c + mu_rest), where mu_rest is
    the mean of the other classes' means; it lies in [-1, 1], and is 0 where nothing responds.

    Attributes:
        directions: one per class, of length 1; the response is relu(units @ direction).
        in_sample: index for the class on the half on which the directions were found.
        held_out: on the other half. With few examples for the units, the former is optimistic.
    """

    directions: Float64[Tensor, "present units"]
    in_sample: Float64[Tensor, " present"]
    held_out: Float64[Tensor, " present"]

    def frame(self) -> "pd.DataFrame":
        """Return one row for each class that is there, in the order of their numbers."""
        places = torch.arange(len(self.in_sample))
        return frame_of({"place": places, "in_sample": self.in_sample, "held_out": self.held_out})

    def __repr__(self) -> str:
        """Say in a line how selective the best directions are."""
        count, units = self.directions.shape
        return (
            f"best axes of {count} classes among {units} units: index {self.in_sample.mean():.3f} "
            f"in sample, {self.held_out.mean():.3f} held out (means)"
        )


@checked
def rotated_selectivity(
    units: Units, labels: Labels, classes: int, rotations: int, generator: torch.Generator
) -> Float64[Tensor, " rotations"]:
    """Average the class selectivity index over a layer's units, after each of some rotations.

    Rotated activity can be negative, and the index needs activity that is not. So each direction
    gets the sign with which its mean over the examples is positive, and negative responses are set
    to 0, as a unit would; this is ours. Dead units take part like the others.

    Args:
        units: not negative.
        labels: of the examples.
        classes: number of classes.
        rotations: how many.
        generator: which ones.
    """
    points = units.double()
    values = []
    for _ in range(rotations):
        rotation = random_rotation(units.shape[1], generator)
        rotated = rectified(points @ rotation.to(points.device, non_blocking=True))
        values.append(index_of(*class_means(rotated, labels, classes)).mean())
    return torch.stack(values)


def random_rotation(size: int, generator: torch.Generator) -> Float64[Tensor, "{size} {size}"]:
    """Draw an orthogonal matrix, all equally likely (Haar measure).

    QR of a Gaussian matrix, with the signs of R's diagonal moved to Q: without that Q would depend
    on how QR is computed (Mezzadri, 2007, arXiv:math-ph/0609050).
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
    """Find, for every class with 2 examples, a direction that responds most selectively to it.

    Gradient ascent on the index from two starts: the class mean minus the mean of the other
    classes' means, and the best single unit, which the result is never worse than. Directions are
    found on every other example of each class, in the order given, and tried on the rest. What is
    found is a local optimum; nothing is drawn at random.

    Without `responding` the index is highest for directions to which one or two examples respond,
    by chance. So a direction must respond to that share of its class, or to as much of it as the
    best unit does if that is less; this is ours. Where few examples of the other half respond, the
    held-out index of a class is noisy: -1 if none of its own do.

    Args:
        units: not negative.
        labels: of the examples.
        classes: number of classes.
        responding: share of the class, in [0, 1].

    Raises:
        SelbenchError: for fewer than 2 such classes; examples of others are left out.
    """
    several = labels.bincount(minlength=classes)[labels] > 1
    units, labels = units[several], labels[several]
    here = _first_half(labels, classes)
    scale = units[here].double().square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # dead units stay
    points = units / scale  # so that one length of step suits all units
    averaging = _averaging(labels[here], classes)
    found = _ascended(points[here], _starts(points[here], averaging), averaging, responding)
    chosen = found.selectivity.view(STARTS, -1).argmax(0) * len(averaging)
    chosen += torch.arange(len(averaging), device=chosen.device)
    directions = found.directions[chosen]
    responses = (points[~here] @ directions.T).relu()
    held_out = _own_index(responses, _averaging(labels[~here], classes))
    return BestAxes(F.normalize(directions / scale, dim=1), found.selectivity[chosen, 0], held_out)


class _Ascent(NamedTuple):
    """Directions, one per row, and what is known of them; row k is for class k modulo classes.

    Attributes:
        selectivity: index for the class.
        share: of the class's examples that have a response.
        uphill: gradient of the index on the sphere, of length 1.
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
    """Follow the gradient; a step that does not raise the index is undone, the next one shorter."""
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
    """Return, for every class, the difference of means and, below, the best single unit.

    The difference is turned away from the mean of all classes, so that what they have in common
    neither silences it nor has it respond to all.
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
    """Return the index of each column for its own class."""
    means = averaging @ responses
    own = _own_class_entries(means)
    rest = (means.sum(0) - own) / (len(means) - 1)
    return (own - rest) / (own + rest + EPSILON)


def _own_class_entries(means: Float64[Tensor, "present columns"]) -> Float64[Tensor, " columns"]:
    """Return each column's entry of its own class."""
    columns = torch.arange(means.shape[1], device=means.device)
    return means[columns % len(means), columns]


def _averaging(labels: Labels, classes: int) -> Float64[Tensor, "present batch"]:
    """Return the matrix that turns examples into the means of the classes that are present."""
    members = F.one_hot(labels, classes).double().T
    counts = members.sum(1, keepdim=True)
    return (members / counts)[counts[:, 0] > 0]


def _first_half(labels: Labels, classes: int) -> Bool[Tensor, " batch"]:
    """Choose the first, third, fifth, ... example of each class."""
    members = F.one_hot(labels, classes)
    counts = members.sum(0)
    if (counts > 0).sum() < 2:
        raise SelbenchError(
            "the most selective directions need at least 2 images of each of 2 classes; take more"
        )
    return (members.cumsum(0) * members).sum(1) % 2 == 1
