"""Training for certificates: the loss of the worst logits within interval bounds.

Gowal et al., 2018, arXiv:1810.12715 (IBP). Batch norms use the statistics of the clean batch, as in
Shi et al., 2021, arXiv:2103.17268.
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

# Shares of all epochs: the end of training on clean images only, and of the growth of the ball.
CLEAN, GROWN = 0.15, 0.7
WEIGHT = 0.5  # final weight of the worst logits' loss; the clean loss has the rest


class Certifying:
    """The loss for certificates of a network.

    Raises:
        UnboundedError: for a network that cannot be bounded.
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
        """Record the batch statistics of batch norms within the block."""
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
        """Return the weighted excess of the worst logits' loss over the clean loss.

        Args:
            clean: the cross-entropy of the batch that passed within `watched`.
            images: the images of this batch.
            labels: the labels of the images.
            epoch: the number of epochs so far, with fractions; sets weight and ball.
        """
        share = min(max((epoch / self._epochs - CLEAN) / (GROWN - CLEAN), 0.0), 1.0)
        if not share:
            return torch.zeros_like(clean)
        # Slowly at first: intervals grow faster than the ball.
        worst = F.cross_entropy(self._worst(images, labels, share**2 * self._epsilon), labels)
        return WEIGHT * share * (_slow(worst, math.log(self._classes)) - clean)

    def _worst(self, images: Images, labels: Labels, epsilon: float) -> Tensor:
        """Return an upper bound on how far each logit exceeds the label's; 0 for the label."""
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
            # Bound the difference of two logits, which is tighter than two separate bounds.
            weights = last.linear(torch.eye(traced.shapes[where][0], device=images.device))
            apart = weights - weights.T[labels, :, None]
            return above + torch.einsum("bf,bfc->bc", boxes[where].radius, apart.abs())
        reach = logits.radius + logits.radius.gather(1, labels[:, None])
        return above + reach.scatter(1, labels[:, None], 0)


def _slow(loss: Float[Tensor, ""], from_where: float) -> Float[Tensor, ""]:
    """Let a loss grow only logarithmically above the value `from_where` of chance.

    An addition of selbench: the wide intervals of an untrained network would dominate the clean
    loss.
    """
    beyond = loss.clamp(min=from_where)
    return loss.clamp(max=from_where) + from_where * (beyond / from_where).log()
