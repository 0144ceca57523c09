"""Confidence sequences: intervals that hold at every number of images, so one may stop anytime.

A usual interval holds at one number of images, chosen in advance. Who checks it after every chunk
and stops at the first decision has an error rate far above 5 %. Here a gambler bets against each
possible mean of all images. If it is the true mean, his capital reaches 1 / alpha with a
probability of at most alpha, however long he plays (Ville's inequality); so a mean is ruled out
once the capital against it reaches 1 / alpha. The images are a finite set in random order: seen
images narrow the mean of the rest, and after the last one the mean is known.

Waudby-Smith & Ramdas, 2024, arXiv:2010.09686, without replacement.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

Draws = Float64[np.ndarray, " drawn"]  # in [0, 1], in random order
Runs = Float64[np.ndarray, "*runs drawn"]  # the same, for one or several runs
Capital = Float64[np.ndarray, "*runs drawn"]  # its logarithm after every draw
# Fractions of the largest bet, which share the capital. The best fraction is about the true
# # difference divided by the share of images on which two networks differ; these powers of 2 miss
# it
# # by a factor of at most 1.4.
STAKES = 2.0 ** -np.arange(5)
HALVINGS = 24  # bisections for a bound: to 6e-8
TINY = 1e-9  # tolerance for rounding of sums


@dataclass(frozen=True)
class Bounds:
    """An interval for the mean of all values, from the first draws."""

    low: float
    high: float


def bounds(draws: Draws, size: int, alpha: float) -> Bounds:
    """Return an interval for the mean of `size` values, of which `draws` are the first.

    The probability that any interval after 1, 2, ..., `size` draws misses the mean is at most
    alpha.

    Args:
        draws: in [0, 1], without replacement, in random order.
        size: the number of all values.
        alpha: above 0 and below 1.

    Raises:
        ValueError: for other values, or more than `size`.
    """
    _check(draws, size, alpha)
    return Bounds(_lowest(draws, size, alpha / 2), 1 - _lowest(1 - draws, size, alpha / 2))


def within(draws: Draws, size: int, alpha: float, low: float, high: float) -> bool:
    """Return whether `bounds` are within `low` and `high`, at once if not."""
    need = math.log(2 / alpha)
    above = low < 0 or _reached(draws, low, size) >= need
    return bool(above and (high > 1 or _reached(1 - draws, 1 - high, size) >= need))


def fewest(size: int, alpha: float, margin: float) -> int:
    """Return the fewest of `size` draws that can show a difference below `margin`.

    Two networks that never differ need so many draws; others need more.
    """
    halves = np.full(size, 0.5)
    reached = capital(halves, 0.5 - margin / 2, size) >= math.log(2 / alpha)
    return int(reached.argmax()) + 1 if reached.any() else size


def displaced(labels: Shaped[np.ndarray, " all"], chunk: int) -> float:
    """Return how far the class shares of the first images differ from those of a random draw.

    It is the largest total variation distance at the end of any chunk, for images in
    `stratified_order`. It is near 0 for classes of equal size; among unequal ones, larger classes
    come slightly earlier.
    """
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    classes = np.repeat(np.arange(len(sizes)), sizes)
    place = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    shares = [0.0]
    for number in range(chunk, len(labels), chunk):
        last = np.partition(place, number - 1)[number - 1]
        counts = np.bincount(classes[place < last - TINY], minlength=len(sizes)).astype(float)
        ties = np.bincount(classes[abs(place - last) <= TINY], minlength=len(sizes))
        counts += ties * (number - counts.sum()) / ties.sum()
        shares.append(abs(counts - number * sizes / len(labels)).sum() / 2 / number)
    return max(shares)


def capital(draws: Runs, mean: float, size: int) -> Capital:
    """Return the logarithm of the capital of bets that the mean of all values is above `mean`.

    One value after each draw; infinite once the true mean must be above `mean`.
    """
    seen = np.cumsum(draws, axis=-1)
    left = size - np.arange(draws.shape[-1])
    rest = np.minimum((size * mean - (seen - draws)) / left, 1.0)  # mean of the remaining values
    none = rest < TINY  # every remaining draw is 0, so nothing can be won
    gain = np.where(none, 1.0, draws / np.where(none, 1.0, rest))
    with np.errstate(divide="ignore"):  # the capital may fall to 0
        each = np.log1p(STAKES[:, None] * (gain[..., None, :] - 1)).cumsum(-1)
    best = each.max(-2, keepdims=True)
    mixed = np.log(np.exp(each - best).mean(-2)) + best[..., 0, :]
    found: Capital = np.where(seen > size * (mean + TINY), np.inf, mixed)
    return found


def _reached(draws: Draws, mean: float, size: int) -> float:
    return float(capital(draws, mean, size).max(initial=-math.inf))


def _lowest(draws: Draws, size: int, alpha: float) -> float:
    """Return the largest mean that is ruled out as too small; 0 for none."""
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
