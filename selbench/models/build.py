"""Build a network from its description, and load weights into it."""

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from selbench.errors import SelbenchError, unknown
from selbench.registry import Registry
from selbench.study import Channels, ModelSpec
from selbench.types import Images

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


def build_model(spec: ModelSpec, classes: int, moments: tuple[Channels, Channels]) -> nn.Module:
    """Build an untrained network whose layers are `normalize` and `network`.

    Args:
        spec: architecture and options; its own `mean` and `std`, if any, replace `moments`.
        classes: number of logits.
        moments: per-channel mean and standard deviation of the training images, on [0, 1].

    Raises:
        SelbenchError: for an unknown architecture or option.
    """
    function = MODELS[spec.name]
    parameters = inspect.signature(function).parameters
    kinds = {name: each.annotation for name, each in parameters.items() if name != "classes"}
    for option, value in spec.options.items():
        if option not in kinds:
            raise unknown(f"option of model {spec.name}", option, list(kinds) or ["none"])
        if type(value) is not kinds[option]:
            raise SelbenchError(
                f"model {spec.name}: option {option} takes {kinds[option].__name__}, got {value!r}"
            )
    try:
        network = function(classes, **spec.options)
    except ValueError as problem:
        raise SelbenchError(f"model {spec.name}: {problem}") from problem
    normalize = Normalize(spec.mean or moments[0], spec.std or moments[1])
    model = nn.Sequential(OrderedDict(normalize=normalize, network=network))
    return model.to(memory_format=torch.channels_last)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a state dict saved by torch (never unpickled as code).

    A `state_dict` entry is unwrapped and the prefix `module.` removed. Raises `SelbenchError` for
    a missing file or one that holds no tensors by name.
    """
    if not path.is_file():
        raise SelbenchError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as problem:
        reason = str(problem) or type(problem).__name__  # an empty file's error says nothing
        raise _not_weights(path, reason.splitlines()[0]) from problem
    except Exception as problem:  # torch.load's unpickler raises whatever the bytes provoke
        raise _not_weights(path, f"{type(problem).__name__}") from problem
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise _not_weights(path, "it holds no tensors by name")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model`, as `build_model` returns it, from a checkpoint of it or of its `network` alone.

    Raises:
        SelbenchError: naming the first missing and the first unexpected entry, or a shape that
            does not fit.
    """
    state = read_state(path)
    whole = any(name.startswith("network.") for name in state)
    target = model if whole else model.get_submodule("network")
    expected = target.state_dict()
    # Batch norm's counters do not touch evaluation; checkpoints of before torch 0.4.1 lack them.
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in state and name not in counters]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        raise SelbenchError(
            f"{path} does not fit the model: first missing {(missing or ['none'])[0]}, first "
            f"unexpected {(unexpected or ['none'])[0]}; choose the architecture it was trained with"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise SelbenchError(
                f"{path} does not fit the model: {name} is {tuple(tensor.shape)}, the model's is "
                f"{tuple(expected[name].shape)}; choose the architecture it was trained with"
            )
    target.load_state_dict(state, strict=False)


def _not_weights(path: Path, reason: str) -> SelbenchError:
    return SelbenchError(
        f"{path} is no safetensors file and no state dict that torch.load(weights_only=True) "
        f"accepts ({reason}); save model.state_dict()"
    )
