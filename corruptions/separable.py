"""Filters and resampling along one axis, as matrices.

Operations that are linear along rows and columns (blurs with any border, zooms, shrinking) become
`rows @ image @ columns.T`: a single code path, exact at the borders and fast in batches.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

Border = Literal["nearest", "mirror", "reflect"]  # a|abc|c, c b|a b c|b a, b a|a b c|c b


def transformed(
    images: Float[Tensor, "batch channels height width"],
    rows: Float[Tensor, "terms new_height height"],
    columns: Float[Tensor, "terms new_width width"],
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Sum `rows[k] @ image @ columns[k].T` over the terms k."""
    terms, height, _ = rows.shape
    stacked = rows.transpose(0, 1).reshape(height * terms, -1)
    across = columns.permute(0, 2, 1).reshape(-1, columns.shape[1])
    halfway = product(stacked, images).unflatten(2, (height, terms)).flatten(3)
    return product(halfway, across)


def product(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Multiply matrices in full precision, whatever reduced precision the caller has set.

    With TF32 or bfloat16 products a blur would be wrong by up to a grey level.
    """
    backend = torch.backends.cuda if left.is_cuda else torch.backends.mkldnn
    chosen = {backend.matmul.fp32_precision, getattr(torch.backends, "fp32_precision", "none")}
    if chosen & {"tf32", "bf16"}:
        return torch.matmul(left.double(), right.double()).to(left.dtype)
    return torch.matmul(left, right)


def filter_matrix(
    size: int, taps: Float64[Tensor, " taps"], border: Border
) -> Float64[Tensor, "size size"]:
    """Return the matrix that correlates `size` values with taps (an odd number) and this border."""
    reach = len(taps) // 2
    targets = torch.arange(size).unsqueeze(1).expand(size, len(taps))
    sources = border_index(targets + torch.arange(-reach, reach + 1), size, border)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.index_put((targets, sources), taps.expand_as(sources), accumulate=True)


def border_index(places: Int64[Tensor, "..."], size: int, border: Border) -> Int64[Tensor, "..."]:
    """Map positions outside 0..size-1 to the position inside that has their value."""
    if border == "nearest" or size == 1:
        return places.clamp(0, size - 1)
    if border == "mirror":
        folded = places.remainder(2 * size - 2)
        return torch.minimum(folded, 2 * size - 2 - folded)
    folded = places.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def gaussian_taps(sigma: float, reach: int) -> Float64[Tensor, " taps"]:
    """Return a normal density at -reach, ..., reach that sums to one; sigma 0 is no blur."""
    # one number at a time: vectorised exponentials differ between processors
    slope = -0.5 / max(sigma, 1e-9) ** 2
    taps = np.array([math.exp(slope * place**2) for place in range(-reach, reach + 1)])
    return torch.from_numpy(taps / taps.sum())


def blurred(
    images: Float[Tensor, "batch channels height width"],
    sigma: float,
    border: Border = "nearest",
    truncate: float = 4,
) -> Float[Tensor, "batch channels height width"]:
    """Convolve with a normal density, cut off at `truncate` standard deviations."""
    if int(truncate * sigma + 0.5) == 0:
        return images
    rows, columns = (
        _gaussian_matrix(size, sigma, border, truncate, images.device) for size in images.shape[2:]
    )
    return transformed(images, rows.unsqueeze(0), columns.unsqueeze(0))


@lru_cache(maxsize=256)
def _gaussian_matrix(
    size: int, sigma: float, border: Border, truncate: float, device: torch.device
) -> Float32[Tensor, "size size"]:
    taps = gaussian_taps(sigma, int(truncate * sigma + 0.5))
    return filter_matrix(size, taps, border).to(device, torch.float32)


def zoom_matrix(size: int, factor: float) -> Float64[Tensor, "size size"]:
    """Return the matrix that magnifies the centre of `size` values, interpolating linearly."""
    first, second, weight = zoom_places(size, factor)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    each = torch.arange(size)
    matrix[each, first] = 1 - weight
    matrix[each, second] += weight
    return matrix


def zoom_places(
    size: int, factor: float
) -> tuple[Int64[Tensor, " size"], Int64[Tensor, " size"], Float64[Tensor, " size"]]:
    """Return each magnified value's two neighbours, and the weight of the second.

    The centre is cropped first, with its ends fixed; see `zoom_cut`.
    """
    inside, long, start = zoom_cut(size, factor)
    kept = inside.stop - inside.start
    places = torch.arange(size, dtype=torch.float64) + start
    places *= (kept - 1) / max(long - 1, 1)
    left = places.floor().clamp(0, max(kept - 2, 0))
    first = left.long() + inside.start
    return first, (first + 1).clamp(max=size - 1), places - left


def zoom_cut(size: int, factor: float) -> tuple[slice, int, int]:
    """Return the part of `size` values to magnify, its new length and where the result starts.

    If the new length exceeds `size`, half of the surplus is removed at the start, so that the
    result is not quite centred, as in the published sets.
    """
    kept = math.ceil(size / factor)
    start, long = (size - kept) // 2, round(kept * factor)
    return slice(start, start + kept), long, (long - size) // 2


def box_matrix(size: int, new_size: int) -> Float64[Tensor, "new_size size"]:
    """Return the matrix that resamples `size` values to `new_size` by averaging the covered ones.

    When enlarging, each new value repeats the old one at its centre. It is computed in Pillow's
    order: a centre on a border falls to the side that rounding chooses.
    """
    ratio = size / new_size
    width = max(ratio, 1)
    middles = ((torch.arange(new_size, dtype=torch.float64) + 0.5) * ratio).unsqueeze(1)
    places = torch.arange(size, dtype=torch.float64)
    offsets = ((places - middles) + 0.5) * (1 / width)
    within = (places >= (middles - 0.5 * width + 0.5).trunc()) & (
        places < (middles + 0.5 * width + 0.5).trunc()
    )
    covered = ((offsets > -0.5) & (offsets <= 0.5) & within).to(torch.float64)
    return covered / covered.sum(dim=1, keepdim=True)
