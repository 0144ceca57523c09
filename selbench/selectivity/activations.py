"""Activation functions, and which of them are never negative."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_NEVER_NEGATIVE = {"relu", "relu6", "sigmoid", "expit", "hardsigmoid", "softplus"}
_CLAMPS = {"clamp", "clip", "clamp_min", "hardtanh"}
_MAXIMA = {"maximum", "max", "fmax"}
_SIGNED = {
    *("gelu", "silu", "hardswish", "mish", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu"),
    *(
        "tanh",
        "tanhshrink",
        "logsigmoid",
        "softsign",
        "softshrink",
        "hardshrink",
        "log_sigmoid",
        "glu",
    ),
}


def activation(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, bool] | None:
    """Return an activation's name and whether it is never negative; None for other functions.

    A clamp, a threshold and a maximum are activations if they cut at 0.
    """
    name = getattr(function, "__name__", "").strip("_").removeprefix("special_")
    if name in _NEVER_NEGATIVE or name in _SIGNED:
        return name, name in _NEVER_NEGATIVE
    if name in _CLAMPS:
        low = _argument("min_val" if name == "hardtanh" else "min", -1.0, args, kwargs)
        if isinstance(low, int | float) and (low == 0 or (name == "hardtanh" and low > 0)):
            return name, True
        return (name, False) if name == "hardtanh" else None
    if name == "threshold":
        cut, value = (*args[1:], kwargs.get("threshold"), kwargs.get("value"))[:2]
        return (name, True) if cut >= 0 and value >= 0 else None
    if name in _MAXIMA and len(args) == 2 and isinstance(args[1], Tensor):
        return (name, True) if any(_zero(each) for each in args) else None
    return None


def _argument(name: str, usual: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs.get(name, args[1] if len(args) > 1 else usual)


@torch.no_grad()
def _zero(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and not tensor.is_meta and not bool(tensor.any())
