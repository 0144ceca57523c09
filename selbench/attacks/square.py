"""Square: tries random squares and keeps those that help, using only logits.

Andriushchenko et al., 2020, arXiv:1912.00049.
"""

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from types import EllipsisType

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from selbench._kit.types import Images, Labels
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import laid_out, logits_of
from selbench.attacks.hope import TRIED, checkpoint, hopeless
from selbench.attacks.losses import Losses, margin
from selbench.attacks.norms import TINY, Norm, Sizes
from selbench.attacks.waiting import remaining

SHARE = 0.8  # share of pixels in the first squares
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which it is halved
SMALLEST = 3  # smallest side of a square in L2

Pattern = Float[Tensor, "height width"]


class Dice:
    """Random numbers that are the same for all rows, and for all networks with a seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        return torch.rand(1, generator=self._generator, dtype=torch.float32).item()

    def place(self, length: int, side: int) -> slice:
        """Draw a position for a side within a length."""
        first = int((length - side) * self.uniform())
        return slice(first, first + side)

    def signs(self, like: Tensor) -> Tensor:
        """Draw -1 or 1 for each element."""
        drawn = torch.rand(*like.shape, generator=self._generator, dtype=torch.float32)
        return _like((2 * drawn - 1).sign(), like)


class _Rows(ABC):
    """The remaining rows, and what is tried on each.

    Attributes:
        images: clean images, in the points' memory layout.
        points: the best points so far; between `propose` and `settle`, the proposed ones.
        reach: epsilons, in a shape that multiplies images.
    """

    def __init__(self, images: Images, epsilons: Sizes, dice: Dice) -> None:
        self.images, self.dice, self.reach = laid_out(images), dice, epsilons.view(-1, 1, 1, 1)
        self.points = self._begun()

    @abstractmethod
    def _begun(self) -> Images:
        """Return the starting points."""

    @abstractmethod
    def propose(self, share: float) -> None:
        """Put a square with this share of the pixels into all points."""

    @abstractmethod
    def settle(self, better: Bool[Tensor, " rows"]) -> None:
        """Keep the square in the `better` rows, and undo it in the others."""

    def only(self, kept: Int64[Tensor, " kept"]) -> None:
        """Drop all rows except those at `kept`."""
        self.images, self.points = (laid_out(part[kept]) for part in (self.images, self.points))
        self.reach = self.reach[kept]

    def side(self, share: float, least: int) -> int:
        """Return the side of a square, at least `least` and at most the image's side."""
        height, width = self.images.shape[2:]
        return min(max(round(math.sqrt(share * height * width)), least), height, width)

    def window(self, side: int) -> tuple[EllipsisType, slice, slice]:
        """Draw the position of a square."""
        height, width = self.images.shape[2:]
        return ..., self.dice.place(height, side), self.dice.place(width, side)


class _Linf(_Rows):
    """Squares of one colour at the border of the ball; the start has stripes."""

    def _begun(self) -> Images:
        self._low, self._high = self._bounds()
        signs = self.dice.signs(self.images[0, :, :1])
        return (self.images + self.reach * signs).clamp_(0, 1)

    def _bounds(self) -> tuple[Images, Images]:
        return (self.images - self.reach).clamp_(0, 1), (self.images + self.reach).clamp_(0, 1)

    def propose(self, share: float) -> None:
        self._window = self.window(self.side(share, 1))
        self._before = self.points[self._window].clone()
        square = self._before + 2 * self.reach * self.dice.signs(self.images[0, :, :1, :1])
        low, high = self._low[self._window], self._high[self._window]
        self.points[self._window] = square.clamp_(low, high)

    def settle(self, better: Bool[Tensor, " rows"]) -> None:
        kept = torch.where(better.view(-1, 1, 1, 1), self.points[self._window], self._before)
        self.points[self._window] = kept

    def only(self, kept: Int64[Tensor, " kept"]) -> None:
        super().only(kept)
        self._low, self._high = self._bounds()


