"""Pictures of frost: photographs if available, otherwise textures made here.

The published sets overlay five photographs that selbench may not ship: frost1.png, frost2.png,
frost3.png, frost4.jpg and frost5.jpg. They are searched in the folder that the environment variable
SELBENCH_FROST names, otherwise in the folder given to `look_for_frost_in`, otherwise in an
installed package `imagecorruptions`, which includes them. Without them, textures are made here. The
corruption's variant names the pictures by their content; results are comparable with published ones
only if made with the published photographs.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from corruptions.draws import KeyedDraws

FOLDER_VARIABLE = "SELBENCH_FROST"
PACKAGE = "imagecorruptions"
_PUBLISHED = {  # MD5 of the files in github.com/hendrycks/robustness
    "frost1.png": "6ead634ace1f366d77e87078b465863c",
    "frost2.png": "98f0d2b1d74a048d3bc9c7ecfd886939",
    "frost3.png": "b3ed8eb147824261888e730f916c0d8b",
    "frost4.jpg": "d70b9d6aa0b1fe7bd8133b113787e078",
    "frost5.jpg": "50984ae2c871b7df2c28f1d71ca460a0",
}
PHOTOGRAPHS = tuple(_PUBLISHED)

Texture = Float32[Tensor, "3 height width"]  # whole grey levels, 0 to 255


_added: list[Path] = []  # at most one folder


class FrostError(ValueError):
    """The photographs in a named folder are incomplete or damaged."""


class Source(NamedTuple):
    """Where the pictures come from."""

    folder: Path | None  # None: made here
    variant: str  # "" for the published photographs, "photographs <hash>" for others


def look_for_frost_in(folder: Path | None) -> None:
    """Search for photographs in this folder too, unless SELBENCH_FROST names one.

    This replaces an earlier folder, for the whole process; None removes it. A missing folder is
    ignored.
    """
    _added[:] = [] if folder is None else [folder.absolute()]


def frost_variant() -> str:
    """Return "" for the published photographs, "photographs <hash>" for others, or "procedural".

    Raises FrostError if a named folder lacks photographs, or if one is damaged.
    """
    return frost_source().variant


def frost_source() -> Source:
    """Find the pictures and identify them by their bytes.

    Raises FrostError if a named folder lacks photographs, or if one is damaged.
    """
    folder, remedy = _find_folder()
    if folder is None:
        return Source(None, "procedural")
    missing = [name for name in PHOTOGRAPHS if not (folder / name).is_file()]
    if missing and remedy:
        raise FrostError(f"the folder {folder} lacks {', '.join(missing)}; {remedy}")
    if missing:
        return Source(None, "procedural")
    states = [(folder / name).stat() for name in PHOTOGRAPHS]
    stamps = tuple((state.st_size, state.st_mtime_ns) for state in states)
    return Source(folder, _variant(folder, stamps))


def _find_folder() -> tuple[Path | None, str]:
    """Return the folder to search, and advice for the user if it is named but incomplete."""
    if named := os.environ.get(FOLDER_VARIABLE):
        remedy = f"add them, or unset {FOLDER_VARIABLE} to use procedural frost"
        return Path(named).expanduser().absolute(), remedy
    for folder in _added:
        if folder.is_dir():
            return folder, "add them, or remove the folder to use procedural frost"
    return _packaged_folder(PACKAGE), ""


@lru_cache(maxsize=16)
def _packaged_folder(package: str) -> Path | None:
    """Return the folder of photographs in an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("frost")


@lru_cache(maxsize=16)
def _variant(folder: Path, stamps: tuple[tuple[int, int], ...]) -> str:
    """Compare with the published photographs; `stamps` make changed files be read again."""
    found = {name: _md5(folder / name) for name in PHOTOGRAPHS}
    if found == _PUBLISHED:
        return ""
    for name in PHOTOGRAPHS:
        _read(folder / name)  # reports a damaged file before it is used
    digest = hashlib.sha256("".join(found.values()).encode()).hexdigest()
    return f"photographs {digest[:8]}"


