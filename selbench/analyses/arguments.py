"""Checks the arguments of all public analyses by their names."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from selbench._kit.chunks import sizes_of
from selbench._kit.device import usual_settings
from selbench._kit.errors import SelbenchError, naming_arguments, unknown

P = ParamSpec("P")
R = TypeVar("R")
SLACK = 1e-3  # tolerance of images outside [0, 1]
CHOICES = {"columns": ("units", "maps"), "estimator": ("exact", "probes")}
WHOLE = {
    "classes": 1,
    "bins": 1,
    "rotations": 1,
    "probes": 1,
    "projections": 1,
    "shuffles": 0,
    "seed": 0,
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function check its arguments, and compute in float32."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> R:
        try:
            arguments = signature.bind(*positional, **named).arguments
        except TypeError as problem:
            raise SelbenchError(f"{function.__name__}: {problem}") from problem
        _check(arguments)
        model = arguments.get("model")
        sizes = sizes_of(model) if model is not None else nullcontext()
        with naming_arguments(), usual_settings(), sizes:
            return function(*positional, **named)

    return call


def _check(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if name == "model" and not isinstance(value, nn.Module):
            raise SelbenchError(f"model is a torch.nn.Module, got a {type(value).__name__}")
        if name in ("images", "perturbed"):
            _check_images(name, value)
        elif name in ("labels", "examples") and value is not None:
            _check_numbers(name, value, len(arguments.get("images", arguments.get("units", value))))
        elif name in CHOICES and value not in CHOICES[name]:
            raise unknown(name, str(value), CHOICES[name])
        elif name in WHOLE and value is not None:
            if type(value) is not int or value < WHOLE[name]:
                raise SelbenchError(
                    f"{name} is a whole number, at least {WHOLE[name]}, got {value!r:.40}"
                )
        elif name == "layers" and value is not None:
            _check_pattern(value)


def _check_images(name: str, images: object) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(getattr(images, "shape", ()))
        raise SelbenchError(
            f"{name} is a tensor of batch x 3 x height x width, got a {type(images).__name__} of "
            f"{shape}"
        )
    if images.dtype == torch.uint8 or not images.numel():
        return
    if not images.is_floating_point():
        raise SelbenchError(f"{name} are floats in [0, 1], got {images.dtype}; divide by 255")
    low, high = images.min().item(), images.max().item()
    if high > 1 + SLACK:  # NaN is found later, in activations
        cure = "divide by 255" if low >= 0 else "normalise in the network, not before it"
        raise SelbenchError(f"{name} are in [0, 1], got values of {low:.4g} to {high:.4g}; {cure}")


def _check_numbers(name: str, numbers: object, count: int) -> None:
    if not isinstance(numbers, Tensor) or numbers.dtype != torch.int64 or numbers.ndim != 1:
        kind = getattr(numbers, "dtype", type(numbers).__name__)
        shape = tuple(getattr(numbers, "shape", ()))
        raise SelbenchError(
            f"{name} are whole numbers, one for each image in a tensor of int64, got {kind} of "
            f"{shape}; convert them with .long()"
        )
    if len(numbers) != count:
        raise SelbenchError(f"there are {count} images, {len(numbers)} {name}; give one for each")


def _check_pattern(layers: object) -> None:
    if not isinstance(layers, str):
        raise SelbenchError(
            f"layers is a regular expression of modules' names, got a {type(layers).__name__}"
        )
    try:
        re.compile(layers)
    except re.error as problem:
        raise SelbenchError(f"layers {layers!r} is no regular expression: {problem}") from problem
