"""Adversarials that a file can hold: images of whole 255ths, looked for with any attack.

What attacks find is often gone once it is saved as an 8-bit image and read again. Here the network
under attack sees every image rounded, and what an attack returns counts only as a file has it.
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

WHITE = 255  # of a pixel in a file, whose values are whole
HALVINGS = 24  # of the interval in which the largest perturbation that fits is looked for
HAIR = 1e-4  # 255ths that rounding in float32 may take off an epsilon of whole ones


class _Round(torch.autograd.Function):
    """Round to whole 255ths; slopes pass as they are, since those of rounding are zero.

    Bengio, Leonard & Courville, 2013, arXiv:1308.3432 (straight-through estimator).
    """

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return rounded(images)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Rounding(nn.Module):
    """A network that sees images as a file would have them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: Images) -> Tensor:
        logits: Tensor = self.network(_Round.apply(images))
        return logits


def rounded(images: Images) -> Images:
    """Return images as they come back from a file: to the bit those of `to_images`."""
    return images.mul(WHITE).round_().clamp_(0, WHITE).div_(WHITE)


def rounding(network: nn.Module) -> nn.Module:
    """Return the network that sees rounded images, to search with and to decide."""
    decides = as_given(network)
    if decides is network:
        return Rounding(network)
    return Searched(Rounding(network), Rounding(decides))


def searchable(levels: Sequence[float], norm: str) -> tuple[float, ...]:
    """Return the budgets, in 255ths, at which attacks have anything to look for, without repeats.

    In L-inf those are whole; below 1/255 there is no image of a file but the clean one. In L2 a
    budget below 1/255 holds none either.
    """
    budgets = map(math.floor, levels) if norm == "linf" else iter(levels)
    return tuple(dict.fromkeys(float(each) for each in budgets if each >= 1))


def in_files(
    attack: Callable[..., list[Attacked]],
    searched: Sequence[float],
    levels: Sequence[float],
    norm: Norm,
) -> Callable[..., list[Attacked]]:
    """Return the attack that looks for adversarials among images of files alone.

    Args:
        attack: takes networks, images, labels and examples; makes a result for each of `searched`.
        searched: `whole(levels)`.
        levels: the budgets of the results, in 255ths.
        norm: of the ball.
    """

    @torch.no_grad()
    def run(*taken: Any) -> list[Attacked]:
        *networks, images, labels, examples = taken
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
            kept[own[0]] if (own := searchable([level], norm.name)) else clean for level in levels
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
    """Return what is left of `found` in files; what `last` has of unchanged images stays."""
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
    """Return images of whole 255ths inside the ball: the nearest one, and in L2 the farthest.

    The nearest is what a file makes of `found`; where that lies outside of the ball, it is the
    clean image. The farthest is the largest multiple of the perturbation that lies inside once it
    is rounded: for a linear network and its slopes, the strongest of all images of files.
    """
    clean, nearest = images * WHITE, rounded(found)  # as the search saw it, ties too

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
