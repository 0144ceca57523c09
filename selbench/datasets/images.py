"""Decode image files into one array, and name the file that does not fit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from selbench.errors import SelbenchError
from selbench.progress import Progress
from selbench.types import Pixels

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}
MAX_SIDE = 4096  # a larger header is a decompression bomb or no benchmark image


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
        with Image.open(path) as image:
            if max(image.size) > MAX_SIDE:
                raise _too_large(path)
            if image.mode.startswith(("I", "F")):  # PIL would clip their values to 255
                raise SelbenchError(
                    f"{path} has more than 8 bits per channel; convert the images to 8 bits"
                )
            return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError as problem:
        raise _too_large(path) from problem
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as problem:
        raise SelbenchError(
            f"{path} cannot be decoded as an image ({problem}); repair or remove it"
        ) from problem


def _too_large(path: Path) -> SelbenchError:
    return SelbenchError(f"{path} is larger than {MAX_SIDE} pixels; shrink or remove it")


def _size(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
