"""What an attack drives up: losses of each example, higher the nearer it is to an error."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from selbench._kit.types import Labels, Logits
from selbench.attacks.waiting import either

Losses = Float[Tensor, " batch"]
Loss = Callable[[Logits, Labels], Losses]


CERTAIN = 14.0  # logits' lead beyond which float32 loses what probability is left to the others
LEAD = 10.0  # that such logits are brought to
TINY = 1e-12  # keeps a ratio of equal logits from being divided by zero


def cross_entropy(logits: Logits, labels: Labels) -> Losses:
    """Cross-entropy of the logits, or of the probabilities, that a network returns.

    Where the network is certain, of its logits after `tempered`: otherwise the gradient would
    vanish by rounding.
    """
    least = torch.finfo(logits.dtype).tiny
    logits = either(are_probabilities(logits), lambda: logits.clamp(min=least).log(), logits)
    return F.cross_entropy(tempered(logits), labels, reduction="none")


def tempered(logits: Logits) -> Logits:
    """Divide an example's logits so that the largest leads by `LEAD`, if it does by `CERTAIN`.

    Predictions stay, and so does the direction in which two logits differ. Others' logits are not
    touched, to the bit.
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
    """Say whether all of a network's outputs look like probabilities."""
    positive = (outputs >= 0).all()

    def summing_to_one() -> Tensor:
        return ((outputs.detach().sum(1) - 1).abs() < 1e-3).all()

    return either(positive, summing_to_one, positive)


def margin(logits: Logits, labels: Labels) -> Losses:
    """Largest other logit minus the label's; above 0 exactly for an error.

    Carlini & Wagner, 2017, arXiv:1608.04644.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, labels[:, None]).squeeze(1)


def logits_ratio(logits: Logits, labels: Labels) -> Losses:
    """Return `margin` divided by how far the largest logit lies above the third: DLR.

    It does not change where logits are shifted or multiplied. It takes three classes or more.
    Croce & Hein, 2020, arXiv:2003.01690.
    """
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + TINY)


def targeted_ratio(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return a target's logit minus the label's, divided as `logits_ratio` does: targeted DLR.

    The divisor is how far the largest logit lies above the mean of the third and the fourth, so
    that it takes four classes or more. Croce & Hein, 2020, arXiv:2003.01690.
    """
    largest = logits.topk(4, dim=1).values
    own, other = (logits.gather(1, each[:, None]).squeeze(1) for each in (labels, targets))
    return (other - own) / (largest[:, 0] - largest[:, 2:].mean(1) + TINY)


def towards(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return the target's cross-entropy with its sign changed."""
    return -F.cross_entropy(logits, targets, reduction="none")
