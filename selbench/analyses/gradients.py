"""Input-unit gradients: how strongly a unit's activity depends on the image, for each sample.

The gradient of a unit for a sample is that of its activity (the spatial mean of its map) with
respect to the image in [0, 1]. Its L2 norm g varies across samples, and across a layer's units.
Leavitt & Morcos, 2020, arXiv:2010.07693.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import scipy
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import gradient_chunk, in_chunks
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.types import Examples, Images
from selbench.analyses.arguments import checked
from selbench.analyses.derivatives import (
    Copies,
    copied,
    copies_for,
    differentiable,
    forward_mode,
    frozen_copy,
    pulled_back,
    quickened,
)
from selbench.analyses.frames import PerLayer, frame_of
from selbench.analyses.layers import Layer, check_finite, find_layers, recording, units_of

if TYPE_CHECKING:
    import pandas as pd

PROBES = 64  # for each image
MOST_PROBES = 256  # if an error is too large
FEWEST_IMAGES = 2  # for a standard deviation
FEWEST_PROBES = 4  # for a standard error over them
CLEAR = 1.0  # least standard error above 0 of a square whose root is corrected

# Sums over samples: row 0 of all probes, row j without the j-th; exact sums have only row 0.
Rows = Float64[Tensor, "rows units"]
Sums = Float64[Tensor, "chunks rows units"]
Summed = Callable[[Images, Examples], tuple[Tensor, Tensor]]  # of g and of its square


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error.

    Attributes:
        value: the estimate.
        error: its standard error; 0 for an exact value.
        freedom: degrees of freedom of the error; 0 for an exact value.
    """

    value: float
    error: float = 0.0
    freedom: int = 0

    def half_width(self, level: float = 0.95) -> float:
        """Return the half width of Student's t interval; 0 for an exact value."""
        if not self.freedom:
            return 0.0
        return float(scipy.special.stdtrit(self.freedom, (1 + level) / 2)) * self.error

    def __str__(self) -> str:
        """Write the value with its 95 % interval, if it has one."""
        text = f"{self.value:.4g}"
        return f"{text} ± {self.half_width():.2g}" if self.freedom else text


@dataclass(frozen=True)
class LayerGradients:
    """The norms of one layer's input-unit gradients.

    Averages over units leave out dead units; they are NaN if all are dead.

    Attributes:
        layer: the layer.
        samples: number of images.
        dead: units without a gradient on any image.
        unit_norms: each unit's mean norm over samples, mu_u: activity per unit of [0, 1].
        unit_cvs: coefficient of variation of each unit's norm across samples, CV_u; NaN for dead
            units.
        norm: mean of `unit_norms`.
        cv_across_samples: mean of `unit_cvs`.
        cv_across_units: coefficient of variation of `unit_norms`, CV_l.
    """

    layer: Layer
    samples: int
    dead: Bool[Tensor, " units"]
    unit_norms: Float64[Tensor, " units"]
    unit_cvs: Float64[Tensor, " units"]
    norm: Estimate
    cv_across_samples: Estimate
    cv_across_units: Estimate

    def frame(self) -> "pd.DataFrame":
        """Return one row for each unit: its mean norm and the variation across samples."""
        units = torch.arange(len(self.unit_norms))
        columns = {"layer": self.layer.name, "unit": units, "norm": self.unit_norms}
        return frame_of(columns | {"cv_across_samples": self.unit_cvs, "dead": self.dead})

    def __repr__(self) -> str:
        """Describe the size and the variation of the gradients in one line."""
        return (
            f"{self.layer.name}: norm {self.norm}, CV across samples {self.cv_across_samples}, "
            f"across units {self.cv_across_units}"
        )


