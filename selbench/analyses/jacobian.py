"""The Jacobian of the logits with respect to the image: how far a small step can move them.

Its norms grow with the logits' scale, which training sets freely and which changes no decision; the
distance and the relative norms do not depend on it.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import gradient_chunk, in_chunks
from selbench._kit.errors import NotFiniteError, SelbenchError
from selbench._kit.types import Examples, Images, Logits
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
from selbench.analyses.frames import frame_of
from selbench.analyses.gradients import Estimate
from selbench.study import count_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST_PROJECTIONS = 2  # for a standard error
STEPS = 8  # steps of the iteration for the spectral norm
PASSES = 10  # Jacobians in memory, in passes

PerImage = Float64[Tensor, " batch"]
Vectors = Float[Tensor, "vectors batch classes"]
Rows = Float[Tensor, "batch vectors pixels"]  # products of vectors with each image's Jacobian


@dataclass(frozen=True)
class JacobianNorms:
    """Norms of each image's Jacobian J, in logits per unit of the image's range [0, 1].

    Attributes:
        projections: number for each image; 0 if norms are exact.
        frobenius: Frobenius norm of J.
        frobenius_error: its standard error; 0 if exact.
        square: square of the Frobenius norm.
        square_error: its standard error; 0 if exact.
        spectral: the largest singular value of J; with projections, a lower bound of it.
        margin: the largest logit minus the second largest.
        margin_gradient: L2 norm of the margin's gradient.
        distance: L2 distance to the nearest decision boundary if the network were linear
            (Moosavi-Dezfooli, Fawzi & Frossard, 2016, arXiv:1511.04599). With projections only the
            second largest logit's boundary is used, which gives an upper bound.
    """

    projections: int
    frobenius: PerImage
    frobenius_error: PerImage
    square: PerImage
    square_error: PerImage
    spectral: PerImage
    margin: PerImage
    margin_gradient: PerImage
    distance: PerImage

    @property
    def relative(self) -> PerImage:
        """The Frobenius norm divided by the margin."""
        return self.frobenius / self.margin

    @property
    def spectral_relative(self) -> PerImage:
        """The spectral norm divided by the margin."""
        return self.spectral / self.margin

    @property
    def mean_frobenius(self) -> Estimate:
        """The mean over images; its error is that of estimating the exact norms."""
        return self._mean(self.frobenius, self.frobenius_error)

    @property
    def mean_square(self) -> Estimate:
        """The mean square over images; it has no bias, so few projections suffice."""
        return self._mean(self.square, self.square_error)

    def frame(self) -> "pd.DataFrame":
        """Return one row for each image, in order."""
        norms = ("frobenius", "frobenius_error", "spectral")
        names = (*norms, "margin", "margin_gradient", "distance")
        images = torch.arange(len(self.frobenius))
        return frame_of({"image": images} | {name: getattr(self, name) for name in names})

    def __repr__(self) -> str:
        """Describe the size of the Jacobian in one line."""
        images = count_of(len(self.frobenius), "image")
        spectral, distance = self.spectral.mean(), self.distance.mean()
        return (
            f"means over {images}: Frobenius norm {self.mean_frobenius}, spectral norm "
            f"{spectral:.4g}, distance to the boundary {distance:.4g}"
        )

    def _mean(self, values: PerImage, errors: PerImage) -> Estimate:
        error = errors.square().sum().sqrt().item() / len(values)  # images' draws are independent
        freedom = len(values) * (self.projections - 1) if self.projections else 0
        return Estimate(values.mean().item(), error, freedom)


@differentiable
@checked
def jacobian_norms(
    model: nn.Module,
    images: Images,
    *,
    projections: int | None = None,
    examples: Examples | None = None,
) -> JacobianNorms:
    """Measure norms of the Jacobian of the logits with respect to each image.

    Without `projections` they are exact: one backward pass for each class. With n projections, the
    squared Frobenius norm is estimated without bias as C / n times the sum of ||v^T J||^2 over
    random unit vectors v in the space of the C classes (Hoffman, Roberts & Yaida, 2019,
    arXiv:1908.02729). Its root is too small, so `frobenius` is corrected by the jackknife over
    projections. The remaining bias is largest if J has rank one: 2.5 % too small for n = 2, 0.4 %
    for n = 4; uncorrected it would be 11 % and 6 %. The spectral norm is then the largest in the
    space of a few power iterates (Lanczos), a lower bound.

    Args:
        model: maps images in [0, 1] to logits. It is not changed; a copy runs in evaluation mode.
        images: at least 1.
        projections: number for each image, at least 2; None for exact norms.
        examples: each image's position in its data set, which determines its projections; None for
            0, 1, 2, ...

    Raises:
        SelbenchError: for no images, too few projections, fewer than 2 logits, or logits that are
            NaN or infinite.
    """
    if not len(images):
        raise SelbenchError("the Jacobian needs an image, got none; give at least 1")
    if projections is not None and projections < FEWEST_PROJECTIONS:
        raise SelbenchError(
            f"standard errors need at least {FEWEST_PROJECTIONS} projections, got {projections}"
        )
    network = quickened(frozen_copy(model), images)
    if examples is None:
        examples = torch.arange(len(images), device=images.device)
    measure = partial(_measured, network, projections or 0)
    norms = in_chunks(measure, images, examples)
    return JacobianNorms(projections or 0, *norms)


def _measured(
    network: nn.Module, projections: int, images: Images, examples: Examples
) -> tuple[PerImage, ...]:
    """Return the fields of `JacobianNorms` in order, with a limited number of images in memory."""
    with torch.no_grad():
        classes = network(images[:1]).shape[1]
    if classes < 2:
        raise SelbenchError(f"a margin needs at least 2 logits, the network returns {classes}")
    size = max(1, PASSES * gradient_chunk(images) // (projections or classes))
    measure = partial(_estimated, network, projections) if projections else partial(_exact, network)
    pairs = zip(images.split(size), examples.split(size), strict=True)
    parts = [measure(few, numbers) for few, numbers in pairs]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _exact(network: nn.Module, images: Images, examples: Examples) -> tuple[PerImage, ...]:
    points, logits = _logits(network, images, copies_for(images))
    classes = logits.shape[1]
    margin, direction = _margins(logits[: len(images)])
    basis = torch.eye(classes).to(logits)[:, None].expand(classes, len(images), classes)
    rows = _rows(logits, points, basis)
    square = rows.double().square().sum((1, 2))
    slope = torch.linalg.vector_norm(direction[:, None] @ rows, dim=(1, 2))
    zero = torch.zeros_like(square)
    distance = _distance(logits[: len(images)], rows)
    spectral = _largest(rows)
    return square.sqrt(), zero, square, zero, spectral, margin.double(), slope.double(), distance


def _distance(logits: Logits, rows: Rows) -> PerImage:
    """Return the distance to the nearest boundary of another class if the network were linear."""
    first = logits.argmax(1)
    of_first = rows[torch.arange(len(rows)), first]
    slopes = torch.linalg.vector_norm(of_first[:, None] - rows, dim=2).double()
    apart = (logits.amax(1, keepdim=True) - logits).double()
    distances = (apart / slopes).scatter(1, first[:, None], math.inf)
    nearest: Tensor = distances.nan_to_num(nan=0.0, posinf=math.inf).amin(1)  # NaN: 0 / 0, a tie
    return nearest


def _estimated(
    network: nn.Module, projections: int, images: Images, examples: Examples
) -> tuple[PerImage, ...]:
    points, logits = _logits(network, images, copies_for(images))
    classes = logits.shape[1]
    margin, direction = _margins(logits[: len(images)])
    draws = KeyedDraws("Jacobian projections", examples)
    vectors = draws.normal(projections, classes).to(logits)
    vectors /= torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
    rows = _rows(logits, points, torch.cat((vectors, direction[:, None]), 1).transpose(0, 1))
    squares = classes * rows[:, :-1].double().square().sum(2)
    slope = torch.linalg.vector_norm(rows[:, -1], dim=1)
    spectral = _lanczos(network, images, direction)
    margin, slope = margin.double(), slope.double()
    return *_frobenius(squares), spectral, margin, slope, margin / slope


def _frobenius(
    squares: Float64[Tensor, "batch projections"],
) -> tuple[PerImage, PerImage, PerImage, PerImage]:
    """Estimate the norm and its square, with standard errors, from projections with this mean."""
    count = squares.shape[1]
    square = squares.mean(1)
    square_error = (squares.var(1) / count).sqrt()
    without = ((squares.sum(1, keepdim=True) - squares) / (count - 1)).clamp_(min=0).sqrt()
    norm = count * square.sqrt() - (count - 1) * without.mean(1)
    norm_error = ((count - 1) * without.var(1, correction=0)).sqrt()
    return norm, norm_error, square, square_error


def _lanczos(network: nn.Module, images: Images, start: Logits) -> PerImage:
    """Find the largest singular value in the space of power iterates, kept orthonormal.

    Golub & Kahan, 1965, doi:10.1137/0702016.
    """
    points, logits = _logits(network, images, 1)
    basis: list[Tensor] = []
    rows: list[Tensor] = []
    vector = start
    for _ in range(min(STEPS, logits.shape[1])):
        basis.append(_orthonormal(vector, basis))
        (row,) = pulled_back(logits, points, basis[-1][None])
        rows.append(row[0])
        with forward_mode():
            vector = torch.func.jvp(network, (points.detach(),), (row.view_as(images),))[1]
    return _largest(torch.stack(rows, 1))


def _orthonormal(
    vectors: Float[Tensor, "batch classes"], basis: list[Tensor]
) -> Float[Tensor, "batch classes"]:
    """Return unit vectors orthogonal to the basis; zeros if they lie in its span."""
    before = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    for other in basis * 2:  # twice, since rounding leaves errors the first time
        vectors = vectors - (vectors * other).sum(1, keepdim=True) * other
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    new = length > before * torch.finfo(vectors.dtype).eps ** 0.5  # otherwise it is rounding
    return torch.where(new, vectors / length, 0)


def _logits(
    network: nn.Module, images: Images, copies: int
) -> tuple[Copies, Float[Tensor, "rows classes"]]:
    """Return copies of images and their logits, which are differentiable."""
    points = copied(images, copies)
    with torch.enable_grad():
        logits = network(points)
    if not logits.isfinite().all():
        raise NotFiniteError("the network returns NaN or infinity; has its training diverged?")
    return points, logits if logits.dtype == torch.float64 else logits.float()


def _margins(logits: Logits) -> tuple[Float[Tensor, " batch"], Logits]:
    """Return the largest logit minus the second largest, and its gradient in the logits."""
    values, places = logits.detach().topk(2)
    signs = values.new_tensor([1.0, -1.0]).expand_as(values)
    return values[:, 0] - values[:, 1], torch.zeros_like(logits).scatter(1, places, signs)


def _rows(logits: Float[Tensor, "rows classes"], points: Copies, vectors: Vectors) -> Rows:
    return torch.cat(list(pulled_back(logits, points, vectors))).transpose(0, 1)


def _largest(rows: Rows) -> PerImage:
    """Return the largest singular value, from the rows of orthonormal vectors."""
    gram = rows.double() @ rows.double().transpose(1, 2)
    squares: Tensor = torch.linalg.eigvalsh(gram)
    return squares[:, -1].clamp(min=0).sqrt()
