"""The suite of selectivity: of units, and of other axes in the space of units."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from selbench._kit.randomness import seeded
from selbench._kit.types import Labels, Units
from selbench.analyses.axes import best_directions, rotated_means
from selbench.analyses.discriminability import d_prime_of, information_of
from selbench.analyses.layers import Layer, activations, check_finite, find_layers
from selbench.analyses.selectivity import SHUFFLES, labelings_of
from selbench.datasets import Split, limited
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter, Unit
from selbench.statistics.intervals import prediction_interval
from selbench.store import Measurement
from selbench.suites.index import class_index
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.pieces import Analysis
from selbench.suites.representation import representations
from selbench.suites.work import SUITES, Passes, Setting, Work

ROTATIONS = 20
EXAMINED = 2000  # images for other axes and other indices
INDICES = ("mutual_information", "d_prime")


@SUITES
def selectivity(setting: Setting) -> list[Work]:
    """Class selectivity of every layer: null, other axes and indices, under perturbation."""
    axes = partial(_measure_axes, layers=setting.mechanism.layers)
    indices = partial(_measure_indices, layers=setting.mechanism.layers)
    source = looked_at("original", setting)
    return [
        *class_index(setting),
        Analysis("selectivity", "axes", axes, Passes(1), EXAMINED, source=source),
        Analysis("selectivity", "indices", indices, Passes(1), EXAMINED, source=source),
        *representations(setting),
    ]


def _measure_axes(
    model: nn.Module, split: Split, classes: int, layers: str | None
) -> list[Measurement]:
    split = limited(split, EXAMINED)
    found: dict[Layer, Tensor] = {}
    for several, units in _of_one_width(_units(model, split, layers)):
        found |= zip(several, _axes(several, units, split.labels, classes), strict=True)
    ordered = sorted(found, key=lambda layer: layer.number)
    # For all layers at once: each read waits for the GPU.
    numbers = torch.stack([found[layer] for layer in ordered]).tolist()
    rows: list[Measurement] = []
    for layer, (best, held_out, *rotated) in zip(ordered, numbers, strict=True):
        low, high = prediction_interval(rotated[1:])
        values = {
            "selectivity_index_rotated": rotated[0],
            "selectivity_index_rotated_low": low,
            "selectivity_index_rotated_high": high,
            "selectivity_index_best_axis": best,
            "selectivity_index_best_axis_held_out": held_out,
        }
        rows += of_layer(layer, values, len(split))
    return summarised(rows)


def _axes(
    layers: Sequence[Layer], units: Tensor, labels: Labels, classes: int
) -> Float64[Tensor, "layers numbers"]:
    """Return for each layer the index of the best axes, in sample and held out, and of rotations.

    That of rotations is the mean, followed by that of each.
    """
    generators = [seeded(f"axes/{layer.number}", 0) for layer in layers]
    rotated = rotated_means(units, labels, classes, ROTATIONS, generators)
    _, in_sample, held_out = best_directions(units, labels, classes)
    means = [each.mean(-1, keepdim=True) for each in (in_sample, held_out, rotated)]
    return torch.cat([*means, rotated], -1).view(len(layers), -1)


def _of_one_width(
    layers: Iterable[tuple[Layer, Units]],
) -> Iterator[tuple[list[Layer], Float[Tensor, "*layers batch units"]]]:
    """Yield layers of one width together, for a GPU, which many small operators would slow down.

    On a CPU each layer comes alone, since products of stacked matrices round differently.
    """
    together: dict[int, list[tuple[Layer, Tensor]]] = {}
    for layer, units in layers:
        if not units.is_cuda:
            yield [layer], units
        else:
            together.setdefault(units.shape[1], []).append((layer, units))
    for pairs in together.values():
        yield [layer for layer, _ in pairs], torch.stack([units for _, units in pairs])


def _measure_indices(
    model: nn.Module, split: Split, classes: int, layers: str | None
) -> list[Measurement]:
    """Measure mutual information and d', and both with the labels shuffled."""
    split = limited(split, EXAMINED)
    labelings = labelings_of(split.labels, SHUFFLES)
    rows: list[Measurement] = []
    for layer, units in _units(model, split, layers):
        several = [index(units, labelings, classes) for index in (information_of, d_prime_of)]
        # Units without d' are left out. One synchronisation with the GPU per layer.
        means = torch.stack([each.nanmean(1) for each in several]).tolist()
        for name, (value, *shuffled) in zip(INDICES, means, strict=True):
            values = {name: value, f"{name}_null": sum(shuffled) / len(shuffled)}
            rows += of_layer(layer, values, len(split))
    return summarised(rows)


def _units(model: nn.Module, split: Split, layers: str | None) -> Iterator[tuple[Layer, Tensor]]:
    """Yield every layer with the activations of its units on all images."""
    watched = find_layers(model, split.images, layers)
    batches = [
        points for (points,) in activations(model, (split.images,), layers, "units", watched)
    ]
    for layer, parts in zip(watched, zip(*batches, strict=True), strict=True):
        units = torch.cat(parts)
        check_finite([layer], [units])
        yield layer, units


METRICS(
    Metric(
        "selectivity_rotated",
        "rotated selectivity",
        "the index of randomly rotated units",
        "selectivity",
        RowFilter(("selectivity",), "selectivity_index_rotated", ("axes",)),
        unit=NUMBER,
        better=0,
        board="",
        panel=Panel("selectivity", "random rotations of the units"),
    ),
    Metric(
        "selectivity_best_axis",
        "best-axis selectivity",
        "the index of the most selective direction for each class, on images that did not "
        "select it",
        "selectivity",
        RowFilter(("selectivity",), "selectivity_index_best_axis_held_out", ("axes",)),
        unit=NUMBER,
        better=0,
        board="",
        panel=Panel("selectivity", "the best axis for each class"),
    ),
)
for _name, _label, _meaning, _unit, _source in (
    (
        "mutual_information",
        "information",
        "mutual information between the class and a unit's binned activity, mean over layers",
        Unit("bits", decimals=3),
        "arXiv:1803.06959",
    ),
    (
        "d_prime",
        "d'",
        "distance between the mean of a unit's best class and that of all other images, in "
        "standard deviations, mean over layers",
        Unit(decimals=2),
        "Green & Swets, 1966",
    ),
):
    for _suffix in ("", "_null"):
        METRICS(
            Metric(
                f"{_name}{_suffix}",
                f"{_label} null" if _suffix else _label,
                f"{_meaning}: labels shuffled" if _suffix else _meaning,
                "selectivity",
                RowFilter(("selectivity",), f"{_name}{_suffix}", ("indices",)),
                unit=_unit,
                better=0,
                bounds=AMOUNT,
                source=_source,
                table="other indices",
                rare=True,
                null_of=_name if _suffix else "",
            )
        )
