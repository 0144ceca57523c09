"""What an attack drives up: losses of each example, higher the nearer it is to an error."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selbench.types import Labels, Logits

Losses = Float[Tensor, " batch"]
Loss = Callable[[Logits, Labels], Losses]


def cross_entropy(logits: Logits, labels: Labels) -> Losses:
    """Cross-entropy; its gradient vanishes where the network is certain."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Logits, labels: Labels) -> Losses:
    """Largest other logit minus the label's; above 0 exactly for an error.

    Carlini & Wagner, 2017, arXiv:1608.04644.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, labels[:, None]).squeeze(1)
