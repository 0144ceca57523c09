"""Norms of perturbations: sizes, steepest directions, projections and random points."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from corruptions.draws import Draws
from selbench._kit.types import Images
from selbench.attacks.waiting import either

TINY = 1e-12  # avoids a division by zero for a gradient of zero
SLACK = 1e-6  # what rounding may add to an allowed perturbation

Sizes = Float[Tensor, " batch"]
Perturbations = Float[Tensor, "batch 3 height width"]
Epsilon = float | Float[Tensor, " batch"]  # radius of a ball: one for all, or one for each


@dataclass(frozen=True)
class Norm:
    """A norm to measure perturbations.

    Attributes:
        size: the size of each perturbation.
        steepest: the perturbation of size 1 in which a function with this gradient grows most.
        project: the nearest perturbation of at most a given size (for L-inf, value by value).
        random: perturbations drawn uniformly from the ball of a given radius.
    """

    name: str
    size: Callable[[Perturbations], Sizes]
    steepest: Callable[[Perturbations], Perturbations]
    project: Callable[[Perturbations, Epsilon], Perturbations]
    random: Callable[[Draws, tuple[int, ...], float], Perturbations]


def each(epsilon: Epsilon) -> float | Float[Tensor, "batch 1 1 1"]:
    """Return epsilons in a shape that multiplies perturbations."""
    return epsilon.view(-1, 1, 1, 1) if isinstance(epsilon, Tensor) else epsilon


def _project_linf(perturbations: Perturbations, epsilon: Epsilon) -> Perturbations:
    reach = each(epsilon)
    return perturbations.clamp(-reach, reach)  # type: ignore[arg-type]


def _steepest_l2(gradients: Perturbations) -> Perturbations:
    """Divide gradients by their length, even if their squares are too small or too large."""
    lengths = gradients.flatten(1).norm(dim=1)
    ordinary = (lengths >= TINY) & lengths.isfinite()

    def brought() -> Perturbations:
        largest = gradients.flatten(1).abs().amax(1).clamp(min=torch.finfo(gradients.dtype).tiny)
        return gradients / torch.where(ordinary, 1, largest).view(-1, 1, 1, 1)

    usual = either(~ordinary.all(), brought, gradients)
    return usual / _l2(usual)


def _l2(perturbations: Perturbations) -> Float[Tensor, "batch 1 1 1"]:
    lengths: Tensor = perturbations.flatten(1).norm(dim=1).clamp_(min=TINY)
    return lengths.view(-1, 1, 1, 1)


def _random_l2(draws: Draws, shape: tuple[int, ...], epsilon: float) -> Perturbations:
    """Draw a direction, and a radius so that the ball is covered uniformly."""
    directions = draws.normal(*shape)
    radius = draws.uniform(0, 1, 1, 1, 1).pow(1 / math.prod(shape))
    return directions / _l2(directions) * radius * epsilon


NORMS: Mapping[str, Norm] = MappingProxyType(
    {
        "linf": Norm(
            "linf",
            size=lambda perturbations: perturbations.abs().flatten(1).amax(1),
            steepest=lambda gradients: gradients.sign(),
            project=_project_linf,
            random=lambda draws, shape, epsilon: draws.uniform(-epsilon, epsilon, *shape),
        ),
        "l2": Norm(
            "l2",
            size=lambda perturbations: perturbations.flatten(1).norm(dim=1),
            steepest=_steepest_l2,
            project=lambda perturbations, epsilon: (
                perturbations * (each(epsilon) / _l2(perturbations)).clamp(max=1)
            ),
            random=_random_l2,
        ),
    }
)


def inside(images: Images, adversarials: Images, norm: Norm, epsilon: Epsilon) -> Tensor:
    """Return for each adversarial whether it lies in the ball around its image, and in [0, 1]."""
    near = norm.size(adversarials - images) <= epsilon + SLACK
    low, high = adversarials.flatten(1).aminmax(dim=1)
    return near & (low >= -SLACK) & (high <= 1 + SLACK)