@dataclass(frozen=True)
class _Network:
    """A copy of a network that is fast to differentiate, and its layers."""

    module: nn.Module
    layers: list[Layer]
    pattern: str | None

    def activities(self, images: Images) -> tuple[Tensor, ...]:
        """Return each layer's units, (batch, units); they are differentiable."""
        with recording(self.module, self.pattern, units_of) as units:
            self.module(images)
        return tuple(units)


@differentiable
@checked
def input_gradients(
    model: nn.Module,
    images: Images,
    *,
    estimator: str = "exact",
    probes: int = PROBES,
    tolerance: float | None = None,
    examples: Examples | None = None,
    layers: str | None = None,
) -> PerLayer[LayerGradients]:
    """Measure the norm of each unit's gradient, and its variation across samples and units.

    "exact" needs one backward pass for each unit. "probes" needs one forward-mode pass for each
    probe v, a random direction in image space, which gives J v for all units of all layers. J v is
    Gaussian: the mean of (J v)^2 over k probes is an unbiased estimate of g^2, and its root divided
    by c_k = sqrt(2 / k) Gamma((k + 1) / 2) / Gamma(k / 2) one of g. The variance that probes add is
    subtracted. The jackknife over probes corrects a layer's values for bias and gives their
    standard errors, with k - 1 degrees of freedom. These bound the exact values for these images,
    not those for other images.

    With k probes and n samples, variation across samples below (2 n)^(-1/4) / sqrt(k) is lost in
    noise: about 0.02 for 64 probes and 500 images.

    Args:
        model: maps images in [0, 1] to outputs. It is not changed; a copy runs in evaluation mode.
        images: at least 2.
        estimator: "exact" or "probes".
        probes: number for each image, at least 4.
        tolerance: largest standard error, as a share of a layer's value. If it is exceeded, more
            probes are drawn, up to `MOST_PROBES`. None always uses `probes`.
        examples: each image's position in its data set, which determines its probes; None for 0, 1,
            2, ...
        layers: regular expression for the names of modules to analyse; None for all non-negative
            activations.

    Raises:
        SelbenchError: for too few images or probes, an unknown estimator, a layer that returns NaN
            or infinity, or a network that calls no ReLU.
    """
    _check(images, estimator, probes)
    network = _prepared(model, images, layers)
    if examples is None:
        examples = torch.arange(len(images), device=images.device)
    if estimator == "exact":
        sums = _added(partial(_exact_sums, network), images, examples)
        return PerLayer(_by_layer(network.layers, *sums, len(images), 0))
    while True:
        sums = _added(partial(_probed_sums, network, probes), images, examples)
        found = _by_layer(network.layers, *sums, len(images), probes)
        more = probes if tolerance is None else _needed(found, probes, tolerance)
        if more <= probes:
            return PerLayer(found)
        probes = more


@differentiable
@checked
def gradient_norms(
    model: nn.Module, images: Images, *, layers: str | None = None
) -> list[Float[Tensor, "batch _"]]:
    """Return the norm of each unit's gradient for each image: (batch, units) for each layer.

    Args:
        model: maps images in [0, 1] to outputs. It is not changed; a copy runs in evaluation mode.
        images: at least 1.
        layers: regular expression for the names of modules to analyse; None for all non-negative
            activations.

    Raises:
        SelbenchError: for no images, a layer that returns NaN or infinity, or a network that calls
            no ReLU.
    """
    if not len(images):
        raise SelbenchError("gradients need an image, got none; give at least 1")
    network = _prepared(model, images, layers)
    (norms,) = in_chunks(partial(_norms, network), images)
    return list(norms.split([layer.units for layer in network.layers], 1))


def _check(images: Images, estimator: str, probes: int) -> None:
    if estimator not in ("exact", "probes"):
        raise unknown("estimator", estimator, ("exact", "probes"))
    if len(images) < FEWEST_IMAGES:
        raise SelbenchError(
            f"variation across samples needs at least {FEWEST_IMAGES} images, got {len(images)}"
        )
    if probes < FEWEST_PROBES:
        raise SelbenchError(f"standard errors need at least {FEWEST_PROBES} probes, got {probes}")


