"""Local elasticity: how a training step on one example changes the predictions for others.

He & Su, 2020, arXiv:1910.06943. If a network separates classes by learned features, examples of one
class change together and leave other classes alone. The paper's functions are scalar; `Elasticity`
describes our extension to several logits.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.func import functional_call

from selbench._kit.errors import NotFiniteError, SelbenchError
from selbench._kit.types import Images, Labels
from selbench.analyses.arguments import checked
from selbench.analyses.derivatives import differentiable
from selbench.analyses.frames import frame_of
from selbench.analyses.layers import activations, as_images, evaluating, find_layers

if TYPE_CHECKING:
    import pandas as pd

LEARNING_RATE = 1e-8  # small enough not to affect the similarities; with larger steps ReLUs switch
SHORTEST = 1e-2  # shortest length of the loss's gradient in the logits; shorter ones are scaled up
BATCH = {"cpu": 25, "cuda": 1000}  # on the CPU, larger float64 convolutions leave the cache
DECIMALS = 6  # of the largest coordinate; points equal to so many decimals are one for K-means

Similarity = Float64[Tensor, "steps examples"]
Points = Float[Tensor, "batch columns"]


@dataclass(frozen=True)
class Elasticity:
    """Similarity of examples for a network: entry (i, j) is the effect of a step on i on j.

    f are the logits before a step on i, f+ those after it, g the loss's gradient in the logits of i
    (softmax minus one-hot) and eta the learning rate.

    Attributes:
        relative: |f(j) - f+(j)| / |f(i) - f+(i)|, as in the paper; 1 on the diagonal, 0 elsewhere
            if the step does not even change i.
        kernel: <f(j) - f+(j), g> / (eta |g|^2), approximately u' T(j, i) u with T the neural
            tangent kernel and u = g / |g|. For one logit it is the paper's; for several it is ours.
    """

    relative: Float64[Tensor, "steps examples"]
    kernel: Float64[Tensor, "steps examples"]

    def frame(self) -> "pd.DataFrame":
        """Return one row for each pair: the step's example, and the example that it affects."""
        steps, examples = self.relative.shape
        columns = {
            "step": torch.arange(steps).repeat_interleave(examples),
            "example": torch.arange(examples).repeat(steps),
            "relative": self.relative.flatten(),
            "kernel": self.kernel.flatten(),
        }
        return frame_of(columns)

    def __repr__(self) -> str:
        """Describe the effect of a step on other examples in one line."""
        steps, examples = self.relative.shape
        apart = self.relative[~torch.eye(steps, examples, dtype=torch.bool)]
        mean = f", mean {apart.mean():.4g} between different ones" if len(apart) else ""
        return f"local elasticity of {steps} x {examples} examples{mean}"


@dataclass(frozen=True)
class Contrast:
    """Mean similarity of examples of the same class, and of different classes."""

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """Return `within` over `between`; NaN if `between` is not positive."""
        return self.within / self.between if self.between > 0 else math.nan


class Clusterings(dict[str, float]):
    """Clustering accuracies in [0, 1] by representation."""

    def frame(self) -> "pd.DataFrame":
        """Return one row for each representation."""
        import pandas as pd

        return pd.DataFrame({"representation": [*self], "accuracy": [*self.values()]})


