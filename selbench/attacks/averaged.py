"""Attacks on networks with random outputs, by expectation over transformation (EoT).

One pass of a random network is one draw of its outputs. A gradient of one draw can point anywhere,
and one draw can err by chance. So the search follows the mean of many draws, and other draws, which
the search has not seen, decide. Athalye, Carlini & Wagner, 2018, arXiv:1802.00420.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selbench._kit.types import Images
from selbench.attacks.folding import Searched, as_given
from selbench.attacks.gradient import NEVER, Attacked, logits_of, merged
from selbench.attacks.losses import are_probabilities
from selbench.attacks.norms import Norm, inside

CONFIRMING = 100  # draws that decide about an image
TRIES = 3  # searches at a level, for errors that were chance: other draws do not confirm them

At = Callable[[tuple[float, ...]], Callable[..., list[Attacked]]]


class _Mean(torch.autograd.Function):
    """The mean of a network's outputs over draws; its gradient is the mean over other draws.

    One draw at a time, so that memory is that of one pass.
    """

    @staticmethod
    def forward(context: Any, images: Tensor, network: nn.Module, draws: int) -> Tensor:
        context.save_for_backward(images)
        context.network, context.draws = network, draws
        return torch.stack([network(images) for _ in range(draws)]).mean(0)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (images,) = context.saved_tensors
        total = torch.zeros_like(images)
        for _ in range(context.draws):
            points = images.detach().requires_grad_()
            with torch.enable_grad():
                total += torch.autograd.grad(context.network(points), points, slopes)[0]
        return total / context.draws, None, None


class Mean(nn.Module):
    """The mean of a random network's logits over some draws, to follow its gradient."""

    def __init__(self, network: nn.Module, draws: int) -> None:
        super().__init__()
        self.network, self.draws = network, draws
        self.eval()

    def forward(self, images: Images) -> Tensor:
        logits: Tensor = _Mean.apply(images, self.network, self.draws)
        return logits


class Prediction(nn.Module):
    """The logarithm of a random network's probabilities, averaged over some draws, to decide."""

    def __init__(self, network: nn.Module, draws: int) -> None:
        super().__init__()
        self.network, self.draws = network, draws
        self.eval()

    def forward(self, images: Images) -> Tensor:
        mean = torch.stack([_shares(self.network(images)) for _ in range(self.draws)]).mean(0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def _shares(outputs: Tensor) -> Tensor:
    return torch.where(are_probabilities(outputs), outputs, outputs.softmax(1))


def averaged(
    at: At, levels: Sequence[float], norm: Norm, draws: int
) -> Callable[..., list[Attacked]]:
    """Return an attack on the mean of a random network's outputs.

    The mean prediction, over `CONFIRMING` draws made after the search, decides whether an image is
    misclassified. Each level is searched alone, for the images that have not fallen at smaller
    ones: an error that other draws do not confirm must not end the search at larger levels.

    Args:
        at: returns the attack for some epsilons, in 255ths.
        levels: rising epsilons, in 255ths.
        norm: norm of the balls.
        draws: draws for each gradient, and for each query of the search.
    """

    @torch.no_grad()
    def run(*arguments: Any) -> list[Attacked]:
        *networks, images, labels, examples = arguments
        judge = Prediction(as_given(networks[0]), CONFIRMING)
        searched = [
            Searched(Mean(each, draws), Prediction(as_given(each), draws), drawn=True)
            for each in networks
        ]
        logits = logits_of(judge, images)
        wrong = logits.argmax(1) != labels
        best = Attacked(images.clone(), logits, wrong, torch.where(wrong, 0, NEVER))
        results = []
        for level in levels:
            (left,) = (~best.fallen).nonzero(as_tuple=True)
            for _ in range(TRIES):
                if not len(left):
                    break
                clean = images[left]
                (found,) = at((level,))(*searched, clean, labels[left], examples[left])
                seen = logits_of(judge, found.images)
                sure = found.fallen & (seen.argmax(1) != labels[left])
                sure &= inside(clean, found.images, norm, level / 255)
                hits = Attacked(found.images, seen, sure, found.steps.clamp(min=1))
                best, left = merged(best, hits, left, sure), left[found.fallen & ~sure]
            results.append(best)
        return results

    return run
