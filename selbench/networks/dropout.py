"""Dropout as randomness of a network: each draw of its masks is a network of its own."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from selbench._kit.errors import NotRandomError
from selbench._kit.randomness import seeded
from selbench._kit.types import Images, Logits

SPATIAL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # drop complete channels
KNOWN = (nn.Dropout, *SPATIAL)


def dropouts(network: nn.Module) -> list[_DropoutNd]:
    """Return the dropout modules of a network that drop anything.

    Raises:
        NotRandomError: for a dropout that does more than set values to 0.
    """
    found = [each for each in network.modules() if isinstance(each, _DropoutNd) and each.p > 0]
    for each in found:
        if not isinstance(each, KNOWN):
            raise NotRandomError(
                f"draws of {type(each).__name__} are not known, only those of Dropout, Dropout1d, "
                "Dropout2d and Dropout3d"
            )
    return found


class Drawn(nn.Module):
    """A copy of a network in evaluation mode, with dropout active but fixed.

    All images share the masks of a draw, so that a draw is a deterministic network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self._number = self._calls = 0
        self._masks: list[Tensor] = []
        for each in dropouts(self.network):
            each.register_forward_hook(self._drop)

    @torch.no_grad()
    def draw(self, number: int, images: Images) -> None:
        """Make the masks of a draw; some images show their shapes."""
        self._number, self._masks = number, []
        self(images[:1])

    def forward(self, images: Images) -> Logits:
        """Return the logits of the current draw."""
        self._calls = 0
        logits: Logits = self.network(images)
        return logits

    def _drop(self, module: _DropoutNd, given: tuple[Tensor], kept: Tensor) -> Tensor:
        place, self._calls = self._calls, self._calls + 1
        if place == len(self._masks):
            self._masks.append(_mask(module, kept, self._number, place))
        return kept * self._masks[place]


def _mask(module: _DropoutNd, values: Tensor, number: int, place: int) -> Tensor:
    """Return factors for one image: 0, or what keeps the mean."""
    shape = values.shape[1:]
    if isinstance(module, SPATIAL):
        shape = torch.Size([shape[0], *(1 for _ in shape[1:])])
    chances = torch.rand(1, *shape, generator=seeded(f"dropout/{number}", place))
    kept = (chances >= module.p) / max(1 - module.p, torch.finfo(torch.float32).tiny)
    return kept.to(values)
