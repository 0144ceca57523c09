"""The regulariser: its layers, its strength and its value for a batch."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Images, Labels
from selbench.selectivity import RecordedUnits, mean_selectivity, running
from selbench.study import Recipe

_ENDS = re.compile(r"(first|last) ([1-9]\d*)")


class Regulariser:
    """The term to subtract from the loss: `strength` times `selectivity` of a batch.

    Leavitt & Morcos, 2020, arXiv:2003.01262.

    Args:
        recipe: its layers, epsilon, index_batch and ramp_epochs are used.
        alpha: the strength; negative to discourage selectivity. With 0 nothing is recorded.
        calls: the names of the modules that call a ReLU, in order of calls.

    Raises:
        SelbenchError: if `recipe.layers` names none of them.
    """

    def __init__(self, recipe: Recipe, alpha: float, calls: Sequence[str]) -> None:
        self.alpha = alpha
        self.recipe = recipe
        self._usual = False  # whether every layer is a plain ReLU: known after the first batch
        self._first: RecordedUnits | None = None
        self._places = None if recipe.layers is None else _places(recipe.layers, calls)

    def recorded(self) -> RecordedUnits:
        """Return a context that collects the units for `selectivity`."""
        if self._first:  # the first batch has passed; its units are no longer needed
            self._usual, self._first = self._first.usual, None
        follow = bool(self.alpha) and not self._usual
        found = RecordedUnits(wanted=self._places if self.alpha else (), follow=follow)
        self._first = found if follow else None
        return found

    def strength(self, epoch: float) -> float:
        """Return alpha at `epoch`, counted from 0, with fractions within an epoch."""
        ramp = self.recipe.ramp_epochs
        return self.alpha * min(1.0, epoch / ramp) if ramp else self.alpha

    def selectivity(
        self, layers: Sequence[Float[Tensor, "batch _"]], labels: Labels, classes: int
    ) -> Float[Tensor, ""]:
        """Return the batch's mean index, or that of its parts of `index_batch` images."""
        size = self.recipe.index_batch or len(labels)
        parts = zip(labels.split(size), *(units.split(size) for units in layers), strict=True)
        epsilon = self.recipe.epsilon
        return torch.stack(
            [mean_selectivity(part, part_labels, classes, epsilon) for part_labels, *part in parts]
        ).mean()


@torch.no_grad()
def relu_calls(model: nn.Module, images: Images) -> list[str]:
    """Return the names of the modules that call a ReLU in a forward pass of `images`, in order."""
    calls: list[str] = []
    with running(model) as path, RecordedUnits(lambda _: calls.append(path[-1])):
        model(images)
    return calls


def _places(wanted: str, calls: Sequence[str]) -> list[int]:
    places = list(range(len(calls)))
    if ends := _ENDS.fullmatch(wanted):
        number = int(ends[2])
        found = places[:number] if ends[1] == "first" else places[-number:]
    else:
        found = [place for place in places if re.search(wanted, calls[place])]
    if not found:
        known = ", ".join(dict.fromkeys(calls)) or "none"
        raise SelbenchError(
            f"recipe.layers = {wanted!r} is none of the network's ReLUs; choose among {known}, "
            'or "first 3" or "last 3" of them'
        )
    return found
