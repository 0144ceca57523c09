"""What an attack drives up: losses of each example, higher the nearer it is to an error."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selbench.types import Labels, Logits

TINY = 1e-12

Losses = Float[Tensor, " batch"]
Loss = Callable[..., Losses]  # of logits, labels and, if it is targeted, targets


def cross_entropy(logits: Logits, labels: Labels) -> Losses:
    """Cross-entropy; its gradient vanishes where the network is certain."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Logits, labels: Labels) -> Losses:
    """Largest other logit minus the label's; above 0 exactly for an error.

    Carlini & Wagner, 2017, arXiv:1608.04644.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - _of(logits, labels)


def difference_of_logits_ratio(logits: Logits, labels: Labels) -> Losses:
    """The margin, divided by the distance of the first logit from the third.

    It does not change when logits are scaled or shifted. Needs three classes. Croce & Hein, 2020,
    arXiv:2003.01690.
    """
    first, _, third = logits.topk(3).values.unbind(1)
    return margin(logits, labels) / (first - third + TINY)


def targeted_cross_entropy(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """The logarithm of the target's probability."""
    return -F.cross_entropy(logits, targets, reduction="none")


def targeted_margin(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """The target's logit minus the largest other one; above 0 exactly when the target is hit."""
    return -margin(logits, targets)


def targeted_difference_of_logits_ratio(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """The target's logit minus the label's, whatever the scale. Needs four classes.

    Croce & Hein, 2020, arXiv:2003.01690.
    """
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    return (_of(logits, targets) - _of(logits, labels)) / (first - (third + fourth) / 2 + TINY)


def _of(logits: Logits, labels: Labels) -> Losses:
    return logits.gather(1, labels[:, None]).squeeze(1)
