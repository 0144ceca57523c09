"""Other axes: is class selectivity a property of units, or of any direction in a layer?

A layer's units are one basis of its representation. Random rotations show the selectivity of other
bases. The best direction for each class shows the highest selectivity in the representation.

Layers of one width can be measured together, to keep a GPU busy: their units then have the shape
(layers, examples, units), and each result gets the dimension of layers in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
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

Responses = Float64[Tensor, "*layers batch columns"]


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
    return rotated_means(units, labels, classes, rotations, [generator])


def rotated_means(
    units: Float[Tensor, "*layers batch units"],
    labels: Labels,
    classes: int,
    rotations: int,
    generators: Sequence[torch.Generator],
) -> Float64[Tensor, "*layers rotations"]:
    """Return `rotated_selectivity` of one layer or of several; each has its own generator."""
    points, (*several, _, width) = units.double(), units.shape
    values = []
    for _ in range(rotations):
        drawn = torch.cat([random_rotation(width, generator) for generator in generators])
        rotation = drawn.view(*several, width, width).to(points.device, non_blocking=True)
        rotated = rectified(points @ rotation).movedim(-2, 0).flatten(1)  # all layers' columns
        index = index_of(*class_means(rotated, labels, classes))
        values.append(index.view(*several, width).mean(-1))
    return torch.stack(values, -1)


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
    flip = responses.mean(-2, keepdim=True) < 0
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
    return BestAxes(*best_directions(units, labels, classes, responding))


def best_directions(
    units: Float[Tensor, "*layers batch units"],
    labels: Labels,
    classes: int,
    responding: float = RESPONDING,
) -> tuple[
    Float64[Tensor, "*layers present units"],
    Float64[Tensor, "*layers present"],
    Float64[Tensor, "*layers present"],
]:
    """Return the fields of `best_axes` of one layer or of several."""
    first, second = _halves(labels, classes)
    here, there = (units.index_select(-2, half) for half in (first, second))
    scale = here.double().square().mean(-2, keepdim=True).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # dead units stay 0
    # Divided so that one step length suits all units.
    found = _ascended(here / scale, _averaging(labels[first], classes), responding)
    responses = ((there / scale) @ found.directions.mT).relu()
    held_out = _own_index(responses, _averaging(labels[second], classes))
    return F.normalize(found.directions / scale, dim=-1), found.selectivity[..., 0], held_out


class _Ascent(NamedTuple):
    """Directions in rows, with their properties; row k belongs to class k modulo classes.

    Attributes:
        selectivity: index for its class.
        share: share of the class's examples with a response.
        uphill: gradient of the index on the sphere, with length 1.
    """

    directions: Float64[Tensor, "*layers columns units"]
    selectivity: Float64[Tensor, "*layers columns 1"]
    share: Float64[Tensor, "*layers columns 1"]
    uphill: Float64[Tensor, "*layers columns units"]


def _ascended(
    points: Float64[Tensor, "*layers batch units"],
    averaging: Float64[Tensor, "present batch"],
    responding: float,
) -> _Ascent:
    """Follow the gradient; undo a step that does not raise the index, and shorten the next.

    Returns each class's best of its starts.
    """
    present = len(averaging)
    here = _looked(points, _starts(points, averaging), averaging)
    alone = here.share[..., present:, :].clamp(max=responding)
    least = torch.cat([alone] * STARTS, -2)
    allowed = here.share >= least
    here = here._replace(selectivity=here.selectivity.masked_fill(~allowed, -torch.inf))
    length = torch.full_like(here.selectivity, FIRST_STEP)
    for _ in range(STEPS):
        moved = F.normalize(here.directions + length * here.uphill, dim=-1)
        there = _looked(points, moved, averaging)
        better = (there.selectivity > here.selectivity) & (there.share >= least)
        here = _Ascent(*(torch.where(better, t, h) for t, h in zip(there, here, strict=True)))
        length = torch.where(better, 1.5 * length, length / 2)
    best = here.selectivity.unflatten(-2, (STARTS, present)).argmax(-3, keepdim=True)
    return _Ascent(*(_chosen(each.unflatten(-2, (STARTS, present)), best) for each in here))


def _chosen(starts: Tensor, best: Tensor) -> Tensor:
    """Return the entry of the `best` start for each class."""
    return starts.take_along_dim(best, -3).squeeze(-3)


@torch.enable_grad()
def _looked(
    points: Float64[Tensor, "*layers batch units"],
    directions: Float64[Tensor, "*layers columns units"],
    averaging: Float64[Tensor, "present batch"],
) -> _Ascent:
    directions = directions.detach().requires_grad_()
    responses = (points @ directions.mT).relu()
    index = _own_index(responses, averaging)
    (gradient,) = torch.autograd.grad(index.sum(), directions)
    directions, index = directions.detach(), index.detach()
    share = _own_class_entries(averaging @ (responses.detach() > 0).double())
    along = gradient - (gradient * directions).sum(-1, keepdim=True) * directions
    return _Ascent(directions, index[..., None], share[..., None], F.normalize(along, dim=-1))


def _starts(
    points: Float64[Tensor, "*layers batch units"], averaging: Float64[Tensor, "present batch"]
) -> Float64[Tensor, "*layers columns units"]:
    """Return the difference of means for each class and, below these, the best single units.

    The component along the mean of all classes is removed from the difference; it would make the
    direction respond to all classes, or to none.
    """
    means = averaging @ points
    rest = (means.sum(-2, keepdim=True) - means) / (len(averaging) - 1)
    best = ((means - rest) / (means + rest + EPSILON)).argmax(-1)
    alone = F.one_hot(best, points.shape[-1]).to(means.dtype)
    common = F.normalize(means.mean(-2), dim=-1)[..., None]
    difference = means - rest
    apart = difference - (difference @ common) * common.mT
    return torch.cat([F.normalize(apart, dim=-1), alone], -2)


def _own_index(
    responses: Float64[Tensor, "*layers batch columns"], averaging: Float64[Tensor, "present batch"]
) -> Float64[Tensor, "*layers columns"]:
    """Return each column's index for its class."""
    means = averaging @ responses
    in_class = _own_class_entries(means)
    rest = (means.sum(-2) - in_class) / (len(averaging) - 1)
    return (in_class - rest) / (in_class + rest + EPSILON)


def _own_class_entries(
    means: Float64[Tensor, "*layers present columns"],
) -> Float64[Tensor, "*layers columns"]:
    """Return each column's entry for its class."""
    columns = torch.arange(means.shape[-1], device=means.device)
    return means[..., columns % means.shape[-2], columns]


def _averaging(labels: Labels, classes: int) -> Float64[Tensor, "present batch"]:
    """Return the matrix that maps examples to the means of the classes present."""
    members = F.one_hot(labels, classes).double().T
    counts = members.sum(1, keepdim=True)
    return (members / counts)[counts[:, 0] > 0]


def _halves(
    labels: Labels, classes: int
) -> tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]:
    """Return the first, third, fifth, ... examples of each class, and the second, fourth, ...

    Classes with a single example are left out.
    """
    members = F.one_hot(labels, classes)
    counts = members.sum(0)
    several = counts[labels] > 1
    if (counts > 1).sum() < 2:
        raise SelbenchError(
            "the most selective directions need at least 2 images of each of 2 classes; use more"
        )
    odd = (members.cumsum(0) * members).sum(1) % 2 == 1
    first, second = ((several & half).nonzero(as_tuple=True)[0] for half in (odd, ~odd))
    return first, second
