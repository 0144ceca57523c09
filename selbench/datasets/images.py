"""Decode image files into one array, and name the file that does not fit.

One rule for every file: upright as its EXIF orientation says, the first frame, transparency blended
over white, of 16 bits the upper 8, whatever else Pillow converts to RGB; colour profiles are left.
"""

import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from selbench.content import check_regular
from selbench.errors import SelbenchError
from selbench.progress import Progress
from selbench.types import Pixels

DECODING = 2  # grows whenever a file may decode to other values
MAX_SIDE = 4096  # a larger header is a decompression bomb or no benchmark image
# What Pillow knows by name alone, or draws with other programs.
NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Where broken files lead Pillow's readers.
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
ORIENTATION = 0x112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FRAMES = "some image files have several frames; the first of each is taken"
DEEP = "some image files have 16 bits per channel; the upper 8 of each value are taken"


def suffixes() -> frozenset[str]:
    """Return the suffixes, in small letters, of the image files that Pillow reads."""
    known = Image.registered_extensions()
    return frozenset(name for name, kind in known.items() if kind in {*_formats(), "MPO"})


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in NO_PIXELS]


def decode_images(paths: Sequence[Path], progress: Progress, task: str) -> Pixels:
    """Decode files of one size to RGB, in order, in threads.

    Raises:
        SelbenchError: naming a file that does not decode, or has another size than the first.
    """
    first = decode_image(paths[0])
    pixels = np.empty((len(paths), *first.shape), np.uint8)

    def place(position: int) -> None:
        image = decode_image(paths[position])
        if image.shape != first.shape:
            raise SelbenchError(
                f"{paths[position]} is {_size(image)} pixels, {paths[0].name} before it is "
                f"{_size(first)}; all images of a data set must have one size"
            )
        pixels[position] = image

    chunk = 1000
    with ThreadPoolExecutor() as pool, progress.track(task, len(paths)) as step:
        for start in range(0, len(paths), chunk):
            part = range(start, min(start + chunk, len(paths)))
            list(pool.map(place, part))
            step(len(part))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def decode_image(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Decode a file to RGB of shape (height, width, 3); `SelbenchError` where that fails."""
    try:
        check_regular(path)
        with Image.open(path, formats=_formats()) as image:
            if max(image.size) > MAX_SIDE:
                raise _too_large(path)
            _tell_reduced(image)
            image.load()
            rgb = _to_rgb(image, path)
            turn = _find_turn(image)
            return np.asarray(rgb if turn is None else rgb.transpose(turn))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise _too_large(path) from problem
    except BROKEN as problem:
        raise SelbenchError(
            f"{path} cannot be decoded as an image ({problem}); repair or remove it"
        ) from problem


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    """Return what makes the image upright, None where it is or where damage hides it."""
    with suppress(*BROKEN):
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    return None


def _tell_reduced(image: Image.Image) -> None:
    """Warn of what is not taken; each sentence comes once."""
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):
        warnings.warn(FRAMES, UserWarning, stacklevel=2)
    if ";16" in f"{image.mode} {getattr(image, 'tile', '')}" or _is_deep(image):
        warnings.warn(DEEP, UserWarning, stacklevel=2)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if _is_deep(image):
        values = np.asarray(image)
        upper = np.rint(values / 257) if image.format == "PPM" else values >> 8  # as it does RGB
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode.startswith(("I", "F")):  # Pillow would clip their values to 255
        raise SelbenchError(
            f"{path} has more than 16 bits per channel; convert the images to 8 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _too_large(path: Path) -> SelbenchError:
    return SelbenchError(f"{path} is larger than {MAX_SIDE} pixels; shrink or remove it")


def _size(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
