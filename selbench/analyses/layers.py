"""Layers: which outputs of a network are analysed, their names and their units.

A layer is a call of a non-negative activation, such as a ReLU or, with a pattern, a call of a
module whose name matches. Layers are numbered from 1 in call order.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor, nn

from selbench._kit.chunks import BATCH, in_chunks
from selbench._kit.errors import NoReLUError, NotFiniteError, SelbenchError
from selbench._kit.types import Images, Pixels, Units, to_images
from selbench.selectivity import Change, Keep, RecordedUnits, running, spatial_mean

Columns = Literal["units", "maps"]
COLUMNS: tuple[Columns, ...] = ("units", "maps")
SHOWN = 3  # names of modules shown for each kind of activation
PARTS = ("early", "middle", "late")  # thirds of a network's layers


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        number: its position, from 1.
        name: name of the called module; ":2" marks its second call.
        shape: shape of its output for one image: (units,), (tokens, units) or (units, height,
            width).
    """

    number: int
    name: str
    shape: tuple[int, ...]

    @property
    def units(self) -> int:
        """The number of units: channels of maps, features of vectors or tokens."""
        return self.shape[-1] if len(self.shape) == 2 else self.shape[0]


@torch.no_grad()
def find_layers(
    model: nn.Module, images: Images | Pixels, pattern: str | None = None
) -> list[Layer]:
    """Return the layers of a network, found by running two of the images.

    Warns:
        RuntimeWarning: about activations that are not analysed, if there is no pattern.

    Raises:
        SelbenchError: if the network calls no non-negative activation, or no module matches
            `pattern`.
    """
    calls, outputs, missed = _looked(model, images, pattern)
    if not outputs:
        missing = NoReLUError if pattern is None else SelbenchError
        raise missing(_no_layers(model, pattern))
    if missed and pattern is None:  # always from this line, so that Python shows it only once
        warnings.warn(_not_looked_at(len(outputs), missed), RuntimeWarning, stacklevel=1)
    names = [numbered(name, calls[:place].count(name)) for place, name in enumerate(calls)]
    return [
        Layer(number, name, tuple(output.shape[1:]))
        for number, (name, output) in enumerate(zip(names, outputs, strict=True), 1)
    ]


@torch.no_grad()
def missed_activations(model: nn.Module, images: Images | Pixels) -> dict[str, int]:
    """Return how many calls of each activation that can be negative are not analysed by default.

    An example is {"gelu": 12}; outputs that do not depend on the image are left out.
    """
    return {name: len(calls) for name, calls in _looked(model, images, None)[2].items()}


def _looked(
    model: nn.Module, images: Images | Pixels, pattern: str | None
) -> tuple[list[str], list[Tensor], dict[str, list[str]]]:
    """Return the names and outputs of layers, and where other activations are."""
    calls: list[str] = []
    missed: dict[str, list[str]] = {}

    def keep(output: Tensor) -> Tensor:
        calls.append(path[-1])
        return output

    def miss(kind: str) -> None:
        missed.setdefault(kind, []).append(path[-1])

    # The hooks for names must come after those of the recording, which use the names.
    watching = recording(model, pattern, keep, miss)
    with evaluating(model), watching as outputs, running(model) as path:
        model(as_images(images[:2]))
    return calls, outputs, missed


@contextmanager
def recording(
    model: nn.Module,
    pattern: str | None = None,
    keep: Keep = spatial_mean,
    missed: Callable[[str], object] | None = None,
    change: Change | None = None,
) -> Iterator[list[Any]]:
    """Yield a list that collects `keep(output)` of each layer whenever `model` runs.

    Args:
        model: the network.
        pattern: regular expression to search for in module names, whose outputs are the layers;
            None for the outputs of all non-negative activations.
        keep: maps a layer's output, (batch, ...), to the value to keep.
        missed: called with the name of each activation that can be negative.
        change: maps a layer's output to the value that replaces it in the network.
    """
    constants = list(model.buffers())
    if pattern is None:
        recorded = RecordedUnits(keep, constants=constants, missed=missed, change=change)
        with recorded:
            yield recorded.layers
        return
    recorded = RecordedUnits(keep, (), constants=constants, missed=missed)
    kept: list[Any] = []

    handles = [
        model.get_submodule(name).register_forward_hook(_watch(name, kept, keep, recorded, change))
        for name in matching(model, pattern)
    ]
    try:
        with recorded:
            yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode for the block; then restore the mode of each module."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the names of modules that match; raise `SelbenchError` for an invalid pattern."""
    try:
        search = re.compile(pattern).search
    except re.error as problem:
        raise SelbenchError(
            f"--layers {pattern!r} is no regular expression: {problem}"
        ) from problem
    return [name for name, _ in model.named_modules() if name and search(name)]


