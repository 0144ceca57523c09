"""Images and networks as plain arrays, which processes of one machine can share.

An array in shared memory is read-only, and writing to it kills the process. Images and parameters
are only read; buffers are copied, since a network may write to them.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selbench.datasets import Split

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class PackedTensor:
    """A tensor's numbers in memory order, with their layout."""

    flat: Array
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "PackedTensor":
        """Pack a tensor on the CPU; it is copied only if its memory has gaps."""
        tensor = tensor.detach()
        order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
        if not tensor.permute(order).is_contiguous():
            tensor = tensor.contiguous()
        flat = tensor.as_strided((tensor.numel(),), (1,))
        packed = flat.view(torch.uint8).numpy()  # NumPy lacks bfloat16
        return cls(packed, tensor.dtype, tuple(tensor.shape), tensor.stride())

    def tensor(self) -> Tensor:
        """Return the tensor, with its original strides; it shares memory with `flat`."""
        flat = torch.from_numpy(self.flat).view(self.dtype)
        return flat.as_strided(self.shape, self.strides)


@dataclass(frozen=True)
class PackedSplit:
    """A split as arrays that processes can share."""

    images: PackedTensor
    labels: PackedTensor
    examples: PackedTensor
    checksum: str

    @classmethod
    def of(cls, split: Split) -> "PackedSplit":
        """Pack a split on the CPU."""
        of = PackedTensor.of
        return cls(of(split.images), of(split.labels), of(split.examples), split.checksum)

    def split(self) -> Split:
        """Return the split, on the CPU."""
        packed = (self.images, self.labels, self.examples)
        with _reading():
            images, labels, examples = (each.tensor() for each in packed)
        return Split(images, labels, examples, self.checksum)


@dataclass(frozen=True)
class PackedNetwork:
    """A network without its numbers, and the numbers of its parameters and buffers in order."""

    skeleton: nn.Module
    tensors: list[PackedTensor]

    @classmethod
    def of(cls, network: nn.Module) -> "PackedNetwork":
        """Pack a network on the CPU."""
        tensors = [PackedTensor.of(tensor) for _, _, tensor in _tensors(network)]
        hollow: dict[int, Any] = {}
        for _, _, tensor in _tensors(network):
            empty = torch.empty(0, dtype=tensor.dtype)
            trained = isinstance(tensor, nn.Parameter)
            hollow[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if trained else empty
        return cls(copy.deepcopy(network, hollow), tensors)

    def network(self) -> nn.Module:
        """Return the network; its parameters share memory with the packed arrays."""
        found: dict[int, Tensor] = {}  # a tensor that is used in two places stays one
        empties = list(_tensors(self.skeleton))
        with _reading():
            for (places, name, empty), packed in zip(empties, self.tensors, strict=True):
                if id(empty) not in found:
                    found[id(empty)] = _filled(empty, packed.tensor())
                places[name] = found[id(empty)]
        return self.skeleton


def _filled(empty: Tensor, tensor: Tensor) -> Tensor:
    if isinstance(empty, nn.Parameter):
        return nn.Parameter(tensor, empty.requires_grad)
    return tensor.clone()


@contextmanager
def _reading() -> Iterator[None]:
    """Silence torch's warning about read-only arrays."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        yield


def _tensors(network: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Yield each parameter and buffer, with the dictionary and the name that hold it."""
    for module in network.modules():
        for places in (module._parameters, module._buffers):
            for name, tensor in list(places.items()):
                if tensor is not None:
                    yield places, name, tensor