def _prepared(model: nn.Module, images: Images, pattern: str | None) -> _Network:
    module = frozen_copy(model)
    layers = find_layers(module, images, pattern)
    if pattern is None:  # a pattern may match a convolution, whose output folding changes
        module = quickened(module, images)
    return _Network(module, layers, pattern)


def _needed(found: list[LayerGradients], probes: int, tolerance: float) -> int:
    """Return how many probes bring all errors below the tolerated share of their values.

    Values too small to distinguish from no variation, even with the most probes, are ignored.
    """
    estimates = [e for f in found for e in (f.norm, f.cv_across_samples, f.cv_across_units)]
    hidden = (2 * found[0].samples) ** -0.25 / MOST_PROBES**0.5
    shares = [e.error / e.value for e in estimates if e.error > 0 and e.value > hidden]
    return min(MOST_PROBES, math.ceil(probes * (max(shares, default=0) / tolerance) ** 2))


def _added(part: Summed, images: Images, examples: Examples) -> tuple[Rows, Rows]:
    """Sum over all images, in memory that does not grow with their number."""
    size = gradient_chunk(images)
    total: list[Tensor] = []
    for chunk in zip(images.split(size), examples.split(size), strict=True):
        sums = [each.sum(0) for each in in_chunks(part, *chunk)]
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
    norms, squares = total
    return norms, squares


def _exact_sums(network: _Network, images: Images, examples: Examples) -> tuple[Sums, Sums]:
    norms = _norms(network, images)[0].double()
    return norms.sum(0)[None, None], norms.square().sum(0)[None, None]


def _norms(network: _Network, images: Images) -> tuple[Float[Tensor, "batch units"]]:
    """Return the norms of all units' gradients."""
    copies = min(copies_for(images), *(layer.units for layer in network.layers))
    points = copied(images, copies)
    with torch.enable_grad():
        layers = network.activities(points)
    check_finite(network.layers, layers)
    return (torch.cat([_layer_norms(units, points, copies) for units in layers], 1),)


def _layer_norms(
    units: Float[Tensor, "rows units"], points: Copies, copies: int
) -> Float[Tensor, "batch units"]:
    batch, width = len(units) // copies, units.shape[1]
    each = torch.eye(width).to(units)[:, None].expand(width, batch, width)
    parts = pulled_back(units, points, each)
    return torch.cat([torch.linalg.vector_norm(part, dim=2) for part in parts]).T


def _probed_sums(
    network: _Network, probes: int, images: Images, examples: Examples
) -> tuple[Sums, Sums]:
    """Estimate norms from all probes, and from all but one, for each one left out."""
    size = max(1, gradient_chunk(images) // probes)
    norms, squares = [], []
    for few, numbers in zip(images.split(size), examples.split(size), strict=True):
        slopes = _slopes(network, few, _drawn(probes, few, numbers)).double()
        each = slopes.square()
        total = each.sum(0, keepdim=True)
        square = torch.cat((total / probes, (total - each).clamp_(min=0) / (probes - 1)))
        squares.append(square.sum(1))
        norms.append(square.sqrt().sum(1) / _root_means(probes).to(square)[:, None])
    return torch.stack(norms), torch.stack(squares)


def _drawn(
    probes: int, images: Images, examples: Examples
) -> Float[Tensor, "probes batch 3 height width"]:
    draws = KeyedDraws("input gradients/gaussian", examples)
    return torch.stack([draws.normal(*images.shape[1:]) for _ in range(probes)]).to(images)


def _slopes(
    network: _Network, images: Images, directions: Float[Tensor, "probes batch 3 height width"]
) -> Float[Tensor, "probes batch units"]:
    """Return the derivatives of all units along directions."""
    # a copy, since forward mode gives a view tangents as large as its base tensor
    points = images.clone(memory_format=torch.channels_last)
    pushed = partial(torch.func.jvp, network.activities, (points,))
    parts = []
    with forward_mode():
        for some in directions.split(gradient_chunk(images)):
            units, slopes = torch.vmap(pushed)((some,))[:2]
            check_finite(network.layers, [each[0] for each in units])
            parts.append(torch.cat(slopes, 2))
    return torch.cat(parts)


def _root_means(probes: int) -> Float64[Tensor, " rows"]:
    """Return E sqrt(mean of n squared standard normal numbers) for n = k, k - 1, ..., k - 1."""

    def expected(n: int) -> float:
        return math.sqrt(2 / n) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))

    values = [expected(probes), *[expected(probes - 1)] * probes] if probes else [1.0]
    return torch.tensor(values, dtype=torch.float64)


