"""FMN and DDN: nearest errors by descent in a ball whose radius follows the decision boundary.

Each step costs a forward and a backward pass for every image. The radius shrinks if the network
errs and grows otherwise, so that points cross the boundary again and again, closer and closer to
the image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selbench._kit.chunks import in_chunks
from selbench._kit.types import Images, Labels, Logits
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import gradients_of, logits_of
from selbench.attacks.losses import Loss, cross_entropy, margin
from selbench.attacks.norms import NORMS, Norm, Perturbations, Sizes
from selbench.attacks.waiting import either

STEPS = 100
LONGEST, SHORTEST = 1.0, 0.01  # L2 lengths of the first and last step
FMN_CHANGE = 0.05, 0.001  # first and last relative change of FMN's radius in a step
BEYOND = 1e-3  # least growth in FMN: on the boundary itself rounding may hide an error forever
DDN_CHANGE = 0.05  # relative change of DDN's radius
DDN_RADIUS = 0.1  # first radius; 100 steps can change it by a factor of 130

Radii = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Moment:
    """The state of a descent on which radii may depend, for each image.

    Attributes:
        done: share of the steps done so far.
        sizes: sizes of the current perturbations.
        nearest: sizes of the smallest perturbations that fooled the network; inf if none.
        errs: whether the network errs now.
        gradients: gradients of the loss.
        logits: logits of the network.
    """

    done: float
    sizes: Sizes
    nearest: Sizes
    errs: Bool[Tensor, " batch"]
    gradients: Perturbations
    logits: Logits


Resize = Callable[[Radii, Moment, Labels], Radii]
Fit = Callable[[Perturbations, Radii], Perturbations]  # fits perturbations into balls


def fmn(
    guarded: Guarded, images: Images, labels: Labels, norm: Norm, *, steps: int = STEPS
) -> Images:
    """Return the nearest errors that Fast Minimum Norm (FMN) finds.

    Before an image's first error, the radius is set where the margin's slope predicts the boundary.
    Later it changes by 5 %, then less and less. Pintor et al., 2021, arXiv:2102.12827.

    Args:
        guarded: the network under attack.
        images: clean images, in [0, 1].
        labels: their true classes.
        norm: norm of the distances.
        steps: number of steps.

    Returns:
        the errors; the clean image if there is none, or if it is misclassified itself.
    """

    def resize(radii: Radii, now: Moment, labels: Labels) -> Radii:
        change = _annealed(*FMN_CHANGE, now.done)
        slopes = (now.gradients * norm.steepest(now.gradients)).flatten(1).sum(1)
        further = margin(now.logits, labels).abs() / slopes
        boundary = now.sizes + torch.maximum(further, BEYOND * now.sizes)
        outside = torch.where(now.nearest.isinf(), boundary, radii * (1 + change))
        return torch.where(now.errs, torch.minimum(radii * (1 - change), now.nearest), outside)

    return _descend(guarded, images, labels, norm, steps, margin, math.inf, resize, norm.project)


def ddn(guarded: Guarded, images: Images, labels: Labels, *, steps: int = STEPS) -> Images:
    """Return the nearest L2 errors that Decoupled Direction and Norm (DDN) finds.

    The cross-entropy's gradient gives only the direction. Each perturbation has the length of the
    radius, which changes by 5 % per step. Rony et al., 2019, arXiv:1811.09600.

    For arguments and result see `fmn`.
    """
    norm = NORMS["l2"]

    def resize(radii: Radii, now: Moment, labels: Labels) -> Radii:
        return radii * torch.where(now.errs, 1 - DDN_CHANGE, 1 + DDN_CHANGE)

    def fit(ways: Perturbations, radii: Radii) -> Perturbations:
        return norm.steepest(ways) * radii.view(-1, 1, 1, 1)

    return _descend(guarded, images, labels, norm, steps, cross_entropy, DDN_RADIUS, resize, fit)


def _descend(
    guarded: Guarded,
    images: Images,
    labels: Labels,
    norm: Norm,
    steps: int,
    loss: Loss,
    radius: float,
    resize: Resize,
    fit: Fit,
) -> Images:
    """Climb `loss` and keep the nearest errors, all steps for one chunk of images at a time.

    The original network checks all errors once, at the end. The few images whose error it rejects
    descend again, and it then checks every new error.
    """

    @torch.no_grad()
    def descend(images: Images, labels: Labels, asks: bool) -> Images:
        points, found = images, images.clone()
        nearest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        radii = torch.full_like(nearest, radius)
        largest = norm.size(torch.maximum(images, 1 - images))
        for number in range(steps):
            done = number / steps
            gradients, logits = gradients_of(guarded, points, labels, loss)
            sizes = norm.size(points - images)
            errs = logits.argmax(1) != labels
            (closer,) = (errs & (sizes < nearest)).nonzero(as_tuple=True)
            if asks and len(closer):
                closer = closer[guarded.fallen(points[closer], labels[closer], logits[closer])]
            found[closer], nearest[closer] = points[closer], sizes[closer]
            now = Moment(done, sizes, nearest, errs, gradients, logits)
            radii = torch.minimum(resize(radii, now, labels).nan_to_num(torch.inf), largest)
            step = _annealed(LONGEST, SHORTEST, done) * _directions(gradients, number)
            points = (images + fit(points - images + step, radii)).clamp_(0, 1)
        return found

    def sure(images: Images, labels: Labels) -> tuple[Images]:
        found = descend(images, labels, asks=False)
        if guarded.given is guarded.network:
            return (found,)
        moved = (found != images).flatten(1).any(1)
        denied = moved & (logits_of(guarded.given, found).argmax(1) == labels)
        if denied.any():
            found[denied] = descend(images[denied], labels[denied], asks=True)
        return (found,)

    return in_chunks(sure, images, labels)[0]


def _directions(gradients: Perturbations, number: int) -> Perturbations:
    """Return gradients of L2 length 1; for zero gradients, noise that is equal for all images."""
    flat = gradients.flatten(1).abs().amax(1) == 0

    def noisy() -> Perturbations:
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(gradients.shape[1:], generator=generator)
        there = noise.to(gradients.device, gradients.dtype, non_blocking=True)
        return torch.where(flat.view(-1, 1, 1, 1), there, gradients)

    return NORMS["l2"].steepest(either(flat.any(), noisy, gradients))


def _annealed(first: float, last: float, done: float) -> float:
    """Return the value between `first` and `last` after a share of the steps, along a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
