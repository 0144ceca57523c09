"""How perturbations change the dimensionality and the selectivity of representations."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from selbench._kit.errors import NegativeActivityError, SelbenchError
from selbench._kit.types import to_images
from selbench.analyses.dimension import FRACTIONS
from selbench.analyses.dimensionality import Dimensionality, measured, warn_constant
from selbench.analyses.layers import Columns, find_layers
from selbench.analyses.selectivity import ClassSums
from selbench.attacks.folding import folded
from selbench.attacks.gradient import pgd
from selbench.attacks.norms import NORMS
from selbench.datasets import Split
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter
from selbench.store import Measurement
from selbench.suites.attacked import PAPER_EPSILON, PAPER_STEP, STEPS
from selbench.suites.corrupted import every_corruption
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.pieces import Analysis, Comparison, Condition
from selbench.suites.work import SUITES, Passes, Setting, Work

PGD = "paper-pgd"


@SUITES
def dimensionality(setting: Setting) -> list[Work]:
    """Dimensionality of layers: on clean images, on perturbed images, and of the change."""
    columns, layers = setting.mechanism.columns, setting.mechanism.layers
    measure = partial(_measure_clean, layers=layers, columns=columns)
    source = looked_at("original", setting, columns)
    clean = Analysis("dimensionality", "clean", measure, Passes(1), source=source)
    return [clean, *representations(setting, columns)]


def representations(setting: Setting, columns: Columns = "units") -> list[Work]:
    """Return the comparisons of clean and perturbed representations.

    One for every corruption and one for the papers' PGD. They measure dimensionality, and for units
    also the selectivity on perturbed images.

    Raises:
        SelbenchError: if corrupted images on disk are not those of the clean images.
    """
    suite = "representation" if columns == "units" else "representation-maps"
    layers = setting.mechanism.layers
    pieces: list[Work] = []
    for name, group in groupby(every_corruption(setting), key=lambda condition: condition.name):
        conditions = tuple(group)
        for condition in conditions:
            _check_pairs(condition, setting)
        first = conditions[0]
        measure = partial(_measure_perturbed, what=name, layers=layers, columns=columns)
        source = looked_at(first.source, setting, columns)
        pieces.append(
            Comparison(
                suite,
                name,
                conditions,
                measure,
                group=first.group,
                source=source,
                version=first.version,
            )
        )
    attacked = partial(_measure_attacked, layers=layers, columns=columns)
    source = looked_at("attack", setting, columns)
    each = Passes(forward=2, backward=STEPS)
    return [*pieces, Analysis(suite, PGD, attacked, each, group="linf", source=source)]


def _check_pairs(condition: Condition, setting: Setting) -> None:
    if setting.stored is not None and condition.stored and not condition.stored.paired:
        raise SelbenchError(
            f"the images of {condition.name} in {setting.stored.folder} may not be the test images "
            "in the same order, so representations cannot be compared; use --source generated"
        )


def _measure_clean(
    model: nn.Module, split: Split, classes: int, layers: str | None, columns: Columns
) -> list[Measurement]:
    (found,) = measured(model, (split.images,), lambda clean: (clean,), layers, columns)
    warn_constant(found)
    rows = []
    for each in found:
        values = {f"dimension_{_percent(f)}": float(each.components[f]) for f in FRACTIONS}
        values |= _dimensions(each) | {"columns": each.columns, "duplicates": each.duplicates}
        rows += of_layer(each.layer, values, each.samples)
    return summarised(rows)


def _measure_perturbed(
    model: nn.Module,
    split: Split,
    perturbed: Sequence[Tensor],
    classes: int,
    what: str,
    layers: str | None,
    columns: Columns,
) -> list[list[Measurement]]:
    """Compare the layers' activations on `split` with those on its perturbed versions."""
    if columns == "maps" and len(perturbed) > 1:  # all at once would not fit into memory
        parts = [
            _measure_perturbed(model, split, [each], classes, what, layers, columns)
            for each in perturbed
        ]
        return [rows for (rows,) in parts]
    watched = find_layers(model, split.images, layers)
    sums = [ClassSums(watched, split.labels[None], classes) for _ in perturbed]

    def visit(points: list[list[Tensor]]) -> None:
        for each, units in zip(sums, points[1:], strict=True):
            each.add(units)

    def points_of(clean: Tensor, *moved: Tensor) -> list[Tensor]:
        return [*moved, *(each - clean for each in moved)]

    sets = (split.images, *perturbed)
    clouds = measured(
        model, sets, points_of, layers, columns, visit if columns == "units" else None
    )
    count = len(perturbed)
    rows = []
    for cloud, change, total in zip(clouds[:count], clouds[count:], sums, strict=True):
        warn_constant(cloud, f"under {what}, the activity")
        warn_constant(change, f"under {what}, the change")
        level = [
            row for each in cloud for row in of_layer(each.layer, _dimensions(each), len(split))
        ]
        for each in change:
            values = {f"change_{name}": value for name, value in _dimensions(each).items()}
            level += of_layer(each.layer, values, len(split))
        rows.append(summarised(level + (_selectivity(total) if columns == "units" else [])))
    return rows


