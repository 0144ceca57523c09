"""Weights from files: safetensors, or state dicts of torch; never a pickle that runs code."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from selbench.errors import SelbenchError

NESTS = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep the weights
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.")  # of DataParallel, compile and the like


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a state dict saved by torch (never unpickled as code).

    Where training scripts keep the weights beside other things, in one of `NESTS`, they are
    unwrapped. Raises `SelbenchError` for a missing file or one that holds no tensors by name.
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
    if isinstance(content, Mapping):
        nests = [content[name] for name in NESTS if isinstance(content.get(name), Mapping)]
        content = nests[0] if nests else content
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise _not_weights(path, "it holds no tensors by name")
    return {str(name): tensor for name, tensor in content.items()}


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a network from a checkpoint of it; what `build_model` returns, from its `network` too.

    Prefixes that wrappers put before every name are taken off.

    Raises:
        SelbenchError: naming the first missing and the first unexpected entry, or a shape that
            does not fit.
    """
    state = read_state(path)
    target = model
    inner = getattr(model, "network", None)
    if isinstance(inner, nn.Module) and not _unwrapped(state, model).keys() & model.state_dict():
        target = inner
    state = _unwrapped(state, target)
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


def recognised_options(path: Path) -> dict[str, str | int]:
    """Return the options of CIFAR's ResNets that a checkpoint of one was trained with."""
    state = read_state(path)
    convolutional = any(name.endswith(".shortcut.0.weight") for name in state)
    options: dict[str, str | int] = {"shortcut": "B" if convolutional else "A"}
    firsts = sorted((name for name in state if name.endswith("conv1.weight")), key=len)
    if firsts and state[firsts[0]].ndim == 4:
        options["width"] = len(state[firsts[0]])
    return options


def outputs_in(path: Path, model: nn.Module) -> int | None:
    """Return how many outputs the network of a checkpoint has; None where that is not seen.

    It is the size of the last linear layer; `model` is the architecture, with any number.
    """
    heads = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    state = read_state(path)
    names = [n for n in state if heads and f".{n}".endswith(f".{heads[-1]}.weight")]
    return len(state[names[0]]) if names else None


def _unwrapped(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Take wrappers' prefixes off while no name is one of `model`."""
    expected = model.state_dict().keys()
    while state and not state.keys() & expected:
        prefixes = [p for p in WRAPPERS if all(name.startswith(p) for name in state)]
        if not prefixes:
            break
        state = {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items()}
    return state


def _not_weights(path: Path, reason: str) -> SelbenchError:
    return SelbenchError(
        f"{path} is no safetensors file and no state dict that torch.load(weights_only=True) "
        f"accepts ({reason}); save model.state_dict()"
    )
