"""Derivatives of a network with respect to its input image, many in one pass."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selbench._kit.chunks import gradient_chunk
from selbench._kit.types import Images
from selbench.analyses.layers import as_images, recording, units_of
from selbench.attacks.folding import folded

Args = ParamSpec("Args")
Result = TypeVar("Result")
Copies = Float[Tensor, "rows 3 height width"]  # copies of a batch of images, one after another


def differentiable(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Make a function compute derivatives even in inference mode; uint8 images become [0, 1].

    Under `torch.inference_mode` torch would report all derivatives as zero.
    """

    @wraps(function)
    def outside(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        with torch.inference_mode(False), torch.enable_grad():
            usual = (_usual(each) for each in args)
            named = {name: _usual(each) for name, each in kwargs.items()}
            return function(*usual, **named)  # type: ignore[arg-type]  # tensors stay tensors

    return outside


def _usual(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    tensor = value.clone() if value.is_inference() else value
    return as_images(tensor) if tensor.dtype == torch.uint8 else tensor


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose parameters have no gradients."""
    module = copy.deepcopy(model).eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)


def quickened(module: nn.Module, images: Images) -> nn.Module:
    """Return the network without batch norms that can be folded into convolutions.

    Return `module` itself if that would change a layer's units, because other modules use a
    convolution's output too.
    """
    quick = folded(module, images[:2]).requires_grad_(False)
    if quick is module:
        return module
    before, after = _units(module, images[:2]), _units(quick, images[:2])
    same = (
        torch.allclose(b, a, 1e-3, 1e-3 * float(b.abs().max()))
        for b, a in zip(before, after, strict=True)
    )
    return quick if all(same) else module


@torch.no_grad()
def _units(module: nn.Module, images: Images) -> list[Tensor]:
    with recording(module, None, units_of) as units:
        module(images)
    return units


def copies_for(images: Images) -> int:
    """Return how many copies of the images fit into one pass."""
    return max(1, gradient_chunk(images) // len(images))


def copied(images: Images, copies: int) -> Copies:
    """Repeat images, so that one backward pass handles as many vectors; they require gradients.

    Larger passes need less time per row, and the graph is built only once.
    """
    rows = images.detach().repeat(copies, 1, 1, 1)
    return rows.contiguous(memory_format=torch.channels_last).requires_grad_()


def pulled_back(
    outputs: Float[Tensor, "rows outputs"],
    points: Copies,
    vectors: Float[Tensor, "vectors batch outputs"],
) -> Iterator[Float[Tensor, "few batch pixels"]]:
    """Yield the vector-Jacobian products of all vectors in order, one pass at a time.

    Args:
        outputs: a network's outputs for `points`.
        points: copies of a batch of images, from `copied`.
        vectors: vectors for each of the batch's images.
    """
    batch = vectors.shape[1]
    copies = len(points) // batch
    for few in vectors.split(copies):
        seed = outputs.new_zeros(copies, *few.shape[1:])
        seed[: len(few)] = few
        if outputs.requires_grad:
            (products,) = torch.autograd.grad(
                outputs, points, seed.flatten(0, 1), retain_graph=True, materialize_grads=True
            )
        else:  # the outputs do not depend on the image
            products = torch.zeros_like(points)
        yield products.reshape(copies, batch, -1)[: len(few)]


_FORWARD = Lock()


@contextmanager
def forward_mode() -> Iterator[None]:
    """Silence torch's warnings about its own torch.jit and about a slow pooling.

    Only one thread at a time: torch's levels of forward mode and Python's filters of warnings are
    shared by all threads.
    """
    with _FORWARD, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield
