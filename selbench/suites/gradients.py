"""Suites of gradients of units, and of the Jacobian of logits, by the image."""

from collections.abc import Callable
from functools import partial

from torch import nn

from selbench._kit.types import to_images
from selbench.analyses.gradients import PROBES, Estimate, LayerGradients, input_gradients
from selbench.analyses.jacobian import STEPS, jacobian_norms
from selbench.analyses.layers import find_layers
from selbench.datasets import Split, limited
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter, Unit
from selbench.store import Measurement
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.pieces import Analysis
from selbench.suites.work import SUITES, Passes, Setting, Work

IMAGES = 1000  # images at most: each costs as much as many forward passes
TOLERANCE = 0.1  # relative error of a layer's value; draw more until it is smaller
CLASSES = 20  # with more classes, the Jacobian's norms are estimated
PROJECTIONS = 20  # of the logits, for the estimate
BACK = 0.6  # the share of the way back in a pass forward and back


@SUITES
def gradients(setting: Setting) -> list[Work]:
    """Gradients of every layer's units by the image: their size, and how they vary."""
    layers, estimator = setting.mechanism.layers, setting.mechanism.estimator
    measure = partial(_measure_gradients, layers=layers, estimator=estimator)
    source = looked_at("original", setting, estimator=estimator)
    each: Passes | Callable[..., Passes] = Passes(forward=1, backward=PROBES)
    if estimator == "exact":
        each = partial(_exact_passes, layers)
    return [Analysis("gradients", "clean", measure, each, IMAGES, source=source, version=2)]


@SUITES
def jacobian(setting: Setting) -> list[Work]:
    """Norms of the Jacobian of the logits by the image, also divided by the logits' scale."""
    return [Analysis("jacobian", "clean", _measure_jacobian, _jacobian_passes, IMAGES, version=2)]


def _exact_passes(layers: str | None, model: nn.Module, split: Split, classes: int) -> Passes:
    """Count a way back for each unit; the units share one pass forward."""
    return Passes(1, BACK * sum(each.units for each in find_layers(model, split.images, layers)))


def _jacobian_passes(model: nn.Module, split: Split, classes: int) -> Passes:
    """Count a way back for each class or projection; they share one pass forward."""
    back = classes if classes <= CLASSES else PROJECTIONS + 2 * STEPS
    return Passes(1, BACK * back)


def _measure_gradients(
    model: nn.Module, split: Split, classes: int, layers: str | None, estimator: str
) -> list[Measurement]:
    split = limited(split, IMAGES)
    found = input_gradients(
        model,
        to_images(split.images),
        estimator=estimator,
        tolerance=TOLERANCE,
        examples=split.examples,
        layers=layers,
    )
    rows = []
    for each in found:
        dead = {"input_gradient_dead_units": float(each.dead.sum())}
        rows += [*_estimated(each), *of_layer(each.layer, dead, each.samples)]
    return summarised(rows)


def _estimated(each: LayerGradients) -> list[Measurement]:
    estimates = {
        "input_gradient_norm": each.norm,
        "input_gradient_cv_samples": each.cv_across_samples,
        "input_gradient_cv_units": each.cv_across_units,
    }
    number, name = each.layer.number, each.layer.name
    return [
        Measurement(metric, estimate.value, each.samples, number, name, _error(estimate))
        for metric, estimate in estimates.items()
    ]


def _measure_jacobian(model: nn.Module, split: Split, classes: int) -> list[Measurement]:
    split = limited(split, IMAGES)
    projections = None if classes <= CLASSES else PROJECTIONS
    found = jacobian_norms(
        model, to_images(split.images), projections=projections, examples=split.examples
    )
    mean = found.mean_frobenius
    values = {
        "jacobian_spectral": found.spectral.mean(),
        "jacobian_frobenius_median": found.frobenius.median(),
        "jacobian_frobenius_relative_median": found.relative.median(),
        "jacobian_spectral_relative_median": found.spectral_relative.median(),
        "margin_median": found.margin.median(),
        "margin_distance": found.distance.mean(),
        "margin_distance_median": found.distance.median(),
    }
    n = len(split)
    return [
        Measurement("jacobian_frobenius", mean.value, n, error=_error(mean)),
        *(Measurement(metric, value.item(), n) for metric, value in values.items()),
    ]


def _error(estimate: Estimate) -> float | None:
    return estimate.error if estimate.freedom else None


TABLE = "gradients and elasticity"
_GRADIENTS, _JACOBIAN = ("gradients",), ("jacobian",)
_CLEAN = ("clean",)
METRICS(
    Metric(
        "gradient_norm",
        "gradient norm",
        "how strongly units respond to small changes of the image, averaged over layers",
        "gradients",
        RowFilter(_GRADIENTS, "input_gradient_norm", _CLEAN),
        unit=NUMBER,
        better=0,
        bounds=AMOUNT,
        source="arXiv:2010.07693",
        board="",
        panel=Panel("gradients", "mean norm", "d unit / d image, L2 norm", log=True),
    ),
    Metric(
        "cv_samples",
        "CV samples",
        "how much the norms of units' gradients vary between images",
        "gradients",
        RowFilter(_GRADIENTS, "input_gradient_cv_samples", _CLEAN),
        unit=NUMBER,
        better=0,
        bounds=AMOUNT,
        source="arXiv:2010.07693",
        table=TABLE,
        panel=Panel("gradients", "over samples", "coefficient of variation"),
    ),
    Metric(
        "cv_units",
        "CV units",
        "how much the norms of gradients vary between units",
        "gradients",
        RowFilter(_GRADIENTS, "input_gradient_cv_units", _CLEAN),
        unit=NUMBER,
        better=0,
        bounds=AMOUNT,
        source="arXiv:2010.07693",
        table=TABLE,
        panel=Panel("gradients", "over units"),
    ),
    Metric(
        "jacobian",
        "Jacobian",
        "norm of the outputs' derivatives with respect to the image",
        "jacobian",
        RowFilter(_JACOBIAN, "jacobian_frobenius", _CLEAN),
        unit=Unit(decimals=1),
        better=-1,
        bounds=AMOUNT,
        source="arXiv:1908.02729",
        table=TABLE,
        panel=Panel("jacobian", "Jacobian", "Frobenius norm, mean"),
    ),
    Metric(
        "relative_jacobian",
        "Jacobian / margin",
        "norm of the outputs' derivatives with respect to the image, divided by the margin",
        "jacobian",
        RowFilter(_JACOBIAN, "jacobian_frobenius_relative_median", _CLEAN),
        unit=NUMBER,
        better=-1,
        bounds=AMOUNT,
        board="",
        panel=Panel("jacobian", "Jacobian over margin", "median"),
    ),
    Metric(
        "distance",
        "margin dist.",
        "distance to the nearest boundary between classes, to first order",
        "jacobian",
        RowFilter(_JACOBIAN, "margin_distance_median", _CLEAN),
        unit=NUMBER,
        bounds=AMOUNT,
        source="arXiv:1511.04599",
        table=TABLE,
        panel=Panel("jacobian", "nearest boundary, linearised", "L2 distance, median"),
    ),
)