class _L2(_Rows):
    """Pairs of bumps, one up and one down, within the budget that other squares give up."""

    def _begun(self) -> Images:
        height, width = self.images.shape[2:]
        side = max(min(height, width) // 5, 1)
        bumps = torch.zeros_like(self.images[:1])
        for top in _tiles(height, side):
            for left in _tiles(width, side):
                bumps[..., top : top + side, left : left + side] = self._bump(side)
        return (self.images + self.reach * bumps / _length(bumps)).clamp_(0, 1)

    def _bump(self, side: int) -> Images:
        bump = _like(bumps(side), self.images)
        bump = bump.T if self.dice.uniform() > 0.5 else bump
        return bump * self.dice.signs(self.images[:1, :, :1, :1])

    def propose(self, share: float) -> None:
        side = self.side(share, SMALLEST)
        side = min(side + 1 - side % 2, *self.images.shape[2:])
        there, source = self.window(side), self.window(side)
        delta = self.points - self.images
        union = torch.zeros_like(delta[0, 0])
        union[there], union[source] = 1, 1
        squares = delta.square()
        inside = (squares * union).sum((2, 3), keepdim=True)
        spare = (self.reach**2 - squares.sum((1, 2, 3), keepdim=True)).clamp_(min=0)
        square = delta[there] / _length(delta[there], (2, 3)) + self._bump(side)
        square *= (spare / delta.shape[1] + inside).sqrt_() / _length(square, (2, 3))
        delta[source] = 0
        delta[there] = square
        self._before = self.points
        self.points = (delta * (self.reach / _length(delta))).add_(self.images).clamp_(0, 1)

    def settle(self, better: Bool[Tensor, " rows"]) -> None:
        self.points = torch.where(better.view(-1, 1, 1, 1), self.points, self._before)


def _like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with another's device and dtype, without waiting for a GPU."""
    return tensor.to(like.device, like.dtype, non_blocking=True)


def _length(perturbations: Tensor, axes: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(perturbations, dim=axes, keepdim=True)
    return length + TINY


def _tiles(length: int, side: int) -> range:
    """Return where the sides of tiles begin that are centred in a length."""
    count = length // side
    first = (length - count * side) // 2
    return range(first, first + count * side, side)


@lru_cache
def bumps(side: int) -> Pattern:
    """Return a bump of nested rectangles above an inverted one, with total length 1."""
    pattern = torch.cat((_bump(side // 2, side), -_bump(side - side // 2, side)))
    return pattern.div(pattern.norm())


def _bump(height: int, width: int) -> Pattern:
    """Return nested rectangles, of which the n-th adds 1 / n ** 2."""
    rows, columns = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    far = torch.maximum(rows[:, None], columns)
    count = max(height // 2, width // 2) + 1
    heights = torch.arange(1, count + 1, dtype=torch.float64).pow(-2).flip(0).cumsum(0).flip(0)
    bump = heights[far]
    return bump.div(bump.norm())


@torch.no_grad()
def square(
    guarded: Guarded,
    images: Images,
    labels: Labels,
    epsilons: Sizes,
    norm: Norm,
    *,
    seed: int,
    queries: int = 5000,
    ahead: Losses | None = None,
) -> Images:
    """Try the same square in all images at once, and keep it where it raises the margin.

    Rows leave as soon as they fall. Costs a forward pass per query, and one more, for the remaining
    rows.

    Args:
        guarded: the network under attack.
        images: clean images.
        labels: their true classes.
        epsilons: one for each row.
        norm: norm of the balls.
        seed: seed of the squares, which do not depend on the images.
        queries: number of squares to try.
        ahead: margins that gradient attacks have reached. A row without hope ends early if it has
            raised the margin by less than half as much: where Square keeps up, gradients may be
            masked. None if all rows go on.

    Returns:
        points that fooled the network; the clean image if there is none.
    """
    rows = (_Linf if norm.name == "linf" else _L2)(images, epsilons, Dice(seed))
    found, places = images.clone(), torch.arange(len(images), device=images.device)
    best = torch.full_like(epsilons, -torch.inf)
    for query in range(queries + 1):
        if query:
            rows.propose(SHARE / 2 ** sum(query - 1 > bound for bound in HALVED))
        logits = logits_of(guarded, rows.points)
        fallen, margins = guarded.fallen(rows.points, labels, logits), margin(logits, labels)
        better = (margins > best).index_fill_(0, fallen, True)
        best = margins.where(better, best)
        if query:
            rows.settle(better)
        if len(fallen):
            found[places[fallen]] = rows.points[fallen]
        leaving = fallen
        if ahead is not None and query == checkpoint(queries):
            clean = margin(logits_of(guarded, rows.images), labels)
            behind = hopeless(clean, best, TRIED) & (best < (clean + ahead[places]) / 2)
            (leaving,) = behind.index_fill_(0, fallen, True).nonzero(as_tuple=True)
        if len(leaving):
            left = remaining(leaving, len(places))
            rows.only(left)
            places, labels, best = (part[left] for part in (places, labels, best))
            if not len(places):
                break
    return found