@differentiable
@checked
def local_elasticity(
    model: nn.Module, images: Images, labels: Labels, *, learning_rate: float = LEARNING_RATE
) -> Elasticity:
    """Measure the effect of one gradient step on each example's cross-entropy on all examples.

    Steps start from the same parameters, in float64, on a copy of `model` in evaluation mode, and
    change all parameters, even frozen ones. For m examples this costs m backward passes and m
    forward passes over all m. If an example is fitted so well that its step would be lost in
    rounding, g is scaled to the length `SHORTEST`: to first order, neither similarity depends on
    the length of g.

    Args:
        model: maps images in [0, 1] to logits.
        images: m images of at least 2 classes.
        labels: their classes; use the network's predictions for a measure without labels.
        learning_rate: learning rate of the step, which is plain SGD.

    Raises:
        SelbenchError: for fewer than 2 examples or classes, a network without parameters, or logits
            that are not finite, before or after a step.
    """
    _check_classes(images, labels)
    # Float64 convolutions on the CPU are slower in channels_last memory.
    network = deepcopy(model).double().to(memory_format=torch.contiguous_format).eval()
    points = as_images(images).double().contiguous()
    start = {name: each.detach().requires_grad_() for name, each in network.named_parameters()}
    if not start:
        raise SelbenchError("the network has no parameters, which local elasticity needs")
    before = _logits(network, start, points)
    _check_finite(before, "the network returns NaN or infinity; has its training diverged?")
    residuals = [_residual(*each) for each in zip(before, labels.tolist(), strict=True)]
    lengths = torch.stack([length for _, length in residuals]).tolist()
    relative, kernel, finite = [], [], []
    for index, ((direction, _), length) in enumerate(zip(residuals, lengths, strict=True)):
        step = learning_rate * max(length, SHORTEST)
        moved = _descended(network, start, points[index : index + 1], direction, step)
        change = before - _logits(network, moved, points)
        finite.append(change.isfinite().all())
        relative.append(_relative(change, index))
        kernel.append(change @ direction / step)
    if not torch.stack(finite).all():
        raise NotFiniteError(f"a step with learning rate {learning_rate:g} leads to NaN; lower it")
    return Elasticity(torch.stack(relative), torch.stack(kernel))


def correlation(kernel: Similarity) -> Similarity:
    """Divide each entry of a kernel by the square roots of its two diagonal entries.

    If a diagonal entry is not positive, the step does not lower its own example's loss; the example
    correlates with nothing, and its entries are 0.
    """
    diagonal = kernel.diagonal()
    scale = diagonal.masked_fill(diagonal <= 0, torch.inf).rsqrt()
    return kernel * scale * scale[:, None]


def contrast(similarity: Similarity, labels: Labels) -> Contrast:
    """Return the mean similarity of pairs of the same class, and of different classes.

    Pairs of an example with itself are left out.

    Raises:
        SelbenchError: for fewer than 2 examples or classes, or if no class has 2 examples.
    """
    _check_classes(similarity, labels)
    same = labels[:, None] == labels
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not pairs.any():
        raise SelbenchError("similarity within classes needs a class with at least 2 examples")
    return Contrast(similarity[pairs].mean().item(), similarity[~same].mean().item())


def clustering_accuracy(
    assignments: Int64[Tensor, " batch"], labels: Int64[Tensor, " batch"]
) -> float:
    """Return the share of examples in the cluster of their class, for the best matching.

    Each class is matched to at most one cluster, and each cluster to at most one class.
    """
    from scipy.optimize import linear_sum_assignment

    clusters, classes = int(assignments.max()) + 1, int(labels.max()) + 1
    together = torch.bincount(assignments * classes + labels, minlength=clusters * classes)
    counts = together.view(clusters, classes).cpu().numpy()
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def cluster_points(points: Points, clusters: int, seed: int = 0) -> Int64[Tensor, " batch"]:
    """Assign points to clusters by K-means, using the best of 10 starts.

    If there are fewer distinct points than clusters, each distinct point is a cluster.

    Raises:
        SelbenchError: for fewer points than clusters.
    """
    from sklearn.cluster import KMeans

    if len(points) < clusters:
        raise SelbenchError(f"{clusters} clusters need as many examples, got {len(points)}")
    centred = points.double() - points.mean(0, dtype=torch.float64)
    extent = centred.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    # Rounded, so that points which differ only by rounding errors are not separated.
    places = (centred / extent).round(decimals=DECIMALS).cpu()
    distinct = len(torch.unique(places, dim=0))
    means = KMeans(min(clusters, distinct), n_init=10, random_state=seed)
    return torch.from_numpy(means.fit_predict(places.numpy())).long().to(points.device)


def cluster_kernel(
    similarity: Similarity, clusters: int, seed: int = 0
) -> Int64[Tensor, " examples"]:
    """Assign examples to clusters by kernel K-means on a similarity.

    This is K-means on coordinates whose inner products are the similarity: eigenvectors of its mean
    with its transpose, times the square roots of their eigenvalues. Negative eigenvalues become 0:
    a similarity that has them is no kernel, and is replaced by the nearest kernel.

    Raises:
        SelbenchError: for fewer examples than clusters.
    """
    values, vectors = torch.linalg.eigh((similarity + similarity.T) / 2)
    return cluster_points(vectors * values.clamp(min=0).sqrt(), clusters, seed)


