"""Build a network from its description."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from selbench._kit.errors import SelbenchError, in_short, unknown
from selbench._kit.memory import available
from selbench._kit.registry import Registry
from selbench._kit.types import Images
from selbench.study import Channels, ModelSpec

COPIES = 3  # copies of the weights while training: weights, gradients, momentum
MODELS = Registry[Any]("model")


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel, on [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Images) -> Images:
        """Map images in [0, 1] to images of zero mean and unit deviation."""
        return (images - self.mean) / self.std


def options_of(name: str) -> dict[str, Any]:
    """Return the options of an architecture and their types; raise for an unknown name."""
    parameters = inspect.signature(MODELS[name]).parameters
    return {name: each.annotation for name, each in parameters.items() if name != "classes"}


def build_model(spec: ModelSpec, classes: int, moments: tuple[Channels, Channels]) -> nn.Module:
    """Build an untrained network with the layers `normalize` and `network`.

    Args:
        spec: architecture and options; its `mean` and `std`, if any, replace `moments`.
        classes: number of logits.
        moments: per-channel mean and standard deviation of the training images, on [0, 1].

    Raises:
        SelbenchError: for an unknown architecture or option.
    """
    function, kinds = MODELS[spec.name], options_of(spec.name)
    for option, value in spec.options.items():
        if option not in kinds:
            raise unknown(f"option of model {spec.name}", option, list(kinds) or ["none"])
        if type(value) is not kinds[option]:
            raise SelbenchError(
                f"model {spec.name}: option {option} takes {kinds[option].__name__}, got {value!r}"
            )
    if spec.options:
        _check_room(spec, classes)
    try:
        network = function(classes, **spec.options)
    except ValueError as problem:
        raise SelbenchError(f"model {spec.name}: {problem}") from problem
    normalize = Normalize(spec.mean or moments[0], spec.std or moments[1])
    model = nn.Sequential(OrderedDict(normalize=normalize, network=network))
    return model.to(memory_format=torch.channels_last)


def _check_room(spec: ModelSpec, classes: int) -> None:
    """Raise `SelbenchError` for a network whose weights do not fit into memory."""
    options = ", ".join(f"{name} = {value!r}" for name, value in spec.options.items())
    try:
        size = COPIES * _size(MODELS[spec.name], classes, tuple(spec.options.items()))
    except (RuntimeError, OverflowError, TypeError, ZeroDivisionError) as problem:
        reason = in_short(problem)
        raise SelbenchError(
            f"model {spec.name} cannot be built with {options}: {reason}"
        ) from problem
    except ValueError as problem:
        raise SelbenchError(f"model {spec.name}: {problem}") from problem
    if size > available():
        raise SelbenchError(
            f"model {spec.name} with {options} takes {size / 2**30:.0f} GB to train, and "
            f"{available() / 2**30:.0f} GB are free; choose a smaller network"
        )


class _Undrawn(TorchFunctionMode):
    """Skip drawing weights: on the meta device it makes torch import sympy, which takes seconds."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return function(*args, **(kwargs or {}))


@cache
def _size(function: Callable[..., nn.Module], classes: int, options: Any) -> int:
    """Return the bytes of a network's weights, without allocating them."""
    with torch.device("meta"), _Undrawn():
        network = function(classes, **dict(options))
    return sum(each.numel() * each.element_size() for each in network.parameters())
