"""Training for certificates: the loss of the worst logits that intervals leave possible.

Gowal et al., 2018, arXiv:1810.12715 (IBP). Batch norms take the statistics of the clean batch, as
in Shi et al., 2021, arXiv:2103.17268.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selbench._kit.types import Images, Labels
from selbench.bounds.interval import Box, bound, through
from selbench.bounds.maps import Affine
from selbench.bounds.program import IMAGES, record
from selbench.study import Recipe
from selbench.training.methods import EPSILON

# Shares of all epochs: until then clean images alone, and then until the ball has its full size.
CLEAN, GROWN = 0.15, 0.7
WEIGHT = 0.5  # of the worst logits' loss in the end; the clean loss has the rest


class Certifying:
    """What is to be known of a network to train it for certificates.

    Raises:
        UnboundedError: for a network that no bounds are known of.
    """

    def __init__(self, model: nn.Module, images: Images, recipe: Recipe) -> None:
        training = model.training
        self._recorded = record(model.eval(), images)
        model.train(training)
        self._model, self._epochs = model, recipe.epochs
        self._epsilon = EPSILON if recipe.ball is None else recipe.ball / 255
        self._classes = self._recorded.operations[self._recorded.output].shape[1]
        self._statistics: dict[int, Tensor] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the statistics that batch norms find inside."""
        norms = [each for each in self._model.modules() if isinstance(each, _BatchNorm)]
        self._statistics.clear()
        hooks = [each.register_forward_pre_hook(self._watch) for each in norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _watch(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        maps = inputs[0].float().transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(maps, 1, correction=0)
        self._statistics |= {id(norm.running_mean): mean, id(norm.running_var): variance}

    def excess(
        self, clean: Float[Tensor, ""], images: Images, labels: Labels, epoch: float
    ) -> Float[Tensor, ""]:
        """Return how much more the loss of the worst logits is, weighted as far as training is.

        Args:
            clean: the cross-entropy of what passed while it was `watched`.
            images: which passed.
            labels: of the images.
            epoch: how many have passed.
        """
        share = min(max((epoch / self._epochs - CLEAN) / (GROWN - CLEAN), 0.0), 1.0)
        if not share:
            return torch.zeros_like(clean)
        # Slowly at first: intervals grow faster than the ball.
        worst = F.cross_entropy(self._worst(images, labels, share**2 * self._epsilon), labels)
        return WEIGHT * share * (_slow(worst, math.log(self._classes)) - clean)

    def _worst(self, images: Images, labels: Labels, epsilon: float) -> Tensor:
        """Return how much each logit may exceed the label's: at most, and 0 for the label."""
        low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
        boxes = {IMAGES: Box.between(low, high)}
        traced = bound(self._recorded, images.dtype, self._statistics)
        for place, each in traced.maps.items():
            boxes[place] = through(each, [boxes[where] for where in each.inputs])
        logits = boxes[traced.output]
        above = logits.centre - logits.centre.gather(1, labels[:, None])
        last = traced.maps[traced.output]
        where = last.inputs[0]
        if isinstance(last, Affine) and len(last.inputs) == len(traced.shapes[where]) == 1:
            # Logits that rise together: the radius of a difference, not the sum of two radii.
            weights = last.linear(torch.eye(traced.shapes[where][0], device=images.device))
            apart = weights - weights.T[labels, :, None]
            return above + torch.einsum("bf,bfc->bc", boxes[where].radius, apart.abs())
        reach = logits.radius + logits.radius.gather(1, labels[:, None])
        return above + reach.scatter(1, labels[:, None], 0)


def _slow(loss: Float[Tensor, ""], from_where: float) -> Float[Tensor, ""]:
    """Let a loss grow by its logarithm where it says no more than chance does. Ours.

    Intervals of a network that is not used to them are wide, and would drown the clean loss.
    """
    beyond = loss.clamp(min=from_where)
    return loss.clamp(max=from_where) + from_where * (beyond / from_where).log()