def frost_pictures(
    source: Source, shrink: float, height: int, width: int, device: torch.device
) -> tuple[Float32[Tensor, "5 tallest widest 3"], Int64[Tensor, "5 2"]]:
    """Stack the shrunken pictures, padded with black, and return each one's height and width."""
    sizes = [texture.shape[1:] for texture in _textures(source)]
    least = [max((height + 1) / tall, (width + 1) / wide) for tall, wide in sizes]
    return _stacked(source, tuple(max(shrink, each) for each in least), device)


@lru_cache(maxsize=2)
def _textures(source: Source) -> list[Texture]:
    folder = source.folder
    return _procedural() if folder is None else [_read(folder / name) for name in PHOTOGRAPHS]


@lru_cache(maxsize=2)  # many image sizes share one entry; a large one takes hundreds of megabytes
def _stacked(
    source: Source, factors: tuple[float, ...], device: torch.device
) -> tuple[Float32[Tensor, "5 tallest widest 3"], Int64[Tensor, "5 2"]]:
    shrunken = [_resized(*each) for each in zip(_textures(source), factors, strict=True)]
    sizes = torch.tensor([texture.shape[1:] for texture in shrunken])
    tallest, widest = sizes.amax(0).tolist()
    stacked = torch.zeros(len(shrunken), tallest, widest, 3, dtype=torch.float32)
    for canvas, texture in zip(stacked, shrunken, strict=True):
        canvas[: texture.shape[1], : texture.shape[2]] = texture.permute(1, 2, 0)
    return stacked.to(device), sizes.to(device)


def _md5(path: Path) -> str:
    with _read_errors(path):
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _read(path: Path) -> Texture:
    with _read_errors(path), Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as problem:
        raise FrostError(f"the photograph {path} is no image; replace it") from problem
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise FrostError(
            f"the photograph {path} cannot be read ({reason}); replace it"
        ) from problem


def _resized(texture: Texture, factor: float) -> Float32[Tensor, "3 new_height new_width"]:
    """Interpolate linearly between neighbours; shrinking skips pixels instead of averaging.

    Fixed-point numbers with 11 bits, as in OpenCV, which resized the published photographs.
    """
    if factor == 1:
        return texture
    pixels = texture.to(torch.int32)
    above, below, high, low = _neighbours(texture.shape[1], factor)
    left, right, near, far = _neighbours(texture.shape[2], factor)
    across = (pixels[:, :, left] * near + pixels[:, :, right] * far) >> 4
    rows = (across[:, above] * high.unsqueeze(1) >> 16) + (
        across[:, below] * low.unsqueeze(1) >> 16
    )
    return ((rows + 2) >> 2).to(torch.float32)


def _neighbours(
    size: int, factor: float
) -> tuple[
    Int64[Tensor, " new"], Int64[Tensor, " new"], Int32[Tensor, " new"], Int32[Tensor, " new"]
]:
    """Return the two old neighbours of each new position, with their weights of 11 bits."""
    places = (torch.arange(round(size * factor), dtype=torch.float64) + 0.5) / factor - 0.5
    places.clamp_(0, size - 1)
    first = places.floor()
    weight = (2048 * (places - first)).round().to(torch.int32)
    return first.long(), first.long().add(1).clamp(max=size - 1), 2048 - weight, weight


def _procedural() -> list[Texture]:
    """Make five pictures of ridges at many scales, about as bright as the photographs."""
    draws = KeyedDraws("frost", torch.arange(len(PHOTOGRAPHS)))
    relief = torch.zeros(len(PHOTOGRAPHS), 1, 600, 900, dtype=torch.float32)
    for octave in range(6):
        cells = 2 ** (octave + 2)
        noise = draws.uniform(-1, 1, 1, cells, cells + cells // 2)
        ridges = 1 - interpolate(noise, relief.shape[2:], mode="bicubic").abs()
        relief += 0.7**octave * ridges
    lowest, highest = relief.amin((2, 3), keepdim=True), relief.amax((2, 3), keepdim=True)
    bright = 60 + 190 * (relief - lowest) / (highest - lowest)
    bluish = torch.tensor([0.9, 1.0, 1.06], dtype=torch.float32).view(3, 1, 1)
    return list((bright * bluish).clamp_(0, 255).round_())
