"""Dimensionality of representations: of images, perturbed images, and the change between them.

Leavitt & Morcos, 2020, arXiv:2010.07693: the number of principal components that explain 90, 95 or
99 % of the variance of a layer's activations, as a fraction of its columns. Columns are units
(spatial means) or, as an option, all values of the flattened maps.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Images
from selbench.analyses.arguments import checked
from selbench.analyses.dimension import (
    FRACTIONS,
    Scatter,
    component_count,
    neighbours,
    participation,
    spectra,
    variances_of,
)
from selbench.analyses.frames import PerLayer, frame_of
from selbench.analyses.layers import Columns, Layer, activations, check_finite, find_layers

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 2500  # most points for TwoNN: its cost grows with their square
MEMORY = 2**30  # bytes for the flattened maps of layers that are processed together


@dataclass(frozen=True)
class Dimensionality:
    """The dimension of one layer's points.

    Attributes:
        layer: the layer.
        samples: number of points.
        columns: number of their coordinates.
        components: number of principal components for each of `FRACTIONS` of the variance.
        participation_ratio: participation ratio of the variances.
        two_nn: intrinsic dimension by TwoNN, from at most `NEIGHBOURS` points.
        duplicates: how many of these were left out by TwoNN because they equal others.
    """

    layer: Layer
    samples: int
    columns: int
    components: dict[float, int]
    participation_ratio: float
    two_nn: float
    duplicates: int

    def fraction(self, explained: float) -> float:
        """Return the number of components for this share of variance, over that of the columns."""
        return self.components[explained] / self.columns

    def frame(self) -> "pd.DataFrame":
        """Return one row; `components_95` components explain 95 % of the columns' variance."""
        counts = {f"components_{100 * share:g}": n for share, n in self.components.items()}
        return frame_of(
            {
                "layer": self.layer.name,
                "samples": self.samples,
                "columns": self.columns,
                **counts,
                "participation_ratio": self.participation_ratio,
                "two_nn": self.two_nn,
            }
        )

    def __repr__(self) -> str:
        """Describe the dimensionality in one line."""
        share = FRACTIONS[len(FRACTIONS) // 2]
        return (
            f"{self.layer.name}: {self.components[share]} of {self.columns} components explain "
            f"{100 * share:g} %, participation ratio {self.participation_ratio:.1f}, "
            f"TwoNN {self.two_nn:.1f}"
        )


@checked
def dimensionality(
    model: nn.Module,
    images: Images,
    *,
    layers: str | None = None,
    columns: Columns = "units",
) -> PerLayer[Dimensionality]:
    """Measure the dimensionality of every layer's activations.

    Args:
        model: network in evaluation mode; maps images in [0, 1] to logits.
        images: at least 2.
        layers: regular expression for names of modules; None for all non-negative activations.
        columns: "units", or "maps" for flattened maps.

    Raises:
        SelbenchError: for fewer than 2 images, a network without such layers, or activations that
            are not finite. A constant layer has dimension 0, with a warning.
    """
    (found,) = measured(model, (images,), lambda clean: (clean,), layers, columns)
    warn_constant(found)
    return PerLayer(found)


@checked
def perturbed_dimensionality(
    model: nn.Module,
    images: Images,
    perturbed: Float[Tensor, "perturbed 3 height width"],
    *,
    layers: str | None = None,
    columns: Columns = "units",
) -> tuple[PerLayer[Dimensionality], PerLayer[Dimensionality]]:
    """Measure the dimensionality of perturbed images' activations, and of their change.

    Args:
        model: network in evaluation mode; maps images in [0, 1] to logits.
        images: clean images.
        perturbed: the same images, perturbed, in the same order.
        layers: regular expression for names of modules; None for all non-negative activations.
        columns: "units", or "maps" for flattened maps.

    Returns:
        for each layer, the dimensionality of the activations of `perturbed`; and that of their
        differences from the activations of `images`.

    Raises:
        SelbenchError: see `dimensionality`; also for different numbers of images.
    """
    if len(images) != len(perturbed):
        raise SelbenchError(
            f"{len(images)} images and {len(perturbed)} perturbed ones are no pairs; give the same "
            "images in the same order"
        )
    of_perturbed, of_change = measured(
        model, (images, perturbed), lambda clean, moved: (moved, moved - clean), layers, columns
    )
    warn_constant(of_perturbed)
    warn_constant(of_change, "the change")
    return PerLayer(of_perturbed), PerLayer(of_change)


def warn_constant(found: Sequence[Dimensionality], what: str = "the activity") -> None:
    """Warn about layers whose activity (or `what`) is constant."""
    constant = [each for each in found if each.participation_ratio == 0]
    if constant:
        names = ", ".join(f"{each.layer.number} ({each.layer.name})" for each in constant)
        message = (
            f"{what} of layer {names} is the same for all {constant[0].samples} samples: its "
            "dimension is 0"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=3)


class Clouds:
    """The points of several layers, in the form that dimensionality needs.

    For each layer the covariance is kept or, with fewer points than columns, the points themselves,
    whichever needs less memory.

    Args:
        layers: the layers.
        columns: number of coordinates of each layer's points.
        samples: total number of points.
        device: device of the points.
    """

    def __init__(
        self, layers: Sequence[Layer], columns: Sequence[int], samples: int, device: torch.device
    ) -> None:
        if samples < 2:
            raise SelbenchError(f"dimensionality needs at least 2 samples, got {samples}")
        self.layers, self.columns, self.samples = layers, columns, samples
        self._scatters = [Scatter(c, device) if samples >= c else None for c in columns]
        self._chosen = _spread(samples, NEIGHBOURS)
        self._points: list[list[Tensor]] = [[] for _ in columns]
        self._count = 0

    def add(self, points: Sequence[Float[Tensor, "batch _"]]) -> None:
        """Add a batch of each layer's points."""
        check_finite(self.layers, points)
        count, device = len(points[0]), points[0].device
        (chosen,) = self._chosen[self._count : self._count + count].nonzero(as_tuple=True)
        chosen = chosen.to(device, non_blocking=True)
        for kept, scatter, batch in zip(self._points, self._scatters, points, strict=True):
            kept.append(batch if scatter is None else batch[chosen])
            if scatter is not None:
                scatter.add(batch)
        self._count += count

    def measure(self) -> list[Dimensionality]:
        """Return each layer's dimensionality, after all points were added."""
        scattered = iter(spectra([each for each in self._scatters if each is not None]))
        spectra_ = [None if each is None else next(scattered) for each in self._scatters]
        parts = [self._numbers(*each) for each in zip(self._points, spectra_, strict=True)]
        # Read all numbers at once: each read waits for the GPU.
        numbers = torch.stack([found for found, _ in parts]).tolist()
        return [
            Dimensionality(
                layer,
                self.samples,
                columns,
                {fraction: int(count) for fraction, count in zip(FRACTIONS, counts, strict=True)},
                ratio,
                dimension,
                duplicates,
            )
            for layer, columns, (*counts, ratio, dimension), (_, duplicates) in zip(
                self.layers, self.columns, numbers, parts, strict=True
            )
        ]

    def _numbers(
        self, kept: Sequence[Tensor], spectrum: Float64[Tensor, " columns"] | None
    ) -> tuple[Float64[Tensor, " numbers"], int]:
        """Return the components for `FRACTIONS`, the ratio and TwoNN, and the duplicates."""
        points = near = torch.cat(list(kept))
        if spectrum is None:
            (chosen,) = self._chosen.nonzero(as_tuple=True)
            spectrum, near = variances_of(points), points[chosen.to(points.device)]
        dimension, duplicates = neighbours(near)
        dimension = dimension.masked_fill(spectrum.sum() <= 0, 0)
        counts = [component_count(spectrum, fraction).double() for fraction in FRACTIONS]
        return torch.stack([*counts, participation(spectrum), dimension]), duplicates


def measured(
    model: nn.Module,
    sets: Sequence[Tensor],
    points_of: Callable[..., Sequence[Tensor]],
    pattern: str | None,
    columns: Columns,
    visit: Callable[[list[list[Tensor]]], None] | None = None,
) -> list[list[Dimensionality]]:
    """Measure the clouds that `points_of` makes from a layer's points in each of `sets`.

    `visit` is called with the points of every batch, as sets by layers. Returns clouds by layers.
    """
    layers = find_layers(model, sets[0], pattern)
    samples, device = len(sets[0]), sets[0].device
    parts: list[list[list[Dimensionality]]] = []
    for group in _groups(layers, columns, samples):
        widths = [_width(layer, columns) for layer in group]
        clouds: list[Clouds] = []
        for points in activations(model, sets, pattern, columns, group):
            if visit is not None:
                visit(points)
            by_layer = [points_of(*each) for each in zip(*points, strict=True)]
            clouds = clouds or [Clouds(group, widths, samples, device) for _ in by_layer[0]]
            for cloud, batch in zip(clouds, zip(*by_layer, strict=True), strict=True):
                cloud.add(batch)
        parts.append([cloud.measure() for cloud in clouds])
    return [list(chain.from_iterable(each)) for each in zip(*parts, strict=True)]


def _groups(layers: Sequence[Layer], columns: Columns, samples: int) -> list[list[Layer]]:
    """Return groups of layers to process together: all for units, otherwise what memory holds."""
    if columns == "units":
        return [list(layers)]
    groups: list[list[Layer]] = []
    room = 0
    for layer in layers:
        width = prod(layer.shape)
        need = min(8 * width * width, 4 * width * samples)
        if not groups or need > room:
            groups.append([])
            room = MEMORY
        groups[-1].append(layer)
        room -= need
    return groups


def _width(layer: Layer, columns: Columns) -> int:
    """Return the number of a layer's columns."""
    return layer.units if columns == "units" else prod(layer.shape)


def _spread(samples: int, most: int) -> Bool[Tensor, " samples"]:
    """Select at most `most` samples, evenly spaced."""
    chosen = torch.zeros(samples, dtype=torch.bool)
    chosen[torch.linspace(0, samples - 1, min(samples, most)).round().long()] = True
    return chosen