def _by_layer(
    layers: list[Layer], norms: Rows, squares: Rows, samples: int, probes: int
) -> list[LayerGradients]:
    means = norms / samples
    # an estimate of g has the variance (1 / c^2 - 1) g^2
    noise = (_root_means(probes).to(means)[:, None] ** -2 - 1) * squares / samples**2
    variances = (squares / samples - (means.square() - noise)) * samples / (samples - 1)
    squared = variances / means.square()  # squared coefficients of variation
    dead = squares[0] == 0
    widths = [layer.units for layer in layers]
    columns = zip(
        layers, means.split(widths, 1), squared.split(widths, 1), dead.split(widths), strict=True
    )
    return [
        LayerGradients(
            layer,
            samples,
            silent,
            mean[0],
            square[0].clamp(min=0).sqrt(),
            norm=_jackknife(mean[:, ~silent].mean(1)),
            cv_across_samples=_mean_root(square[:, ~silent]),
            cv_across_units=_mean_root(_variation(mean[:, ~silent])),
        )
        for layer, mean, square, silent in columns
    ]


def _variation(means: Rows) -> Float64[Tensor, "rows 1"]:
    """Return the squared coefficient of variation across units, without the noise of probes."""
    variances = _variance(means)
    probes = len(means) - 1
    if probes:
        deviations = means[1:] - means[1:].mean(0)
        noise = (probes - 1) / probes * _variance(deviations).sum()
        variances[0] -= noise
        variances[1:] -= noise * probes / (probes - 1)  # with one probe fewer
    return (variances / means.mean(1).square())[:, None]


def _variance(values: Rows) -> Float64[Tensor, " rows"]:
    return (values - values.mean(1, keepdim=True)).square().mean(1)


def _mean_root(squares: Rows) -> Estimate:
    """Return the mean over columns of the root of noisy squares, corrected for its bias.

    The root of a noisy variance is too small: uncorrected, 8 probes of 10 images give 7 % too
    little variation across samples. A square that is lost in the noise (its root is 0 if it is
    negative) has no meaningful correction and is not corrected.
    """
    roots, probes = squares.clamp(min=0).sqrt(), len(squares) - 1
    if not probes:
        return Estimate(roots[0].mean().item())
    deviations = squares[1:] - squares[1:].mean(0)
    noise = ((probes - 1) * deviations.square().mean(0)).sqrt()
    corrected = probes * roots[0] - (probes - 1) * roots[1:].mean(0)
    value = torch.where(squares[0] < CLEAR * noise, roots[0], corrected).mean()
    return replace(_jackknife(roots.mean(1)), value=value.item())


def _jackknife(rows: Float64[Tensor, " rows"]) -> Estimate:
    """Correct the estimate in row 0 for its bias, using the rows that leave out one probe each."""
    probes = len(rows) - 1
    if not probes:
        return Estimate(rows[0].item())
    value = probes * rows[0] - (probes - 1) * rows[1:].mean()
    spread = (probes - 1) * rows[1:].var(correction=0)
    return Estimate(value.item(), spread.sqrt().item(), probes - 1)
