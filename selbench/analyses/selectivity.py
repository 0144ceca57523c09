"""Class selectivity of every unit of a network over a data set, and its chance level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from selbench._kit.errors import NegativeActivityError, SelbenchError
from selbench._kit.randomness import seeded
from selbench._kit.types import Images, Labels, Pixels
from selbench.analyses.arguments import checked
from selbench.analyses.frames import PerLayer, frame_of
from selbench.analyses.layers import Layer, activations, check_finite, find_layers
from selbench.selectivity import index_of, selectivity_index
from selbench.study import count_of

if TYPE_CHECKING:
    import pandas as pd

SHUFFLES = 10  # shuffles of the labels, for the chance level
FEW = "class selectivity needs images of at least 2 classes"


@dataclass(frozen=True)
class LayerSelectivity:
    """The class selectivity index of one layer's units over a data set.

    Attributes:
        layer: the layer.
        index: one value per unit; 0 for dead units.
        dead: units whose mean is zero for every class.
        null: the index after shuffling labels (chance level), one row per shuffle.
    """

    layer: Layer
    index: Float64[Tensor, " units"]
    dead: Bool[Tensor, " units"]
    null: Float64[Tensor, "shuffles units"]

    def frame(self) -> "pd.DataFrame":
        """Return one row for each unit; `null` is the mean over shuffles, NaN without them."""
        units = torch.arange(len(self.index))
        columns = {"layer": self.layer.name, "unit": units, "selectivity": self.index}
        return frame_of(columns | {"null": self.null.mean(0), "dead": self.dead})

    def __repr__(self) -> str:
        """Describe the layer's selectivity in one line."""
        chance = f", {self.null.mean():.3f} by chance" if len(self.null) else ""
        units, dead = count_of(len(self.index), "unit"), int(self.dead.sum())
        return (
            f"{self.layer.name}: selectivity {self.index.mean():.3f}{chance}; {units}, {dead} dead"
        )


class ClassSums:
    """Sums of each layer's units by class, in float64, for several labelings of the examples.

    Args:
        layers: the layers.
        labelings: the labels of all examples, one row for each labeling.
        classes: number of classes.

    Attributes:
        count: number of examples added.
    """

    def __init__(
        self, layers: Sequence[Layer], labelings: Int64[Tensor, "labelings examples"], classes: int
    ) -> None:
        self._layers, self._labelings, self._classes = layers, labelings, classes
        self._sums: Tensor | None = None
        self._counts = torch.zeros(
            len(labelings), classes, dtype=torch.float64, device=labelings.device
        )
        self.count = 0

    def add(self, units: Sequence[Float[Tensor, "batch _"]]) -> None:
        """Add the units of the next examples, layer by layer."""
        check_finite(self._layers, units)
        together = torch.cat(list(units), 1).double()
        part = self._labelings[:, self.count : self.count + len(together)]
        members = F.one_hot(part, self._classes).double()  # labelings x batch x classes
        sums = members.transpose(1, 2) @ together
        self._sums = sums if self._sums is None else self._sums.add_(sums)
        self._counts += members.sum(1)
        self.count += len(together)

    def measure(self) -> list[LayerSelectivity]:
        """Return the index for the first labeling, with those for the other labelings as the null.

        Raises:
            SelbenchError: for fewer than 2 classes, or units with a negative mean.
        """
        if self._sums is None:
            raise SelbenchError(FEW)
        means = self._sums / self._counts.clamp(min=1)[..., None]
        # For all layers at once: each read waits for the GPU.
        present, negative = torch.stack([(self._counts[0] > 0).sum(), (means < 0).sum()]).tolist()
        if present < 2:
            raise SelbenchError(FEW)
        dead = (self._sums[0] == 0).all(0)
        widths = [layer.units for layer in self._layers]
        by_layer = zip(self._layers, means.split(widths, 2), dead.split(widths), strict=True)
        return [
            self._indexed(layer, part, silent, not negative) for layer, part, silent in by_layer
        ]

    def _indexed(
        self, layer: Layer, means: Tensor, dead: Tensor, positive: bool
    ) -> LayerSelectivity:
        present = self._counts > 0
        index = index_of if positive else selectivity_index
        try:
            indices = [index(m, p) for m, p in zip(means, present, strict=True)]
        except NegativeActivityError as problem:
            raise NegativeActivityError(
                f"layer {layer.number} ({layer.name}): {problem}"
            ) from problem
        null = torch.stack(indices)[1:]
        return LayerSelectivity(layer, indices[0], dead, null)


@checked
def class_selectivity(
    model: nn.Module,
    images: Images | Pixels,
    labels: Int64[Tensor, " labels"],
    *,
    layers: str | None = None,
    shuffles: int = SHUFFLES,
) -> PerLayer[LayerSelectivity]:
    """Measure the class selectivity index of every unit over a data set, in float64.

    Args:
        model: network in evaluation mode; maps images in [0, 1] to logits.
        images: images of at least 2 classes; uint8 or in [0, 1].
        labels: their classes.
        layers: regular expression for names of modules; None for all non-negative activations.
        shuffles: number of label shuffles for the null.

    Raises:
        SelbenchError: for fewer than 2 classes, a network without such layers, activations that are
            not finite, or units with a negative mean.
    """
    if len(labels) != len(images):
        raise SelbenchError(f"{len(images)} images have {len(labels)} labels; give one for each")
    if not len(images):
        raise SelbenchError(FEW)
    found = find_layers(model, images, layers)
    sums = ClassSums(found, labelings_of(labels, shuffles), int(labels.max()) + 1)
    for (units,) in activations(model, (images,), layers, "units", found):
        sums.add(units)
    return PerLayer(sums.measure())


def labelings_of(labels: Labels, shuffles: int) -> Int64[Tensor, "labelings examples"]:
    """Return the labels in the first row, and randomly shuffled labels in the others."""
    generator = seeded("selectivity/null", 0)
    orders = [torch.randperm(len(labels), generator=generator) for _ in range(shuffles)]
    shuffled = [labels[order.to(labels.device, non_blocking=True)] for order in orders]
    return torch.stack([labels, *shuffled])
