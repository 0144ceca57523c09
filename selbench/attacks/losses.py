"""Losses of each example that attacks raise: the higher, the closer to an error."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from selbench._kit.types import Labels, Logits
from selbench.attacks.waiting import either

Losses = Float[Tensor, " batch"]
Loss = Callable[[Logits, Labels], Losses]


CERTAIN = 14.0  # lead of the largest logit beyond which float32 loses the other probabilities
LEAD = 10.0  # lead after `tempered`
TINY = 1e-12  # avoids a division by zero for equal logits


def cross_entropy(logits: Logits, labels: Labels) -> Losses:
    """Return the cross-entropy of a network's outputs, which may be logits or probabilities.

    Logits are `tempered`, because the gradient of a very certain network would vanish by rounding.
    """
    least = torch.finfo(logits.dtype).tiny
    logits = either(are_probabilities(logits), lambda: logits.clamp(min=least).log(), logits)
    return F.cross_entropy(tempered(logits), labels, reduction="none")


def tempered(logits: Logits) -> Logits:
    """Scale an example's logits to a lead of `LEAD` if the largest leads by more than `CERTAIN`.

    Predictions and the direction of differences of logits do not change. Other examples' logits
    stay the same to the bit.
    """
    if logits.shape[1] < 2:
        return logits
    with torch.no_grad():
        first, second = logits.topk(2, dim=1).values.T
        lead = first - second
        certain = (lead > CERTAIN) & lead.isfinite()
        scale = torch.where(certain, lead / LEAD, 1)[:, None]
    return either(certain.any(), lambda: logits / scale, logits)


def are_probabilities(outputs: Logits) -> Bool[Tensor, ""]:
    """Return whether all of a network's outputs look like probabilities."""
    positive = (outputs >= 0).all()

    def summing_to_one() -> Tensor:
        return ((outputs.detach().sum(1) - 1).abs() < 1e-3).all()

    return either(positive, summing_to_one, positive)


def margin(logits: Logits, labels: Labels) -> Losses:
    """Return the largest other logit minus the label's; positive only for an error.

    Carlini & Wagner, 2017, arXiv:1608.04644.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, labels[:, None]).squeeze(1)


def targeted_margin(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return the targets' logits minus the labels' logits."""
    label_logits, target_logits = (
        logits.gather(1, each[:, None]).squeeze(1) for each in (labels, targets)
    )
    return target_logits - label_logits


def logits_ratio(logits: Logits, labels: Labels) -> Losses:
    """Return `margin` divided by the largest logit minus the third largest: DLR.

    It is invariant to shifting and scaling logits, and needs at least three classes. Croce & Hein,
    2020, arXiv:2003.01690.
    """
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + TINY)


def targeted_ratio(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return the target's logit minus the label's, divided by a difference: targeted DLR.

    The divisor is the largest logit minus the mean of the third and fourth, so it needs at least
    four classes. Croce & Hein, 2020, arXiv:2003.01690.
    """
    largest = logits.topk(4, dim=1).values
    return targeted_margin(logits, labels, targets) / (
        largest[:, 0] - largest[:, 2:].mean(1) + TINY
    )


def towards(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return the negative cross-entropy of the target."""
    return -F.cross_entropy(logits, targets, reduction="none")
