"""The losses of JPEG for whole batches: all of the codec except its lossless last stage.

On a CPU Pillow's codec is faster; it is used if it gives the same bytes as the arithmetic here.

Colours become luma and chroma, chroma is halved, 8x8 blocks are cosine-transformed, and their
coefficients are divided by a table and rounded. This module does that and the inverse, in the
integer arithmetic of libjpeg's default methods, so that the result equals the codec's to the last
bit (ITU-T T.81, 1992, annexes A and K; Loeffler, Ligtenberg & Moschytz, 1989, for the transform).
All numbers are integers for which the dtype is exact: below 2^53 for float64, 2^24 for float32.
"""

import io
from collections.abc import Callable
from functools import cache, lru_cache, partial

import torch
from jaxtyping import Float32, Float64
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from corruptions.types import Images, as_bytes, as_images, by_pillow

Plane = Float32[Tensor, "batch height width"]
Small = Float32[Tensor, "batch half_height half_width"]
Other = Float32[Tensor, "batch new_height new_width"]
Blocks = Float64[Tensor, "8 8 blocks"]  # rows and columns of each block
Cosines = Float64[Tensor, "8 8"]
Table = Float64[Tensor, "8 8 1"]

# 2^13 * sqrt(2) * cos(k pi / 16) except for the last digit: sums of the fast transform's constants
_COSINES = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
    (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
    (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
    (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
)
# quantisation of luma and of chroma at quality 50: ITU-T T.81, tables K.1 and K.2
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


def recompressed(images: Images, quality: int) -> Images:
    """Compress with chroma halved in both directions, and decompress.

    quality: quality of libjpeg, 1 to 100.
    """
    # fixed-point colour conversion with 16 bits, all numbers below 2^24
    red, green, blue = images.unbind(1)
    luma = _shifted(19595 * red + 38470 * green + 7471 * blue, 16)
    blueness = _shifted(-11059 * red - 21709 * green + 32768 * blue - 1, 16) + 128
    redness = _shifted(32768 * red - 27439 * green - 5329 * blue - 1, 16) + 128
    luma = _quantised(luma, _table(_LUMA, quality, images.device))
    table = _table(_CHROMA, quality, images.device)
    chroma = _quantised(_halved(torch.cat((blueness, redness))), table)
    blueness, redness = (_doubled(chroma, *images.shape[2:]) - 128).chunk(2)
    red = luma + _shifted(91881 * redness, 16)
    green = luma + _shifted(-22554 * blueness - 46802 * redness, 16)
    blue = luma + _shifted(116130 * blueness, 16)
    return torch.stack((red, green, blue), dim=1).clamp_(0, 255)


def by_codec(quality: int) -> Callable[[Image.Image], Image.Image] | None:
    """Return Pillow's way of doing the same; None where its libjpeg computes otherwise."""
    return partial(_through_codec, quality=quality) if _codec_is_equal() else None


def _through_codec(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file, formats=("JPEG",))


@cache
def _codec_is_equal() -> bool:
    places = torch.arange(3 * 40 * 40)  # whole blocks and parts of blocks
    colours = (places**2 % 251 + places % 5).to(torch.uint8).view(1, 3, 40, 40)
    return all(
        torch.equal(
            by_pillow(colours, partial(_through_codec, quality=quality)),
            as_bytes(recompressed(as_images(colours), quality)),
        )
        for quality in (10, 80)
    )


def _shifted(values: Float32[Tensor, "..."], bits: int) -> Float32[Tensor, "..."]:
    """Divide by 2^bits and round halves up, as an integer shift does, in place."""
    return values.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _halved(plane: Plane) -> Small:
    """Average 2x2 pixels; along a row, halves are rounded down and up in turn."""
    _, height, width = plane.shape
    even = _extended(plane, height + height % 2, -(-width // 16) * 16)
    rows = even[:, ::2] + even[:, 1::2]
    sums = rows[:, :, ::2] + rows[:, :, 1::2]
    sums[:, :, ::2] += 1
    sums[:, :, 1::2] += 2
    return sums.mul_(0.25).floor_()


def _doubled(small: Small, height: int, width: int) -> Plane:
    """Interpolate to twice the size; the nearer pixel has weight 3/4 in each direction."""
    small = small[:, : -(-height // 2), : -(-width // 2)]
    padded = _framed(small)
    rows = 3 * padded[:, 1:-1]
    tall = torch.stack((rows + padded[:, :-2], rows + padded[:, 2:]), dim=2).flatten(1, 2)
    columns = 3 * tall[:, :, 1:-1]
    pairs = (columns + tall[:, :, :-2] + 8, columns + tall[:, :, 2:] + 7)
    wide = torch.stack(pairs, dim=3).flatten(2, 3).mul_(1 / 16).floor_()
    return wide[:, :height, :width]


def _quantised(plane: Plane, table: Table) -> Plane:
    """Round the coefficients of each 8x8 block to multiples of the table, and transform back."""
    batch, height, width = plane.shape
    tall, wide = -(-height // 8), -(-width // 8)
    blocks = _extended(plane, 8 * tall, 8 * wide).view(batch, tall, 8, wide, 8)
    # blocks last, so that long runs of values are multiplied by one cosine
    values = (blocks.permute(2, 4, 0, 1, 3) - 128).flatten(2).double()
    cosines = torch.tensor(_COSINES, dtype=torch.float64, device=plane.device)
    coefficients = _along_columns(_along_rows(values, cosines, 11), cosines, 15)
    # the transform is too large by a factor of 8; halves round away from zero
    sizes = coefficients.abs().div_(8 * table).add_(0.5).floor_()
    restored = sizes.mul_(table).copysign_(coefficients)
    inverse = cosines.T
    values = _along_rows(_along_columns(restored, inverse, 11), inverse, 18)
    values = values.float().add_(128).clamp_(0, 255).view(8, 8, batch, tall, wide)
    return values.permute(2, 3, 0, 4, 1).reshape(batch, 8 * tall, 8 * wide)[:, :height, :width]


def _along_rows(blocks: Blocks, matrix: Cosines, bits: int) -> Blocks:
    """Multiply each row by a matrix, divide by 2^bits and round halves up."""
    half = blocks.new_full((1, 1, 1), 0.5)
    scaled = (matrix * 2.0**-bits).expand(8, 8, 8)
    return torch.baddbmm(half, scaled, blocks).floor_()


def _along_columns(blocks: Blocks, matrix: Cosines, bits: int) -> Blocks:
    half = blocks.new_full((1, 1), 0.5)
    return torch.addmm(half, matrix * 2.0**-bits, blocks.flatten(1)).floor_().view_as(blocks)


def _extended(plane: Plane, height: int, width: int) -> Other:
    """Repeat the last row and column until the plane has this size."""
    missing = (0, width - plane.shape[2], 0, height - plane.shape[1])
    return pad(plane, missing, mode="replicate") if any(missing) else plane


def _framed(plane: Plane) -> Other:
    """Repeat the outermost pixels once on every side."""
    return pad(plane, (1, 1, 1, 1), mode="replicate")


@lru_cache(maxsize=64)
def _table(base: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> Table:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [[min(max((step * percent + 50) // 100, 1), 255) for step in row] for row in base]
    return torch.tensor(steps, dtype=torch.float64, device=device).unsqueeze(2)
