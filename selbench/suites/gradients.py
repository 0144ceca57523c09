"""Suites of how networks' units and logits depend on the image: gradients and the Jacobian."""

from functools import partial

from torch import nn

from selbench.analyses.gradients import Estimate, LayerGradients, input_gradients
from selbench.analyses.jacobian import jacobian_norms
from selbench.datasets import Split, limited
from selbench.store import Measurement
from selbench.suites.layered import looked_at, of_layer, summarised
from selbench.suites.work import SUITES, Analysis, Setting, Work
from selbench.training import to_images

IMAGES = 1000  # at most: each costs as much as many forward passes
CLASSES = 20  # with more of them, the Jacobian's norms are estimated
PROJECTIONS = 20  # of the logits, then


@SUITES
def gradients(setting: Setting) -> list[Work]:
    """Input-unit gradients of every layer: their size, and how they vary over samples and units."""
    layers, estimator = setting.mechanism.layers, setting.mechanism.estimator
    measure = partial(_measure_gradients, layers=layers, estimator=estimator)
    source = looked_at("original", setting, estimator=estimator)
    return [Analysis("gradients", measure, source=source, version=2, most=IMAGES)]


@SUITES
def jacobian(setting: Setting) -> list[Work]:
    """Norms of the input-output Jacobian: as they are, and with the logits' scale taken out."""
    return [Analysis("jacobian", _measure_jacobian, version=2, most=IMAGES)]


def _measure_gradients(
    model: nn.Module, split: Split, classes: int, layers: str | None, estimator: str
) -> list[Measurement]:
    split = limited(split, IMAGES)
    found = input_gradients(
        model,
        to_images(split.images),
        estimator=estimator,
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
