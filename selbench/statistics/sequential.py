"""Intervals that hold at every number of images at once, so that one may stop when one likes.

A fixed-sample interval holds at one number of images, chosen before. Who looks after every chunk
and stops at the first that decides errs far more often than 5 %. Here a gambler bets against each
possible mean of all images: were it the mean, his capital would hardly ever come to 1 / alpha,
however long he plays (Ville), so means against which it does are ruled out. The images are a
finite set in random order: what was seen says what is left, and after the last one the mean is
known.

Waudby-Smith & Ramdas, 2024, arXiv:2010.09686, without replacement.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

Draws = Float64[np.ndarray, " drawn"]  # in [0, 1], in random order
Runs = Float64[np.ndarray, "*runs drawn"]  # the same, of one run or of several
Capital = Float64[np.ndarray, "*runs drawn"]  # its logarithm after every draw
# Fractions of the largest bet, which each have a part of the capital. The best one is about the
# difference that is sought over the share of images on which two networks differ; between two of
# these it is missed by a factor of 1.4 at most.
STAKES = 2.0 ** -np.arange(5)
HALVINGS = 24  # of the way to a bound: to 6e-8
TINY = 1e-9  # what rounding may do to sums


@dataclass(frozen=True)
class Bounds:
    """An interval for the mean of all draws, from the first of them."""

    low: float
    high: float


def bounds(draws: Draws, size: int, alpha: float) -> Bounds:
    """Return an interval for the mean of `size` values of which `draws` are the first.

    The chance that any of those after 1, 2, ..., `size` draws misses the mean is at most alpha.

    Args:
        draws: in [0, 1], without replacement, in random order.
        size: how many values there are in all.
        alpha: above 0 and below 1.

    Raises:
        ValueError: for other values, or more than `size`.
    """
    _check(draws, size, alpha)
    return Bounds(_lowest(draws, size, alpha / 2), 1 - _lowest(1 - draws, size, alpha / 2))


def within(draws: Draws, size: int, alpha: float, low: float, high: float) -> bool:
    """Say whether `bounds` lie between `low` and `high`; ends that are no bound in time."""
    need = math.log(2 / alpha)
    above = low < 0 or _reached(draws, low, size) >= need
    return bool(above and (high > 1 or _reached(1 - draws, 1 - high, size) >= need))


def fewest(size: int, alpha: float, margin: float) -> int:
    """Return after how many of `size` draws two alike are shown to differ by less than `margin`.

    Two that never differ take that long; others take longer.
    """
    halves = np.full(size, 0.5)
    reached = capital(halves, 0.5 - margin / 2, size) >= math.log(2 / alpha)
    return int(reached.argmax()) + 1 if reached.any() else size


def displaced(labels: Shaped[np.ndarray, " all"], chunk: int) -> float:
    """Return which share of the first images are not of the classes that a random draw would have.

    At the end of the chunk for which it is largest, when images come in `stratified_order`. That
    comes to 0 where all classes have one size. In unequal ones the larger come a little earlier.
    """
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    own = np.repeat(np.arange(len(sizes)), sizes)
    place = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    shares = [0.0]
    for number in range(chunk, len(labels), chunk):
        last = np.partition(place, number - 1)[number - 1]
        counts = np.bincount(own[place < last - TINY], minlength=len(sizes)).astype(float)
        ties = np.bincount(own[abs(place - last) <= TINY], minlength=len(sizes))
        counts += ties * (number - counts.sum()) / ties.sum()
        shares.append(abs(counts - number * sizes / len(labels)).sum() / 2 / number)
    return max(shares)


def capital(draws: Runs, mean: float, size: int) -> Capital:
    """Return the logarithm of the capital of bets that the mean of all values is above `mean`.

    After each draw; infinite once the mean cannot be as small as that.
    """
    seen = np.cumsum(draws, axis=-1)
    left = size - np.arange(draws.shape[-1])
    rest = np.minimum((size * mean - (seen - draws)) / left, 1.0)  # the mean of what is left
    none = rest < TINY  # then every draw must be 0, on which nothing can be won
    gain = np.where(none, 1.0, draws / np.where(none, 1.0, rest))
    with np.errstate(divide="ignore"):  # all of it may be lost
        each = np.log1p(STAKES[:, None] * (gain[..., None, :] - 1)).cumsum(-1)
    best = each.max(-2, keepdims=True)
    mixed = np.log(np.exp(each - best).mean(-2)) + best[..., 0, :]
    found: Capital = np.where(seen > size * (mean + TINY), np.inf, mixed)
    return found


def _reached(draws: Draws, mean: float, size: int) -> float:
    return float(capital(draws, mean, size).max(initial=-math.inf))


def _lowest(draws: Draws, size: int, alpha: float) -> float:
    """Return the largest mean that is ruled out as too small, 0 where none is."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _reached(draws, middle, size) >= -math.log(alpha):
            low = middle
        else:
            high = middle
    return low


def _check(draws: Shaped[np.ndarray, " drawn"], size: int, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, got {alpha}")
    if not 1 <= len(draws) <= size:
        raise ValueError(f"of {size} values between 1 and all are drawn, got {len(draws)}")
    if not (draws.min() >= 0 and draws.max() <= 1):
        raise ValueError("draws lie in [0, 1]")