def activations(
    model: nn.Module,
    sets: Sequence[Tensor],
    layers: str | None,
    columns: Columns,
    wanted: Sequence[Layer],
) -> Iterator[list[list[Tensor]]]:
    """Yield the points of the `wanted` layers, batch by batch, for each of `sets` of images."""
    numbers = {layer.number for layer in wanted}

    def points(images: Tensor) -> list[Tensor]:
        return _points(model, as_images(images), layers, columns, numbers)

    size = BATCH[sets[0].device.type]
    for batch in zip(*(images.split(size) for images in sets), strict=True):
        yield [in_chunks(points, images, sizes=BATCH) for images in batch]


@torch.inference_mode()
def _points(
    model: nn.Module, images: Images, layers: str | None, columns: Columns, numbers: set[int]
) -> list[Tensor]:
    places = count(1)

    def keep(output: Tensor) -> Tensor | None:
        if next(places) not in numbers:
            return None
        return spatial_mean(output) if columns == "units" else output.flatten(1).float().clone()

    with evaluating(model), recording(model, layers, keep) as kept:
        model(images)
    return [points for points in kept if points is not None]


def as_images(images: Images | Pixels) -> Images:
    """Return images as networks expect them: in [0, 1], channels last."""
    floats = to_images(images) if images.dtype == torch.uint8 else images
    return floats.contiguous(memory_format=torch.channels_last)


def units_of(outputs: Tensor) -> Units:
    """Average a layer's output over space or tokens, in its own dtype; differentiable.

    Args:
        outputs: (batch, units), (batch, tokens, units) or (batch, units, height, width).
    """
    if outputs.ndim == 2:
        return outputs.clone()  # later modules may change it in place
    return outputs.mean(1) if outputs.ndim == 3 else outputs.mean([*range(2, outputs.ndim)])


def check_finite(layers: Sequence[Layer], values: Sequence[Tensor]) -> None:
    """Raise `NotFiniteError` naming the first layer with values that are not finite."""
    finite = torch.stack([value.isfinite().all() for value in values])
    if not finite.all():
        layer = layers[finite.tolist().index(False)]
        raise NotFiniteError(
            f"layer {layer.number} ({layer.name}) returns NaN or infinity; has the network's "
            "training diverged?"
        )


def thirds(count: int) -> dict[str, range]:
    """Return the numbers of the layers in each third; the middle has the remainder."""
    size = max(1, count // 3)
    early, late = range(1, size + 1), range(count - size + 1, count + 1)
    return {"early": early, "middle": range(size + 1, count - size + 1), "late": late}


def numbered(name: str, before: int) -> str:
    """Name a call of a module that was called `before` times already: "relu", then "relu:2"."""
    return f"{name}:{before + 1}" if before else name


def _watch(
    name: str, kept: list[Any], keep: Keep, recorded: RecordedUnits, change: Change | None
) -> Callable[..., Any]:
    """Return a hook that keeps a module's output, unless it is the same for all images."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Tensor):
            raise SelbenchError(
                f"{name} returns a {type(output).__name__}, not a tensor; choose other --layers"
            )
        if not recorded.of_images(output):
            return output
        kept.append(keep(recorded.maps(output)))
        return output if change is None else recorded.changed(output, change)

    return hook


def _not_looked_at(layers: int, missed: Mapping[str, Sequence[str]]) -> str:
    """Return a warning that names the activations that are not layers."""
    calls = sum(map(len, missed.values()))
    kinds = [
        f"{kind} in {', '.join(names[:SHOWN])}"
        + (f" and {len(names) - SHOWN} others" if len(names) > SHOWN else "")
        for kind, names in missed.items()
    ]
    return (
        f"{layers} of {layers + calls} activations are analysed; not {'; '.join(kinds)}, which "
        "can be negative: name such modules with --layers REGEX"
    )


def _no_layers(model: nn.Module, pattern: str | None) -> str:
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    what = "the network calls no ReLU" if pattern is None else f"no module matches {pattern!r}"
    what += " or other activation that is never negative" if pattern is None else ""
    return f"{what}; name the modules to look at with --layers REGEX, among {known or 'none'}"
