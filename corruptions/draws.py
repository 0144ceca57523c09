"""Random numbers that belong to an example and do not depend on its batch.

A stateful generator gives an example different numbers when batch size, order or worker changes.
Here the n-th number of an example is a hash of only (key, example, n). The hash is SplitMix64:
Steele, Lea & Flood, 2014, doi:10.1145/2660193.2660195.
"""

import hashlib
import math
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int16, Int32, Int64
from torch import Tensor

from corruptions.types import Bytes

_STEP = 0x9E3779B97F4A7C15 - 2**64  # odd, so that multiples of it visit all 64-bit states
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))

_CELL_BITS = 12
_CELLS = 2**_CELL_BITS


@runtime_checkable
class Draws(Protocol):
    """A source of random numbers; each call returns `batch` rows.

    A corruption makes its calls in a fixed order; in shapes, channels precede height and width.
    """

    def uniform(self, low: float, high: float, *shape: int) -> Float[Tensor, "batch ..."]:
        """Draw from [low, high)."""
        ...

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Draw from the standard normal distribution."""
        ...

    def integers(
        self, low: int, high: int | Int64[Tensor, " batch"], *shape: int
    ) -> Int64[Tensor, "batch ..."]:
        """Draw from low, ..., high - 1; a tensor `high` has one value for each example."""
        ...

    def poisson(self, levels: Bytes, peak: float) -> Float[Tensor, "batch 3 height width"]:
        """Draw counts with mean `peak * levels / 255`."""
        ...


class KeyedDraws:
    """Draws that depend only on a key and each example's number."""

    def __init__(self, key: str, examples: Int64[Tensor, " batch"]) -> None:
        """Start one stream for each example; equal keys and numbers give equal streams."""
        self._key, self._examples, self._drawn = key, examples, 0

    @cached_property
    def _streams(self) -> Int64[Tensor, " batch"]:
        digest = hashlib.blake2b(self._key.encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "little", signed=True)
        return _scrambled(self._examples * _STEP + start)

    def uniform(self, low: float, high: float, *shape: int) -> Float[Tensor, "batch ..."]:
        """Draw from [low, high), in steps of 2^-24 of the interval."""
        words = self._words(math.prod(shape)) >> 8
        unit = words.to(torch.float32).mul_(2.0**-24).add_(0.5)
        return unit.mul_(high - low).add_(low).view(len(words), *shape)

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Draw standard normal numbers, two from each pair of words (Box & Muller, 1958)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        words = self._words(2 * half)
        radius = words[:, :half].to(torch.float32).abs_().add_(0.5).mul_(2.0**-31)
        radius.log_().mul_(-2).sqrt_()
        angle = words[:, half:].to(torch.float32).mul_(math.pi * 2.0**-31)
        pairs = torch.cat((angle.cos().mul_(radius), angle.sin_().mul_(radius)), dim=1)
        return pairs[:, :count].reshape(len(words), *shape)

    def integers(
        self, low: int, high: int | Int64[Tensor, " batch"], *shape: int
    ) -> Int64[Tensor, "batch ..."]:
        """Draw from low, ..., high - 1, with equal probabilities up to 2^-32."""
        words = self._words(math.prod(shape)).to(torch.int64).bitwise_and_(0xFFFFFFFF)
        span = high - low
        rows = span.unsqueeze(1) if isinstance(span, Tensor) else span
        return ((words * rows) >> 32).add_(low).view(-1, *shape)

    def poisson(self, levels: Bytes, peak: float) -> Float[Tensor, "batch 3 height width"]:
        """Draw counts by inverting the distribution function for each pixel's grey level."""
        table = _poisson_table(peak, levels.device)
        words, level = self._words(levels[0].numel()).flatten(), levels.int().flatten()
        cells = (words >> 32 - _CELL_BITS).add_(_CELLS // 2).add_(level, alpha=_CELLS)
        counts = table.settled.index_select(0, cells)
        (unsettled,) = (counts < 0).nonzero(as_tuple=True)
        level = level[unsettled]
        unit = words[unsettled].to(torch.float64).mul_(2.0**-32).add_(0.5)
        found = torch.searchsorted(table.bounds, unit.add_(level)).sub_(table.offsets[level])
        return counts.index_copy_(0, unsettled, found.to(counts.dtype)).view(levels.shape).float()

    def _words(self, count: int) -> Int32[Tensor, "batch count"]:
        """Return the next `count` 32-bit words of every stream."""
        hashes = (count + 1) // 2
        steps = torch.arange(
            self._drawn, self._drawn + hashes, dtype=torch.int64, device=self._streams.device
        )
        self._drawn += hashes
        words = _scrambled(self._streams.unsqueeze(1) + steps.mul_(_STEP))
        return words.view(torch.int32)[:, :count]


def _scrambled(state: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Map 64-bit states one to one to random-looking 64-bit words, in place."""
    for shift, factor in _ROUNDS:
        state.bitwise_xor_(_shifted(state, shift)).mul_(factor)
    return state.bitwise_xor_(_shifted(state, 31))


def _shifted(state: Int64[Tensor, "..."], shift: int) -> Int64[Tensor, "..."]:
    # torch's shift copies the sign; the mask makes it the unsigned shift of the hash
    return (state >> shift).bitwise_and_(2 ** (64 - shift) - 1)


class PoissonTable(NamedTuple):
    """Distribution functions of all grey levels; those of level v lie between v and v + 1.

    One search for `level + uniform` in sorted numbers then serves pixels of all levels. It is
    skipped if the first bits of the uniform number determine the count.
    """

    bounds: Float64[Tensor, " bounds"]
    offsets: Int64[Tensor, "256"]  # to subtract from the position found
    settled: Int16[
        Tensor, " cells"
    ]  # count by level and first bits, -1 if these do not determine it


@lru_cache(maxsize=32)
def _poisson_table(peak: float, device: torch.device) -> PoissonTable:
    parts, offsets, length = [], [], 0
    for level in range(256):
        least, bounds = _poisson_bounds(peak * level / 255)
        parts.append(level + bounds)
        offsets.append(length - least)
        length += len(bounds)
    bounds, starts = torch.cat(parts), torch.tensor(offsets)
    edges = torch.arange(256 * _CELLS + 1, dtype=torch.float64) / _CELLS
    places = torch.searchsorted(bounds, edges)
    counts = places[:-1] - starts.repeat_interleave(_CELLS)
    settled = torch.where(places[:-1] == places[1:], counts, -1).to(torch.int16)
    return PoissonTable(bounds.to(device), starts.to(device), settled.to(device))


def _poisson_bounds(mean: float) -> tuple[int, Float64[Tensor, " counts"]]:
    """Return P(X <= k), from the least k to the last that 32 bits can distinguish from 0 and 1."""
    counts = torch.arange(int(mean + 12 * math.sqrt(mean) + 24), dtype=torch.float64)
    rate = torch.tensor(mean, dtype=torch.float64)
    below = (torch.xlogy(counts, rate) - rate - torch.lgamma(counts + 1)).exp().cumsum(0)
    kept = (below > 2.0**-34) & (below < 1 - 2.0**-34)
    return int((below <= 2.0**-34).sum()), below[kept]