@checked
def clusterings(
    model: nn.Module,
    images: Images,
    labels: Labels,
    elasticity: Elasticity | None = None,
    *,
    layers: str | None = None,
    seed: int = 0,
) -> Clusterings:
    """Compare how well K-means finds the classes in several representations of examples.

    The number of clusters is the number of classes present.

    Args:
        model: network in evaluation mode; maps images in [0, 1] to logits.
        images: at least as many as classes.
        labels: their classes.
        elasticity: the result for the same network and images, in the same order; computed if None.
        layers: regular expression for names of modules; the last one gives the features. None for
            all ReLUs.
        seed: seed of K-means.

    Returns:
        the clustering accuracy by "relative" and "kernel" similarity (kernel K-means), and by
        "pixels", "features" (the last layer's units) and "logits".

    Raises:
        SelbenchError: see `local_elasticity`; also for a network without such layers.
    """
    _check_classes(images, labels)
    elasticity = elasticity or local_elasticity(model, images, labels)
    count = len(labels.unique())
    pixels = as_images(images).flatten(1)
    points = {"pixels": pixels, **_representations(model, images, layers)}
    found = {
        "relative": cluster_kernel(elasticity.relative, count, seed),
        "kernel": cluster_kernel(elasticity.kernel, count, seed),
        **{name: cluster_points(each, count, seed) for name, each in points.items()},
    }
    return Clusterings({n: clustering_accuracy(each, labels) for n, each in found.items()})


def _representations(model: nn.Module, images: Images, layers: str | None) -> dict[str, Tensor]:
    last = find_layers(model, images, layers)[-1:]
    parts = [units for ((units,),) in activations(model, (images,), layers, "units", last)]
    with evaluating(model), torch.no_grad():
        logits = [model(as_images(part)) for part in images.split(BATCH[images.device.type])]
    return {"features": torch.cat(parts), "logits": torch.cat(logits)}


def _residual(
    logits: Float64[Tensor, " classes"], label: int
) -> tuple[Float64[Tensor, " classes"], Float64[Tensor, ""]]:
    """Return direction and length of softmax minus one-hot, accurate even near 0."""
    log_probabilities = logits.log_softmax(0)
    log_probabilities[label] = -torch.inf
    largest = log_probabilities.max()
    residual = (log_probabilities - largest).exp()
    residual[label] = -residual.sum()
    length = residual.norm()
    return residual / length, length * largest.exp()


def _descended(
    network: nn.Module,
    start: dict[str, Tensor],
    image: Float64[Tensor, "1 3 height width"],
    direction: Float64[Tensor, " classes"],
    step: float,
) -> dict[str, Tensor]:
    """Return the parameters after a step that lowers an image's logits along a direction."""
    logits = functional_call(network, start, (image,))
    gradients: Sequence[Tensor] = torch.autograd.grad(
        logits, list(start.values()), direction[None], materialize_grads=True
    )
    return {
        name: each.detach() - step * gradient
        for (name, each), gradient in zip(start.items(), gradients, strict=True)
    }


@torch.no_grad()
def _logits(
    network: nn.Module, parameters: dict[str, Tensor], points: Float64[Tensor, "batch 3 _ _"]
) -> Float64[Tensor, "batch classes"]:
    batches = points.split(BATCH[points.device.type])
    return torch.cat([functional_call(network, parameters, (batch,)) for batch in batches])


def _relative(change: Float64[Tensor, "batch classes"], index: int) -> Float64[Tensor, " batch"]:
    sizes: Tensor = change.norm(dim=1)
    alone = torch.zeros_like(sizes)
    alone[index] = 1
    sizes = torch.where(sizes[index] == 0, alone, sizes)
    return sizes / sizes[index]


def _check_classes(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels):
        raise SelbenchError(f"{len(images)} images have {len(labels)} labels; give one for each")
    if len(labels) < 2 or len(labels.unique()) < 2:
        raise SelbenchError(
            f"local elasticity compares at least 2 examples, of at least 2 classes; got "
            f"{len(labels)} of {len(labels.unique())}"
        )


def _check_finite(logits: Tensor, problem: str) -> None:
    if not logits.isfinite().all():
        raise NotFiniteError(problem)
