"""Class selectivity: how differently a unit responds to different classes.

The index is that of Morcos et al., 2018, arXiv:1803.06959. The regulariser of Leavitt & Morcos,
2020, arXiv:2003.01262, subtracts alpha times its mean over layers from the loss.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from selbench._kit.errors import NegativeActivityError
from selbench._kit.types import Labels

EPSILON = 1e-7  # in the index's denominator; the papers give no value


def class_means(
    units: Float[Tensor, "batch units"], labels: Labels, classes: int
) -> tuple[Float[Tensor, "classes units"], Bool[Tensor, " classes"]]:
    """Average the units over each class; also return which classes are present (others are 0)."""
    members = F.one_hot(labels, classes).to(units.dtype)
    counts = members.sum(0)
    return (members.T @ units) / counts.clamp(min=1)[:, None], counts > 0


def selectivity_index(
    means: Float[Tensor, "classes units"],
    present: Bool[Tensor, " classes"],
    epsilon: float = EPSILON,
) -> Float[Tensor, " units"]:
    """Compute (mu_max - mu_rest) / (mu_max + mu_rest + epsilon) of each unit.

    mu_max is the largest class mean and mu_rest the mean of the other classes' means. The index is
    0 for a unit with equal means for all classes, for a dead unit, and if only one class is
    present; it is 1 for a unit that responds to only one of several classes.

    Args:
        means: class means of the units, not negative.
        present: the classes to use; rows of others are left out.
        epsilon: keeps a dead unit's index finite.

    Raises:
        NegativeActivityError: for a negative mean, which would take the index out of [0, 1].
    """
    low = means.detach().masked_fill(~present[:, None], 0).amin(0)
    if (low < 0).any():
        unit = int(low.argmin())
        raise NegativeActivityError(
            f"unit {unit + 1} responds with {low[unit]:.3g} on average to a class, and the class "
            "selectivity index needs activity that is not negative; use the outputs of ReLUs"
        )
    return index_of(means, present, epsilon)


def index_of(
    means: Float[Tensor, "classes units"],
    present: Bool[Tensor, " classes"],
    epsilon: float | Tensor = EPSILON,
) -> Float[Tensor, " units"]:
    """Return `selectivity_index` of means that are known not to be negative."""
    absent = ~present[:, None]
    largest = means.masked_fill(absent, -torch.inf).amax(0)
    total = means.masked_fill(absent, 0).sum(0)
    others = present.sum() - 1
    rest = torch.where(others > 0, (total - largest) / others.clamp(min=1), largest)
    return (largest - rest) / (largest + rest + epsilon)


def mean_selectivity(
    layers: Sequence[Float[Tensor, "batch _"]],
    labels: Labels,
    classes: int,
    relative: float | None = None,
) -> Float[Tensor, ""]:
    """Average the index over the units of each layer, then over the layers; differentiable.

    Class means are over the classes in the batch. Averaging within layers first keeps wide layers
    from dominating. The training loss is cross-entropy minus alpha times this (Leavitt & Morcos,
    2020, arXiv:2003.01262). In small batches the index has more sampling noise: a unit that is
    independent of the classes still scores above 0.

    With `relative`, the denominator's epsilon is this share of the layer's mean activity, at least
    `EPSILON`, and has no gradient.
    """
    widths = [units.shape[1] for units in layers]
    means, present = class_means(torch.cat(list(layers), 1), labels, classes)
    epsilon: float | Tensor = EPSILON
    if relative is not None:
        activity = means.detach().sum(0) / present.sum()
        each = [part.mean().expand(len(part)) for part in activity.split(widths)]
        epsilon = (relative * torch.cat(each)).clamp(min=EPSILON)
    index = index_of(means, present, epsilon)
    return torch.stack([part.mean() for part in index.split(widths)]).mean()
