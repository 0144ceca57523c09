"""Decode image files into one array; errors name the file.

The same rules for every file: EXIF orientation is applied, the first frame is used, transparency is
blended over white, 16 bits become the upper 8, and Pillow converts the rest to RGB. Colour profiles
are ignored.
"""

import os
import struct
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from selbench._kit.content import check_regular
from selbench._kit.errors import ManySizesError, SelbenchError, in_short
from selbench._kit.progress import Progress
from selbench._kit.types import Pixels
from selbench.datasets.frame import LARGEST, Frame

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
DECODING = 2  # raised whenever a file may decode to other values
WORKERS = min(32, (os.cpu_count() or 1) + 4)
MAX_SIDE = 4096  # larger images are decompression bombs, or no benchmark images
# Formats that Pillow cannot read, or reads with other programs.
NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Exceptions of Pillow's readers for broken files.
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
FRAMES = "some image files have several frames; the first of each is used"
DEEP = "some image files have 16 bits per channel; the upper 8 of each value are used"


def suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the image files that Pillow reads."""
    known, read = Image.registered_extensions(), {*_formats(), "MPO"}
    return frozenset(name for name, kind in known.items() if kind in read)


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in NO_PIXELS]


def decode_images(
    paths: Sequence[Path], progress: Progress, task: str, frame: Frame | None = None
) -> Pixels:
    """Decode files of one size to RGB, in order; arguments and errors as `each_decoded`."""
    images = each_decoded(paths, progress, task, frame)
    first = next(images)
    pixels = np.empty((len(paths), *first.shape), np.uint8)
    for place, image in enumerate((first, *images)):
        pixels[place] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def each_decoded(
    paths: Sequence[Path],
    progress: Progress,
    task: str,
    frame: Frame | None = None,
    first: Path | None = None,
    advise: Callable[..., str] = lambda *sizes: "",
) -> Iterator[Picture]:
    """Decode files to RGB of one size, (height, width, 3), in order, in threads.

    Few images are in memory at once. Pillow releases the GIL while it decodes and scales.

    Args:
        paths: the files, at least one.
        progress: counts every image, as `task`.
        task: the name of the task.
        frame: scales and crops the images.
        first: a file whose size all must have; None for the first of `paths`.
        advise: returns the advice for two different sizes.

    Raises:
        SelbenchError: for a file that cannot be decoded.
        ManySizesError: for a file of another size.
    """
    first = first or paths[0]
    shape = decode_image(first, frame).shape
    with ThreadPoolExecutor(WORKERS) as pool, progress.track(task, len(paths)) as step:
        left, ahead = iter(paths), deque[tuple[Path, Future[Picture]]]()
        for path in islice(left, 2 * WORKERS):
            ahead.append((path, pool.submit(decode_image, path, frame)))
        while ahead:
            path, decoded = ahead.popleft()
            image = decoded.result()
            if image.shape != shape:
                cure = advise(image.shape[:2], shape[:2])
                raise ManySizesError(
                    f"{path} is {_size(image.shape)} pixels, {first} is {_size(shape)}; all images "
                    f"of a data set must have one size{'; ' if cure else ''}{cure}"
                )
            for path in islice(left, 1):
                ahead.append((path, pool.submit(decode_image, path, frame)))
            yield image
            step()


def decode_image(path: Path, frame: Frame | None = None) -> Picture:
    """Decode a file to RGB of shape (height, width, 3); scale and crop it by `frame`.

    Raises `SelbenchError` if it cannot be decoded.
    """
    try:
        check_regular(path)
        with Image.open(path, formats=_formats()) as image:
            _check_size(path, image.size, frame)
            _tell_reduced(image)
            image.load()
            rgb = _to_rgb(image, path)
            turn = _find_turn(image)
            upright = rgb if turn is None else rgb.transpose(turn)
        return np.asarray(upright if frame is None else _framed(upright, frame, path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise _too_large(path) from problem
    except BROKEN as problem:
        raise SelbenchError(
            f"{path} cannot be decoded as an image ({in_short(problem)}); repair or remove it"
        ) from problem


def _framed(image: Image.Image, frame: Frame, path: Path) -> Image.Image:
    try:
        return frame.of(image)
    except ValueError as problem:
        raise SelbenchError(f"{path} {problem}") from problem


def _check_size(path: Path, size: tuple[int, int], frame: Frame | None) -> None:
    if frame is None and max(size) > MAX_SIDE:
        raise _too_large(path)
    if size[0] * size[1] > LARGEST:
        raise SelbenchError(f"{path} is {size[0]} x {size[1]} pixels; shrink or remove it")


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes an image upright; None if it is upright or damaged."""
    with suppress(*BROKEN):
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    return None


def _tell_reduced(image: Image.Image) -> None:
    """Warn about unused frames and bits; once for each kind."""
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):
        warnings.warn(FRAMES, UserWarning, stacklevel=2)
    if ";16" in f"{image.mode} {getattr(image, 'tile', '')}" or _is_deep(image):
        warnings.warn(DEEP, UserWarning, stacklevel=2)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if _is_deep(image):
        values = np.asarray(image)
        upper = np.rint(values / 257) if image.format == "PPM" else values >> 8  # as for RGB
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode.startswith(("I", "F")):  # Pillow would clip these values to 255
        raise SelbenchError(
            f"{path} has more than 16 bits per channel; convert the images to 8 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _too_large(path: Path) -> SelbenchError:
    return SelbenchError(f"{path} is larger than {MAX_SIDE} pixels; shrink or remove it")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
