"""Checks of the arguments of `corrupt`, with their messages."""

import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Never, SupportsIndex

import torch
from torch import Tensor

SMALLEST_SIDE = 9  # pixels: glass_blur at 224 pixels' constants leaves 4 at each border unmoved
TOLERANCE = 1e-4  # tolerance for floating values outside 0 to 1 after resizing
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SEEDS = 2**64


def check_name(name: object, known: Iterable[str]) -> None:
    """Raise ValueError for an unknown name; suggest the nearest known one."""
    if not isinstance(name, str):
        raise ValueError(f'name must be a str such as "fog", got {_shown(name)}')
    names = list(known)
    if name not in names:
        lowered = name[:99].lower()
        longer = [each for each in names if lowered and each.startswith(lowered)]
        nearest = difflib.get_close_matches(lowered, longer or names, n=1, cutoff=0)
        raise ValueError(
            f"unknown corruption {_shown(name)}; the nearest known one is {nearest[0]!r}"
        )


def find_severity(name: str, severity: object) -> int:
    """Return the severity as an int; raise ValueError unless it is 1, 2, 3, 4 or 5."""
    number = _as_int(severity)
    if number is None or number not in range(1, 6):
        raise ValueError(f"{name} has severities 1-5, got {_shown(severity)}")
    return number


def find_seed(seed: object) -> int:
    """Return the seed as an int; raise ValueError unless it is an integer from 0 to 2**64 - 1."""
    number = _as_int(seed)
    if number is None or number < 0:
        raise ValueError(f"seed must be an int of at least 0, got {_shown(seed)}")
    if number >= SEEDS:
        raise ValueError("seed must be an int below 2**64, got a larger one")
    return number


def _as_int(value: object) -> int | None:
    """Return an int, or NumPy's or torch's equivalent, as an int; None for anything else."""
    truth = isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
    if truth or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several values, or of floats
        return None


def _shown(value: object) -> str:
    """Return a value on one short line, for messages."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # more digits than Python prints
        text = "a very long int"
    return text if len(text) < 100 else f"{text[:90]} ..."


def check_tensors(images: object, examples: object) -> None:
    """Raise ValueError unless types, dtypes and shapes suit `corrupt`; values are not checked."""
    images, examples = _dense("images", images), _dense("examples", examples)
    if images.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "images need a gradient, and a corruption has none; corrupt images.detach()"
        )
    if images.dtype not in (torch.uint8, *FLOATING):
        hint = "convert values from 0 to 255 with images.to(torch.uint8)"
        if images.is_floating_point():
            hint = "convert them with images.to(torch.float32)"
        raise ValueError(
            "images must be uint8 from 0 to 255 or floating from 0 to 1, "
            f"got {images.dtype}; {hint}"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape)
        raise ValueError(
            f"images must have shape (batch, 3, height, width), got {shape}{_shape_hint(shape)}"
        )
    if examples.dtype != torch.int64:
        raise ValueError(
            f"examples must be int64 positions in the data set, got {examples.dtype}; "
            "convert them with examples.to(torch.int64)"
        )
    if examples.shape != images.shape[:1]:
        raise ValueError(
            f"examples must be one position per image, of shape ({len(images)},), "
            f"got {tuple(examples.shape)}"
        )


def _dense(what: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        cure = _image_cure(value) if what == "images" else "make them with torch.arange"
        raise ValueError(f"{what} must be a torch.Tensor, got {_type_name(value)}; {cure}")
    if value.layout != torch.strided:
        raise ValueError(
            f"{what} must be dense, got {value.layout}; convert them with {what}.to_dense()"
        )
    return value


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _image_cure(value: object) -> str:
    """Say how to turn something that is no tensor into a batch of images."""
    if type(value).__module__.startswith("PIL."):
        return 'use torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)[None]'
    match getattr(value, "shape", ()):
        case (_, _, 3 | 4):
            return "use torch.from_numpy(image[..., :3]).permute(2, 0, 1)[None]"
        case (_, _, _, 3 | 4):
            return "use torch.from_numpy(images[..., :3]).permute(0, 3, 1, 2)"
        case (_, _, _, _):
            return "use torch.from_numpy(images)"
        case _:
            return "make one of shape (batch, 3, height, width), as with torch.stack"


def _shape_hint(shape: tuple[int, ...]) -> str:
    match shape:
        case (_, 1, _, _):
            return "; repeat the grey channel with images.expand(-1, 3, -1, -1)"
        case (_, 4, _, _):
            return "; leave the alpha channel out with images[:, :3]"
        case (_, _, _, 3):
            return "; put the channels first with images.permute(0, 3, 1, 2)"
        case (3, _, _):
            return "; make one image a batch with images.unsqueeze(0)"
        case (_, _, 3):
            return "; make one image a batch with images.permute(2, 0, 1).unsqueeze(0)"
        case _:
            return ""


def find_scale(name: str, known: Sequence[int], height: int, width: int, scale: object) -> int:
    """Return the scale for images of this size; raise ValueError if there are no constants."""
    *most, last = known
    choices = f"{', '.join(map(str, most))} or {last}"
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"images must have at least {SMALLEST_SIDE} pixels a side, got {height}x{width}; "
            "enlarge them"
        )
    if scale is None:
        if height != width or height not in known:
            raise ValueError(
                f"{name} has no constants for {height}x{width} pixels; "
                f"choose those of another size with scale={choices}"
            )
        return height
    chosen = _as_int(scale)
    if chosen is None or chosen not in known:
        raise ValueError(f"scale must be {choices}, got {_shown(scale)}")
    return chosen


def check_range(images: Tensor) -> None:
    """Raise ValueError for floating values outside 0 to 1, with a tolerance of `TOLERANCE`."""
    lowest, highest = (extreme.item() for extreme in images.aminmax())
    if lowest >= -TOLERANCE and highest <= 1 + TOLERANCE:
        return
    if not math.isfinite(lowest + highest):
        found = lowest if math.isinf(lowest) else highest
        _refuse(found, "look for a division by zero where they were made")
    if lowest < -0.5:
        _refuse(lowest, "corrupt images before they are normalised")
    if highest > 1.5:
        _refuse(highest, "divide them by 255")
    found = lowest if lowest < -TOLERANCE else highest
    _refuse(found, "clip what resizing left outside with images.clamp(0, 1)")


def _refuse(found: float, hint: str) -> Never:
    raise ValueError(f"floating images must have values from 0 to 1, got {found:.7g}; {hint}")
