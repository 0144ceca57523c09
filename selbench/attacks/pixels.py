"""Adversarials that an image file can hold: multiples of 1/255, for any attack.

Many adversarials are lost when saved as 8-bit images. Here the attacked network sees every image
rounded, and an attack's result counts only after rounding.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selbench._kit.types import Images, Labels
from selbench.attacks.folding import Searched, as_given
from selbench.attacks.gradient import NEVER, Attacked, logits_of
from selbench.attacks.norms import Norm, inside

WHITE = 255  # the largest pixel value in a file
HALVINGS = 24  # bisections for the largest perturbation that fits
HAIR = 1e-4  # 255ths that rounding in float32 may take off a whole epsilon


class _Round(torch.autograd.Function):
    """Round to multiples of 1/255; gradients pass unchanged, since those of rounding are zero.

    Bengio, Leonard & Courville, 2013, arXiv:1308.3432 (straight-through estimator).
    """

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return rounded(images)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Rounding(nn.Module):
    """A network that sees images rounded as in a file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: Images) -> Tensor:
        logits: Tensor = self.network(_Round.apply(images))
        return logits


def rounded(images: Images) -> Images:
    """Return images as read back from a file, equal to the bit to those of `to_images`."""
    return images.mul(WHITE).round_().clamp_(0, WHITE).div_(WHITE)


def rounding(network: nn.Module) -> nn.Module:
    """Return the network with rounded inputs, for searching and for deciding."""
    decides = as_given(network)
    if decides is network:
        return Rounding(network)
    return Searched(Rounding(network), Rounding(decides))


def searchable(levels: Sequence[float], norm: str) -> tuple[float, ...]:
    """Return the epsilons, in 255ths, at which attacks can find anything, without repeats.

    In L-inf they are rounded down to whole numbers. Below 1/255 both norms allow only the clean
    image.
    """
    budgets = map(math.floor, levels) if norm == "linf" else iter(levels)
    return tuple(dict.fromkeys(float(each) for each in budgets if each >= 1))


def in_files(
    attack: Callable[..., list[Attacked]],
    searched: Sequence[float],
    levels: Sequence[float],
    norm: Norm,
) -> Callable[..., list[Attacked]]:
    """Return an attack that counts only images which a file can hold.

    Args:
        attack: takes networks, images, labels and examples; returns a result for each of
            `searched`.
        searched: the result of `searchable(levels, norm.name)`.
        levels: epsilons of the results, in 255ths.
        norm: norm of the ball.
    """

    @torch.no_grad()
    def run(*arguments: Any) -> list[Attacked]:
        *networks, images, labels, examples = arguments
        found = attack(*map(rounding, networks), images, labels, examples) if searched else []
        judge = as_given(networks[0])
        logits = logits_of(judge, images)
        wrong = logits.argmax(1) != labels
        last = clean = Attacked(images, logits, wrong, torch.where(wrong, 0, NEVER))
        kept, before = {}, None
        for budget, each in zip(searched, found, strict=True):
            last = _counted(judge, images, labels, each, before, last, norm, budget / WHITE)
            kept[budget], before = last, each
        return [
            kept[searched_budget[0]]
            if (searched_budget := searchable([level], norm.name))
            else clean
            for level in levels
        ]

    return run


def _counted(
    judge: nn.Module,
    images: Images,
    labels: Labels,
    found: Attacked,
    before: Attacked | None,
    last: Attacked,
    norm: Norm,
    epsilon: float,
) -> Attacked:
    """Return what remains of `found` after rounding; `last` stays for unchanged images."""
    stays = last.fallen & (last.steps == 0)
    if before is not None:
        stays = stays | last.fallen & (found.images == before.images).flatten(1).all(1)
    kept, logits, fallen = last.images.clone(), last.logits.clone(), stays.clone()
    kept[~stays] = images[~stays]
    for made in candidates(images, found.images, norm, epsilon):
        (left,) = (~fallen).nonzero(as_tuple=True)
        seen = logits_of(judge, made[left])
        hits = (seen.argmax(1) != labels[left]) & inside(images[left], made[left], norm, epsilon)
        hit = left[hits]
        kept[hit], logits[hit], fallen[hit] = made[hit], seen[hits], True
    logits[~fallen] = logits_of(judge, images[~fallen])
    steps = torch.where(stays, last.steps, torch.where(fallen, found.steps.clamp(min=1), NEVER))
    return Attacked(kept, logits, fallen, steps)


def candidates(images: Images, found: Images, norm: Norm, epsilon: float) -> list[Images]:
    """Return rounded images inside the ball: the nearest one and, in L2, the farthest.

    The nearest is `found` after rounding, or the clean image if that lies outside the ball. The
    farthest is the largest multiple of the perturbation that lies inside after rounding: for a
    linear network and its gradient, the strongest adversarial that a file can hold.
    """
    clean, nearest = images * WHITE, rounded(found)  # rounded as in the search, including ties

    def made(ways: Tensor) -> Images:
        return rounded((clean + ways) / WHITE)

    if norm.name == "linf":
        reach = math.floor(epsilon * WHITE + HAIR)
        return [made((nearest * WHITE - clean).clamp(-reach, reach))]
    moved = found.clamp(0, 1) * WHITE - clean
    within = inside(images, nearest, norm, epsilon).view(-1, 1, 1, 1)
    largest = moved.flatten(1).abs().amax(1).clamp(min=torch.finfo(moved.dtype).tiny)
    low = torch.zeros_like(largest).view(-1, 1, 1, 1)
    high = ((epsilon * WHITE + 1) / largest).view(-1, 1, 1, 1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = inside(images, made(middle * moved), norm, epsilon).view(-1, 1, 1, 1)
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return [torch.where(within, nearest, images), made(low * moved)]
