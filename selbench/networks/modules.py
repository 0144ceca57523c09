"""Accept a module as a network: unwrap it, or raise with advice."""

import copy
import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.types import Pixels, to_images
from selbench.networks.logits import USUAL, named


def module_of(model: object) -> nn.Module:
    """Return a module, without the wrappers of DataParallel and `torch.compile`.

    Raises:
        SelbenchError: for anything but a network, with what to do.
    """
    if isinstance(model, ExportedProgram):
        return module_of(model.module())
    if isinstance(model, fx.GraphModule):
        return copy.deepcopy(model)  # without the function by which exported programs refuse eval()
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = model.module
    if isinstance(inner, nn.Module):
        return module_of(inner)
    if isinstance(model, nn.Module):
        return model
    raise SelbenchError(f"model is a network, a torch.nn.Module, got {_advice(model)}")


def _advice(model: object) -> str:
    """Return what was given instead of a network, and what to do."""
    if isinstance(model, type):
        return f"the class {model.__name__}; make one of it: {model.__name__}(...)"
    if inspect.isroutine(model):
        return (
            f"the function {model.__name__}; call it where it builds the network, or wrap what it "
            "computes in a torch.nn.Module"
        )
    if isinstance(model, os.PathLike):
        return f"the path {model}; build the network, and load the file into it"
    if isinstance(model, Mapping):
        return "a mapping, such as a state dict; load it into its network"
    if isinstance(model, list | tuple):
        return f"{len(model)} of them in a {type(model).__name__}; give one at a time"
    return f"a {type(model).__name__}; wrap the function from images to logits in a torch.nn.Module"


def evaluation_copy(model: nn.Module, name: str) -> nn.Module:
    """Return a copy on the CPU in evaluation mode; the user's network does not change."""
    try:
        with torch.no_grad():  # else copies would share the weights of a script
            copied: Any = copy.deepcopy(model).cpu()
    except (RuntimeError, TypeError) as problem:
        reason = in_short(problem)
        raise SelbenchError(
            f"{name} cannot be copied ({reason}); build a new one and load its state_dict()"
        ) from problem
    return copied.eval()  # type: ignore[no-any-return]


def outputs_of(model: nn.Module | None, pixels: Pixels) -> int | None:
    """Return the number of a network's outputs for images; None if it rejects them."""
    if model is None:
        return None
    try:
        with torch.no_grad():
            logits = evaluation_copy(model, "")(to_images(pixels))
    except Exception:  # the probe says what is wrong with it
        return None
    if not isinstance(logits, torch.Tensor):
        rows = [each for each in named(logits).values() if isinstance(each, torch.Tensor)]
        logits = named(logits).get(USUAL, rows[0] if len(rows) == 1 else None)
    known = isinstance(logits, torch.Tensor) and logits.ndim == 2
    return int(logits.shape[1]) if known else None
