"""Find why a network rejects images, by trying other inputs, to give the right advice."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Images
from selbench.networks.code import is_installed
from selbench.networks.inputs import Preprocess
from selbench.networks.zoo import reason_of

SIDES = (224, 32, 28, 64, 299, 256, 96, 84, 112, 128, 160, 192, 227, 240, 288, 384, 48, 16, 8)
CHANNELS = (1, 4)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Other inputs that a network may need: description, advice, and the conversion of images.
KINDS: tuple[tuple[str, str, Callable[[Images], Tensor]], ...] = (
    (
        "images of float32: it takes float64",
        "have its forward pass begin with images.double()",
        lambda images: images.double(),
    ),
    (
        "images of float32: it takes bytes",
        "have it take floats in [0, 1], with a gradient",
        lambda images: (255 * images).byte(),
    ),
    (
        "images of (batch, channels, height, width): it takes channels last",
        "have its forward pass begin with images.permute(0, 2, 3, 1)",
        lambda images: images.permute(0, 2, 3, 1),
    ),
)
SHAPES = re.compile(r"shape|size|dimension|channel|height|width|kernel|pixel|broadcast", re.I)


def refusal(network: nn.Module, images: Images, name: str, problem: BaseException) -> SelbenchError:
    """Return the error for a network that raised `problem` for images, with what to do."""
    if isinstance(network, nn.Sequential) and isinstance(network[0], Preprocess):
        inner: nn.Module = network[1]
    else:
        inner = network
    height, width = images.shape[-2:]
    what, reason = f"images of {width} x {height} pixels", reason_of(problem)
    dtypes = {each.dtype for each in network.parameters() if each.is_floating_point()}
    if isinstance(problem, SystemExit):
        advice = "take what calls sys.exit out of its forward pass"
    elif others := dtypes - {images.dtype}:
        dtype = str(min(others, key=str)).removeprefix("torch.")
        what = f"images of float32, having weights of {dtype}"
        advice = "convert it with network.float() where it is made"
    elif number := _channels(inner, images):
        what = f"images of 3 channels: it takes {number}"
        advice = (
            f"put a layer before it that makes {number} of them"
            + (", such as images.mean(1, keepdim=True)" if number == 1 else "")
            + ", or bring a network for colour images"
        )
    elif kind := next((kind for kind in KINDS if _takes(inner, kind[2](images))), None):
        what, advice = kind[:2]
    elif side := _side(inner, images):
        advice = (
            f"say --input-size {side}, which it takes (in Python, scale images in its forward "
            "pass), or bring a network for such images"
        )
    elif count := _batch(inner, images):
        what = f"{len(images)} image{'s' * (len(images) > 1)} together: it takes {count}"
        advice = "let its batch have any size where it is made or exported"
    elif isinstance(problem, RuntimeError | ValueError | AssertionError) and SHAPES.search(reason):
        advice = "say with --input-size which side it takes, or bring a network for such images"
    else:
        return SelbenchError(
            f"{name} fails in its own code ({reason}{_place(problem)}); fix it: the input was "
            f"float32 images in [0, 1] of shape {tuple(images.shape)}"
        )
    return SelbenchError(f"{name} cannot take {what} ({reason}); {advice}")


def _channels(network: nn.Module, images: Images) -> int | None:
    """Return the number of channels that a network needs, if it is not three."""
    grey = images.mean(1, keepdim=True)
    return _first(CHANNELS, lambda number: _takes(network, grey.expand(-1, number, -1, -1)))


def _batch(network: nn.Module, images: Images) -> int | None:
    """Return a batch size that a network accepts, if it rejects that of the images."""
    others = tuple(count for count in BATCHES if count != len(images))
    return _first(others, lambda count: _takes(network, images[:1].expand(count, -1, -1, -1)))


def _side(network: nn.Module, images: Images) -> int | None:
    """Return a side of images that a network accepts, if it rejects that of these."""
    return _first(SIDES, lambda side: _takes(network, F.interpolate(images, (side, side))))


def _first(choices: tuple[int, ...], holds: Callable[[int], bool]) -> int | None:
    return next((each for each in choices if holds(each)), None)


def _takes(network: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            network(images.contiguous())  # the memory format of `Preprocess`
    except (Exception, SystemExit):  # others' code raises whatever it likes
        return False
    return True


def _place(problem: BaseException) -> str:
    """Return the last line of the user's files in the traceback."""
    place, trace = "", problem.__traceback__
    while trace is not None:
        module = sys.modules.get(trace.tb_frame.f_globals.get("__name__", ""))
        if module is not None and not is_installed(module):
            place = f"; {Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
