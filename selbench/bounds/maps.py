"""The kinds of maps between values, and the calls of operations that rules make them of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selbench.bounds import rounding
from selbench.bounds.program import Operation, Ref, not_bounded

Transposed = Callable[[Tensor, tuple[torch.Size, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Affine:
    """A map x -> A x + b of one or several inputs, each with a batch dimension.

    Attributes:
        inputs: places of the inputs.
        linear: computes A x.
        size: computes |A| r for r >= 0.
        constant: b, with a batch dimension of 1; None for 0.
        transposed: computes A^T y, one value for each input, if there is a faster way than
            autograd.
        single: the map of intervals in float32, with its rounding; None if only float64 will do.
        scaled: returns the map followed by x * scale + constant, both of one number a channel.
    """

    inputs: tuple[int, ...]
    linear: Callable[..., Tensor]
    size: Callable[..., Tensor]
    constant: Tensor | None = None
    transposed: Transposed | None = None
    single: rounding.Single | None = None
    scaled: Callable[[Tensor, Tensor], "Affine"] | None = None

    def adjoint(self, outer: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
        """Return A^T y for each input; `shapes` are the inputs' without the batch dimension."""
        if self.transposed is not None:
            return self.transposed(outer, shapes)
        with torch.enable_grad():
            zeros = [outer.new_zeros(len(outer), *each, requires_grad=True) for each in shapes]
            # A product instead of `grad_outputs`, for which torch would import sympy for seconds.
            return torch.autograd.grad((self.linear(*zeros) * outer).sum(), zeros)


@dataclass(frozen=True)
class ReLU:
    """The larger of 0 and x."""

    inputs: tuple[int]


@dataclass(frozen=True)
class Rising:
    """A map whose outputs never fall when an input rises, such as max pooling."""

    inputs: tuple[int]
    apply: Callable[[Tensor], Tensor]


Map = Affine | ReLU | Rising


@dataclass(frozen=True)
class Call:
    """An operation with its constants filled in.

    Attributes:
        operation: with `Ref`s for arguments that depend on the images.
        args: its arguments; constants are tensors of the dtype to compute with.
        batch: how many images were recorded.
        shapes: shapes of the values that `Ref`s refer to, without the batch dimension.
        before: earlier maps that this one may join.
    """

    operation: Operation
    args: tuple[Any, ...]
    batch: int
    shapes: dict[int, torch.Size]
    kwargs: dict[str, Any] = field(default_factory=dict)
    before: Mapping[int, "Map"] = field(default_factory=dict)

    @property
    def first(self) -> tuple[int]:
        """The place of the first argument, the only one that may depend on the images."""
        rest = [each for each in (*self.args[1:], *self.kwargs.values()) if isinstance(each, Ref)]
        if not isinstance(self.args[0], Ref) or rest:
            raise self.refused("with several operands that depend on the images")
        return (self.args[0].place,)

    @property
    def shape(self) -> torch.Size:
        """The shape of the result for one image."""
        return self.operation.shape[1:]

    def refused(self, reason: str = "") -> Exception:
        """Return the error that refuses this operation."""
        return not_bounded(self.operation, reason)

    def one(self, constant: Any) -> Tensor:
        """Return a constant in a shape that suits any number of images."""
        if not isinstance(constant, Tensor):
            return torch.tensor(float(constant), dtype=torch.float64)
        if constant.ndim == len(self.operation.shape) and len(constant) == self.batch > 1:
            if not bool((constant == constant[:1]).all()):
                raise self.refused("with another number for each image")
            return constant[:1]
        return constant
