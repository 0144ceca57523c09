"""Folds batch norms into the convolutions before them: faster, with equal logits."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from selbench._kit.types import Images

TOLERANCE = 1e-3  # relative to the largest logit; covers rounding in another order


class Searched(nn.Module):
    """Another network for the search for errors, instead of the original one.

    Attributes:
        given: the original network, which decides whether a point is an error.
        drawn: whether it is random, so that an error in the search may be chance.
    """

    def __init__(self, search: nn.Module, given: nn.Module, drawn: bool = False) -> None:
        super().__init__()
        self.search, self.given, self.drawn = search, given, drawn

    def forward(self, images: Images) -> Tensor:
        logits: Tensor = self.search(images)
        return logits


def searched(network: nn.Module, images: Images) -> nn.Module:
    """Return the network to search with, tested on a few `images`."""
    search = folded(network, images)
    return network if search is network else Searched(search, network)


def as_given(network: nn.Module) -> nn.Module:
    """Return the original network of one that is searched with."""
    return network.given if isinstance(network, Searched) else network


def folded(network: nn.Module, images: Images) -> nn.Module:
    """Return a copy of `network`, in evaluation mode, with its batch norms folded away.

    Running a few `images` shows which batch norms follow a convolution, so this works for any
    module. `network` itself is returned if there is nothing to fold, or if the copy's logits
    differ.
    """
    copied = copy.deepcopy(network)  # other threads may use `network` meanwhile
    pairs = _pairs(copied, images)
    if not pairs:
        return network
    for convolution_name, norm_name in pairs.items():
        convolution, norm = map(copied.get_submodule, (convolution_name, norm_name))
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        copied.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        copied.set_submodule(norm_name, nn.Identity())
    with torch.inference_mode():
        before, after = network(images), copied(images)
    furthest = (before - after).abs().max()
    return copied if furthest <= TOLERANCE * before.abs().max() else network


def _pairs(network: nn.Module, images: Images) -> dict[str, str]:
    """Return the convolutions whose output goes directly into a batch norm, with it, by name.

    Left out are modules that are called more than once, and batch norms that keep no statistics or
    use those of the batch: a network may set its own into training mode.
    """
    made: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, nn.Conv2d) and not is_parametrized(module):
                made[id(output)] = name, output  # kept alive, so that no other tensor gets its id
            elif inputs and id(inputs[0]) in made and _stored(module):
                pairs[made[id(inputs[0])][0]] = name

        return module.register_forward_hook(hook)

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [watch(name, m) for name, m in network.named_modules() if isinstance(m, kinds)]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for each in hooks:
            each.remove()
    return {c: n for c, n in pairs.items() if calls[c] == calls[n] == 1}


def _stored(norm: nn.Module) -> bool:
    """Return whether a batch norm uses stored statistics."""
    return norm.running_mean is not None and not norm.training
