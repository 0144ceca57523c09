"""Whether some point of a ball around an image changes a network's prediction: surely or maybe."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from selbench._kit.types import Images, Logits
from selbench.attacks.gradient import logits_of, pgd
from selbench.attacks.norms import NORMS
from selbench.bounds.certified import Method, certify
from selbench.bounds.interval import traced

STEPS = 10  # of PGD, of a quarter of epsilon, in each ball


@dataclass(frozen=True)
class Changes:
    """The L-inf balls in which a network's prediction changes.

    Attributes:
        logits: of the images themselves.
        found: an attack found a point with another prediction.
        possible: bounds do not exclude it; true wherever `found` is.
    """

    logits: Logits
    found: Bool[Tensor, "epsilons batch"]
    possible: Bool[Tensor, "epsilons batch"]


@torch.no_grad()
def changes(
    network: nn.Module, images: Images, epsilons: Sequence[float], method: Method = "linear"
) -> Changes:
    """Search every ball with PGD, except where bounds exclude success.

    Args:
        network: deterministic, in evaluation mode.
        images: in [0, 1].
        epsilons: radii on [0, 1], in rising order.
        method: the bounds, as of `certify`.

    Raises:
        UnboundedError: if the network has an operation without known bounds.
    """
    logits = logits_of(network, images)
    labels = logits.argmax(1)
    margins = certify(traced(network, images), images, labels, epsilons, method)
    possible = torch.stack([each.amin(1) <= 0 for each in margins])
    changed = torch.zeros_like(labels, dtype=torch.bool)
    found = []
    for epsilon, may in zip(epsilons, possible, strict=True):
        (left,) = (may & ~changed).nonzero(as_tuple=True)
        if len(left):
            step = epsilon / 4
            points = (images[left], labels[left])
            result = pgd(network, *points, epsilon, NORMS["linf"], step=step, steps=STEPS)
            changed = changed.index_copy(0, left, result.fallen)
        found.append(changed)
    return Changes(logits, torch.stack(found), possible)
