"""Trends over networks: Spearman's rho, its interval, and how surely it is not another rho."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import scipy
from jaxtyping import Float64

from selbench.stats import Interval, check_level, check_pairs, finite

Ranks = tuple[float, ...]
Rhos = Float64[np.ndarray, " _"]

FEW = 8  # points up to which all orders are tried: 8! are 40,320
DRAWS = 99_999  # of orders or networks beyond
AT_ONCE = 1_000_000  # numbers
DIGITS = 12  # that count: sums of the same numbers may differ in those beyond
ROUNDING = 1e-9  # of rho
GRID = 400  # quantiles of the noise
STEEPEST = 1e3  # slope, in standard deviations of the noise for a rank of x


@dataclass(frozen=True)
class Trend(Interval):
    """Spearman's rho; p is two-sided, of rho = 0."""

    p: float


def spearman_trend(x: Sequence[float], y: Sequence[float], *, level: float = 0.95) -> Trend:
    """Measure how monotonically y follows x, such as accuracy follows alpha: Spearman's rho.

    One point per network; seeds are points of equal x, and ties share the mean rank. The interval
    is Fisher's z with Bonett and Wright's error; rho = +-1 counts in it as half a swap of
    neighbours less. It covers 93 to 98 % where y scatters, up to 100 % where it hardly does at
    fixed x, and too little for random x beyond |rho| = 0.95. Fewer than four points, NaN, unequal
    numbers, or all x or all y equal: ValueError.

    Bonett & Wright, 2000, doi:10.1007/BF02294183.
    """
    check_level(level)
    along, up = _ranks(x, y)
    n, rho = len(along), _rho(along, up)
    bound = 1 - 6 / (n * (n * n - 1))
    kept = min(max(rho, -bound), bound)
    half = scipy.special.ndtri((1 + level) / 2) * math.sqrt((1 + kept * kept / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(kept) + sign * half) for sign in (-1, 1))
    return Trend(rho, min(low, rho), max(high, rho), level, n, None, p_of_rho(x, y, 0.0))


def p_of_rho(x: Sequence[float], y: Sequence[float], rho: float) -> float:
    """Return the two-sided p of endless seeds, at these x, having this rho.

    Of rho = 0: the share of y's orders that go with x, or against it, at least as much; of all up
    to eight points, beyond that of 99,999 random ones. Of another: twice the share of as many
    random networks, y = slope * rank of x + normal noise, whose rho is as far off; uniform noise,
    and Student's t with three degrees of freedom, give nearly the same. Approximations (Student's
    t, Fisher's z) are too sure by up to ten times where p is small and alphas have several seeds,
    which Holm's correction looks at. Random numbers are always the same. Errors as of
    `spearman_trend`.

    Phipson & Smyth, 2010, doi:10.2202/1544-6115.1585, on the share.
    """
    along, up = _ranks(x, y)
    seen, sorted_x = _rho(along, up), tuple(sorted(along))
    if rho == 0:
        null, seen = abs(_shuffled(sorted_x, tuple(sorted(up)))), abs(seen)
        beyond = int(np.count_nonzero(null >= seen - ROUNDING))
        return beyond / len(null) if len(up) <= FEW else (beyond + 1) / (len(null) + 1)
    null = _scattered(sorted_x, rho)
    if seen < rho:
        null, seen = -null, -seen
    beyond = int(np.count_nonzero(null >= seen - ROUNDING))
    return min(2 * (beyond + 1) / (len(null) + 1), 1.0)


def _ranks(x: Sequence[float], y: Sequence[float]) -> tuple[Ranks, Ranks]:
    """Check the points, and rank them; what differs by rounding alone is a tie."""
    along, up = finite("x", x, 4), finite("y", y, 4)
    check_pairs(len(along), len(up))
    first, second = (
        scipy.stats.rankdata([float(f"{v:.{DIGITS}g}") for v in each]) for each in (along, up)
    )
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError("rho is undefined where all x or all y are equal")
    return tuple(first.tolist()), tuple(second.tolist())


def _rho(x: Ranks, y: Ranks) -> float:
    return float(_rhos(x, np.asarray(y)[None])[0])


def _rhos(x: Ranks, ranks: Float64[np.ndarray, "_draws _points"]) -> Rhos:
    """Return the rho of each row of ranks with x."""
    along = np.asarray(x) - np.mean(x)
    up = ranks - ranks.mean(1, keepdims=True)
    rhos: Rhos = up @ along / np.sqrt((along @ along) * np.square(up).sum(1))
    return rhos


@lru_cache(maxsize=16)
def _shuffled(x: Ranks, y: Ranks) -> Rhos:
    """Return the rho of every order of y, or of random ones."""
    if len(y) <= FEW:
        return _rhos(x, np.array(list(permutations(y))))
    rng, step = np.random.default_rng(0), AT_ONCE // len(y)
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    tiles = (np.tile(np.asarray(y), (size, 1)) for size in sizes)
    return np.concatenate([_rhos(x, rng.permuted(tile, axis=1)) for tile in tiles])


@lru_cache(maxsize=16)
def _scattered(x: Ranks, rho: float) -> Rhos:
    """Return the rho of networks at these x whose rho, were they endless, is `rho`."""
    rng, step = np.random.default_rng(0), AT_ONCE // len(x)
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    line = _slope(x, rho) * np.asarray(x)
    noisy = (line + rng.standard_normal((size, len(x))) for size in sizes)
    return np.concatenate([_rhos(x, each.argsort(1).argsort(1) + 1.0) for each in noisy])


def _slope(x: Ranks, rho: float) -> float:
    """Return the slope at which endless networks have this rho, by halving."""
    noise = scipy.special.ndtri((np.arange(GRID) + 0.5) / GRID)
    along = np.asarray(x)
    wide = tuple(np.repeat(along, GRID).tolist())
    low, high = 0.0, STEEPEST
    for _ in range(40):
        middle = (low + high) / 2
        up = scipy.stats.rankdata((middle * along[:, None] + noise).ravel())
        low, high = (middle, high) if _rho(wide, tuple(up)) < abs(rho) else (low, middle)
    return math.copysign(low, rho)
