"""Pictures of frost on a pane: photographs where the user has them, own textures where not.

The published sets overlay five photographs that are not ours to ship. The environment variable
SELBENCH_FROST names a folder with frost1.png, frost2.png, frost3.png, frost4.jpg and frost5.jpg;
without it the textures are made here, the variant of the corruption is "procedural", and results
are not comparable with published ones.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from corruptions.draws import KeyedDraws

FOLDER_VARIABLE = "SELBENCH_FROST"
PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

Texture = Float32[Tensor, "3 height width"]  # whole grey levels, 0 to 255


def frost_variant() -> str:
    """Return "" with photographs, "procedural" without.

    Raises FileNotFoundError where SELBENCH_FROST names a folder without all of them.
    """
    return "procedural" if frost_folder() is None else ""


def frost_folder() -> Path | None:
    """Return the folder that SELBENCH_FROST names, or None.

    Raises FileNotFoundError where a photograph is missing there.
    """
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return None
    missing = [photograph for photograph in PHOTOGRAPHS if not (Path(name) / photograph).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{FOLDER_VARIABLE} names {name}, which lacks {', '.join(missing)}; "
            "unset it to use procedural frost"
        )
    return Path(name)


@lru_cache(maxsize=16)
def frost_pictures(
    folder: Path | None, shrink: float, height: int, width: int, device: torch.device
) -> tuple[Float32[Tensor, "5 tallest widest 3"], Int64[Tensor, "5 2"]]:
    """Stack the shrunken pictures, padded with black, and list each one's height and width."""
    textures = _procedural() if folder is None else [_read(folder / name) for name in PHOTOGRAPHS]
    shrunken = []
    for texture in textures:
        least = max((height + 1) / texture.shape[1], (width + 1) / texture.shape[2])
        shrunken.append(_resized(texture, max(shrink, least)))
    sizes = torch.tensor([texture.shape[1:] for texture in shrunken])
    tallest, widest = sizes.amax(0).tolist()
    stacked = torch.zeros(len(shrunken), tallest, widest, 3)
    for canvas, texture in zip(stacked, shrunken, strict=True):
        canvas[: texture.shape[1], : texture.shape[2]] = texture.permute(1, 2, 0)
    return stacked.to(device), sizes.to(device)


def _read(path: Path) -> Texture:
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _resized(texture: Texture, factor: float) -> Float32[Tensor, "3 new_height new_width"]:
    """Interpolate linearly between neighbours; shrinking skips pixels instead of averaging.

    Fixed-point numbers, 2^11 to one, as in OpenCV, which resized the photographs.
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
    """Return for each new place the two old ones beside it and their weights, 2^11 to one."""
    places = (torch.arange(round(size * factor), dtype=torch.float64) + 0.5) / factor - 0.5
    places.clamp_(0, size - 1)
    first = places.floor()
    weight = (2048 * (places - first)).round().to(torch.int32)
    return first.long(), first.long().add(1).clamp(max=size - 1), 2048 - weight, weight


def _procedural() -> list[Texture]:
    """Make five pictures of ridges at many scales, about as bright as the photographs."""
    draws = KeyedDraws("frost", torch.arange(len(PHOTOGRAPHS)))
    relief = torch.zeros(len(PHOTOGRAPHS), 1, 600, 900)
    for octave in range(6):
        cells = 2 ** (octave + 2)
        noise = draws.uniform(-1, 1, 1, cells, cells + cells // 2)
        ridges = 1 - interpolate(noise, relief.shape[2:], mode="bicubic").abs()
        relief += 0.7**octave * ridges
    lowest, highest = relief.amin((2, 3), keepdim=True), relief.amax((2, 3), keepdim=True)
    bright = 60 + 190 * (relief - lowest) / (highest - lowest)
    bluish = torch.tensor([0.9, 1.0, 1.06]).view(3, 1, 1)
    return list((bright * bluish).clamp_(0, 255).round_())