def _measure_attacked(
    model: nn.Module, split: Split, classes: int, layers: str | None, columns: Columns
) -> list[Measurement]:
    """Compare with the adversarials of the papers' PGD after its last step."""
    network = folded(model, to_images(split.images[:2]))
    adversarials = [
        pgd(
            network,
            to_images(images),
            labels,
            PAPER_EPSILON / 255,
            NORMS["linf"],
            step=PAPER_STEP,
            steps=STEPS,
            early=False,
        ).images
        for images, labels in zip(split.images.split(500), split.labels.split(500), strict=True)
    ]
    images = torch.cat(adversarials)
    (rows,) = _measure_perturbed(model, split, [images], classes, PGD, layers, columns)
    return rows


def _dimensions(each: Dimensionality) -> dict[str, float]:
    fractions = {f"dimension_fraction_{_percent(f)}": each.fraction(f) for f in FRACTIONS}
    return fractions | {
        "participation_ratio": each.participation_ratio,
        "two_nn": each.two_nn,
    }


def _selectivity(total: ClassSums) -> list[Measurement]:
    """Return the layers' selectivity; empty if units can be negative, as these have no index."""
    try:
        found = total.measure()
    except NegativeActivityError:
        return []
    means = torch.stack([each.index.mean() for each in found]).tolist()
    return [
        row
        for each, mean in zip(found, means, strict=True)
        for row in of_layer(each.layer, {"selectivity_index": mean}, total.count)
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}"


_LOOKED_AT = (  # name, suffix of the store's metrics, and title of the panel
    ("", RowFilter(("dimensionality",), conditions=("clean",)), "clean images"),
    ("change_corrupted", RowFilter(("representation",), without=(PGD,)), "change by corruptions"),
    (
        "change_attacked",
        RowFilter(("representation",), conditions=(PGD,)),
        "change by the papers' PGD",
    ),
)
_SHARES = {
    "": ("dim.", "principal components for 95 % of the variance, as a share of the units"),
    "change_corrupted": (
        "change dim.",
        "principal components for 95 % of the variance of the change under corruptions, as a share "
        "of the units",
    ),
    "change_attacked": (
        "PGD change dim.",
        "principal components for 95 % of the variance of the change under the papers' PGD, as a "
        "share of the units",
    ),
}
for _name, _rows, _title in _LOOKED_AT:
    _label, _meaning = _SHARES[_name]
    _prefix = "change_" if _name else ""
    METRICS(
        Metric(
            _name or "dimension",
            _label,
            _meaning,
            "dimensionality",
            replace(_rows, metric=f"{_prefix}dimension_fraction_95"),
            "mean" if _rows.conditions else "pooled",
            better=0,
            source="arXiv:2010.07693",
            table="dimensionality",
            panel=Panel(
                "dimensionality",
                _title,
                "" if _name else "components for 95 % of the\nvariance, share of columns",
            ),
        )
    )
    METRICS(
        Metric(
            f"two_nn_{_name}".rstrip("_"),
            f"TwoNN, {_title}",
            f"intrinsic dimension of activations by two nearest neighbours: {_title}",
            "dimensionality",
            replace(_rows, metric=f"{_prefix}two_nn"),
            "mean" if _rows.conditions else "pooled",
            unit=NUMBER,
            better=0,
            bounds=AMOUNT,
            source="arXiv:1803.06992",
            board="",
            panel=Panel(
                "dimensionality", _title, "" if _name else "intrinsic dimension, TwoNN", row=1
            ),
        )
    )
