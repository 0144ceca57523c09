"""Find the logits of a network that returns several outputs: a dict, a tuple or a record.

A record is a dataclass, or a ModelOutput of Hugging Face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.types import Images, Logits, to_images
from selbench.datasets import Dataset

USUAL = "logits"  # their usual name


class Chosen(nn.Module):
    """Wraps a network with several outputs, and returns the output `key`."""

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network = network
        self.key = key

    def forward(self, images: Images) -> Logits:
        logits: Logits = named(self.network(images))[self.key]
        return logits

    def extra_repr(self) -> str:
        """Return the key of the output, which is part of the network's identity."""
        return f"key={self.key!r}"


def chosen(network: nn.Module, key: str | None) -> nn.Module:
    """Return a network that returns one of its outputs; unchanged without a key."""
    return network if key is None else Chosen(network, key).eval()


def named(outputs: Any) -> dict[str, Any]:
    """Return the outputs by name, or by number from 0; {} for a single output."""
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return dict(zip(outputs._fields, outputs, strict=True))
    if isinstance(outputs, Sequence) and not isinstance(outputs, str | bytes):
        return {str(place): value for place, value in enumerate(outputs)}
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return {each.name: getattr(outputs, each.name) for each in fields(outputs)}
    return {}


def key_of(
    network: nn.Module, dataset: Dataset, name: str, key: str | None, mapped: bool = False
) -> str | None:
    """Return the key of a network's logits; None if it returns one tensor, or fails.

    Args:
        network: the network.
        dataset: the data set, of which two test images are used.
        name: the name of the network, for messages.
        key: the user's choice.
        mapped: whether there is a class map, so that there may be more outputs than classes.

    Raises:
        SelbenchError: for an unknown key, and if several outputs may be the logits.
    """
    images = to_images(dataset.test.images[:2].cpu())
    try:
        with torch.no_grad():
            outputs = network(images)
    except (Exception, SystemExit):  # the probe reports the error
        return None
    found = {} if isinstance(outputs, Tensor) else named(outputs)
    if key is not None:
        if not found:
            kind = type(outputs).__name__
            raise SelbenchError(f"{name} returns one {kind}; leave --logits {key} out")
        if key not in found:
            raise unknown(f"output of {name} in --logits", key, found)
        return key
    return _obvious(found, name, len(images), None if mapped else len(dataset.classes))


def _obvious(found: Mapping[str, Any], name: str, count: int, classes: int | None) -> str | None:
    """Return the only output that may be logits; None if there is none."""
    rows = {key: value for key, value in found.items() if _is_rows(value, count)}
    fitting = {key: value for key, value in rows.items() if value.shape[1] == classes} or rows
    if len(fitting) < 2:
        return next(iter(fitting), None)
    if USUAL in fitting:
        return USUAL
    keys = list(fitting)
    raise SelbenchError(
        f"{name} returns several outputs that may be logits ({', '.join(keys)}); choose one with "
        f"--logits, such as --logits {keys[0]}, or return only the logits"
    )


def _is_rows(value: object, count: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == 2
        and len(value) == count
        and value.is_floating_point()
    )
