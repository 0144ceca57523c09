"""AugMix: images mixed with chains of operations on themselves.

Hendrycks et al., 2020, arXiv:1912.02781, with torchvision's operations and the paper's settings:
severity 3, 3 chains of 1 to 3 operations, uniform proportions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.overrides import TorchFunctionMode

from selbench._kit.randomness import dice
from selbench._kit.types import Pixels

ALIKE = 8  # images with the same operations, in different proportions
CHAINS, SEVERITY = 3, 3

Part = UInt8[Tensor, "_ 3 height width"]  # a few images, or all of several parts
Operation = tuple[str, float]  # torchvision's name, and its magnitude
Chain = Sequence[Operation]


@dataclass(frozen=True)
class _Mixture:
    """What is drawn for `ALIKE` images.

    Attributes:
        chains: the chains of operations.
        shares: share of the image, then of each chain's result.
    """

    chains: Sequence[Chain]
    shares: Float[Tensor, "alike 4"]


def mixtures(pixels: Pixels, generator: torch.Generator, count: int) -> list[Pixels]:
    """Return `count` batches of mixtures of the images.

    They are those of torchvision's `AugMix` on `ALIKE` images at a time. But on a GPU, which then
    starts few kernels, an operation is applied at once to all images that have it at one place of a
    chain.
    """
    mixture = [each for _ in range(count) for each in _drawn(pixels, generator)]
    parts = pixels.split(ALIKE) * count
    together = 1 if pixels.device.type == "cpu" else len(parts)  # what fits into a CPU's cache
    places = [slice(first, first + together) for first in range(0, len(parts), together)]
    mixed = torch.cat([_mixed(parts[place], mixture[place]) for place in places])
    return list(mixed.split(len(pixels)))


def _mixed(parts: Sequence[Part], mixture: Sequence[_Mixture]) -> Part:
    results = _applied([each.chains for each in mixture], parts)
    images = torch.cat(tuple(parts))
    shares = torch.cat([each.shares for each in mixture]).to(images.device, non_blocking=True)
    own, *weights = shares.view(-1, CHAINS + 1, 1, 1, 1).unbind(1)
    mixed = own * images
    for weight, result in zip(weights, results, strict=True):
        mixed += weight * torch.cat(result)
    return mixed.to(images.dtype)


def _drawn(pixels: Pixels, generator: torch.Generator) -> list[_Mixture]:
    """Draw mixtures of all images, on the CPU: draws of a GPU depend on its size."""
    height, width = pixels.shape[2:]
    seed = torch.randint(2**62, (), generator=generator)
    with dice(int(seed)):
        return [_mixture(len(part), height, width) for part in pixels.split(ALIKE)]


def _mixture(alike: int, height: int, width: int) -> _Mixture:
    own, mixed = torch._sample_dirichlet(torch.ones(alike, 2)).split(1, 1)
    weights = torch._sample_dirichlet(torch.ones(alike, CHAINS)) * mixed
    chains = [
        [_operation(height, width) for _ in range(int(torch.randint(1, 4, (1,))))]
        for _ in range(CHAINS)
    ]
    return _Mixture(chains, torch.cat([own, weights], 1))


def _operation(height: int, width: int) -> Operation:
    from torchvision.transforms.v2 import AugMix

    space = AugMix._PARTIAL_AUGMENTATION_SPACE
    name = list(space)[int(torch.randint(len(space), ()))]
    make, signed = space[name]
    magnitudes = make(10, height, width)
    if magnitudes is None:
        return name, 0.0
    magnitude = float(magnitudes[int(torch.randint(SEVERITY, ()))])
    return name, -magnitude if signed and torch.rand(()) <= 0.5 else magnitude


def _applied(chains: Sequence[Sequence[Chain]], parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Return the results of each chain, one for each of `parts`."""
    from torchvision.transforms.v2 import AugMix

    apply = AugMix(all_ops=False)._apply_image_or_video_transform
    now = dict[tuple[int, int], Part]()  # by place of the part and of the chain
    for place, (part, part_chains) in enumerate(zip(parts, chains, strict=True)):
        now |= {(place, number): part for number in range(len(part_chains))}
    for operations in zip_longest(*(chains[place][number] for place, number in now)):
        alike = defaultdict[Operation, list[tuple[int, int]]](list)
        for key, operation in zip(now, operations, strict=True):
            if operation is not None:
                alike[operation].append(key)
        for (name, magnitude), keys in alike.items():
            every = [now[key] for key in keys]
            images = torch.cat(every) if len(every) > 1 else every[0]
            with nullcontext() if images.device.type == "cpu" else _Ahead():
                done = apply(images, name, magnitude, interpolation="bilinear", fill={})
            now |= dict(zip(keys, done.split([len(each) for each in every]), strict=True))
    return [tuple(now[place, number] for place in range(len(parts))) for number in range(CHAINS)]


class _Ahead(TorchFunctionMode):
    """Makes small tensors on the CPU and copies them to the GPU without waiting for it."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `function`, but replace `torch.tensor`."""
        kwargs = dict(kwargs or {})
        if function is not torch.tensor or kwargs.get("device") is None:
            return function(*args, **kwargs)
        return function(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"], non_blocking=True)
