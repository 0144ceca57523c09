"""Which of a network's outputs are the logits, where it returns several: a dict, a tuple, a record.

A record is what Hugging Face calls ModelOutput, or a dataclass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.types import Images, Logits, to_images
from selbench.datasets import Dataset

USUAL = "logits"  # what most networks call them


class Chosen(nn.Module):
    """A network that returns several outputs, and which of them are taken."""

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network = network
        self.key = key

    def forward(self, images: Images) -> Logits:
        logits: Logits = named(self.network(images))[self.key]
        return logits

    def extra_repr(self) -> str:
        """Name the output, which tells networks apart."""
        return f"key={self.key!r}"


def chosen(network: nn.Module, key: str | None) -> nn.Module:
    """Return a network that returns one of its outputs; as it is where no key is given."""
    return network if key is None else Chosen(network, key).eval()


def named(outputs: Any) -> dict[str, Any]:
    """Return what a network returned by names, or by numbers from 0; {} for what has no parts."""
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
    """Return which output of a network to take; None where it returns a tensor, or fails.

    Args:
        network: images in.
        dataset: two of whose test images it is given.
        name: of the network, for messages.
        key: that the user named.
        mapped: whether a class map says which outputs are classes, so that there may be more.

    Raises:
        SelbenchError: for a key that it lacks, and where several outputs may be the logits.
    """
    images = to_images(dataset.test.images[:2].cpu())
    try:
        with torch.no_grad():
            outputs = network(images)
    except (Exception, SystemExit):  # the probe says what is wrong with it
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
    """Return the only output that may be logits of so many images; None where none may."""
    rows = {key: value for key, value in found.items() if _is_rows(value, count)}
    fitting = {key: value for key, value in rows.items() if value.shape[1] == classes} or rows
    if len(fitting) < 2:
        return next(iter(fitting), None)
    if USUAL in fitting:
        return USUAL
    keys = list(fitting)
    raise SelbenchError(
        f"{name} returns several outputs that may be logits ({', '.join(keys)}); say which with "
        f"--logits, such as --logits {keys[0]}, or have it return these alone"
    )


def _is_rows(value: object, count: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == 2
        and len(value) == count
        and value.is_floating_point()
    )
