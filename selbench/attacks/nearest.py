"""Attacks that search for the nearest error, which is an error at every larger epsilon too."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.randomness import dice
from selbench._kit.types import Examples, Images, Labels, Logits
from selbench.attacks.descent import ddn, fmn
from selbench.attacks.folding import Searched
from selbench.attacks.foreign import Guarded, Standing
from selbench.attacks.gradient import Attacked, logits_of
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import NORMS, TINY, Norm, each

HALVINGS = 10  # bisections between an image and an error
STEPS, QUERIES = 8, 2500  # of HopSkipJump: steps, and a limit on queries that they do not reach
TRIES = 10  # noise images of each coarseness to try as a first error

Minimizer = Any  # foolbox's MinimizationAttack; importing foolbox takes a while


class ExhaustedError(Exception):
    """Ends an attack that has used up its queries."""


class Oracle(nn.Module):
    """Answers queries about a batch, and keeps the nearest images that fooled the network.

    They are the attack's result: its return value is ignored, and an attack that fails loses
    nothing.

    Attributes:
        nearest: nearest errors so far; the clean image if there is none.
    """

    def __init__(
        self, network: nn.Module, images: Images, labels: Labels, norm: Norm, queries: float
    ) -> None:
        super().__init__()
        self.nearest, self._sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        self._network, self._images, self._labels, self._norm = network, images, labels, norm
        self._left = queries
        self.eval()

    def forward(self, points: Images) -> Logits:
        if self._left == 0:
            raise ExhaustedError
        self._left -= 1
        logits: Logits = self._network(points)
        with torch.no_grad():
            sizes = self._norm.size(points - self._images)
            closer = (logits.argmax(1) != self._labels) & (sizes < self._sizes)
            (places,) = closer.nonzero(as_tuple=True)
            self.nearest[places], self._sizes[places] = points[places], sizes[places]
        return logits


def _deepfool(guarded: Guarded, images: Images, labels: Labels) -> Images:
    """Take at most 50 steps towards the nearest of nine classes: Moosavi-Dezfooli et al., 2016.

    arXiv:1511.04599.
    """
    from foolbox.attacks.deepfool import L2DeepFoolAttack

    oracle = Oracle(guarded, images, labels, NORMS["l2"], torch.inf)
    _run(L2DeepFoolAttack(), oracle, images, labels, seed=0)
    return oracle.nearest


# Searches for near errors, in the norm at the end of the name.
MINIMUM_NORM: Mapping[str, Callable[[Guarded, Images, Labels], Images]] = MappingProxyType(
    {
        "ddn-l2": ddn,
        "fmn-l2": partial(fmn, norm=NORMS["l2"]),
        "fmn-linf": partial(fmn, norm=NORMS["linf"]),
        "deepfool-l2": _deepfool,
    }
)


def minimum_norm(
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: Sequence[float],
    name: str,
) -> list[Attacked]:
    """Follow gradients to the nearest errors; return which lie within each of rising epsilons.

    `name` is one of `MINIMUM_NORM`. Errors are moved towards their images as far as they stay
    errors.
    """
    norm, nearest_errors = NORMS[name.rpartition("-")[2]], MINIMUM_NORM[name]
    guarded = Guarded(network)

    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        return _drawn_in(guarded, images, labels, nearest_errors(guarded, images, labels))

    standing = Standing(network, images, labels, examples)
    if not differentiable(network, images[:1], labels[:1]):
        return [standing.result() for _ in epsilons]
    return _within(network, images, standing, standing.search(attack), norm, epsilons)


def hop_skip_jump(
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: Sequence[float],
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> list[Attacked]:
    """Walk along the boundary of the label's region, using only predictions.

    Chen, Jordan & Wainwright, 2020, arXiv:1904.02144, for L2. Eight steps need about 1,850 queries
    for each image, and never more than 2,500; the search for a first error adds further ones. An
    example without a first error withstands.
    """
    norm, guarded = NORMS["l2"], Guarded(network)

    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        start, errs = _any_errors(guarded, images, labels, examples, seed)
        nearest = images.clone()
        if not len(errs):
            return nearest
        oracle = Oracle(guarded, images[errs], labels[errs], norm, QUERIES)
        walk = _hop_skip_jump(KeyedDraws(f"hopskipjump/{seed}", examples[errs]), steps)
        # foolbox asserts that an image which fooled the network does so again. Random outputs break
        # this, or use up all queries.
        with suppress(ExhaustedError, AssertionError, ValueError):
            _run(walk, oracle, images[errs], labels[errs], seed, starting_points=start[errs])
        nearest[errs] = oracle.nearest
        return _drawn_in(guarded, images, labels, nearest)

    standing = Standing(network, images, labels, examples)
    return _within(network, images, standing, standing.search(attack), norm, epsilons)


def _run(
    attack: Minimizer, oracle: Oracle, images: Images, labels: Labels, seed: int, **options: Tensor
) -> None:
    """Run an attack of foolbox; its result is what the oracle keeps."""
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(oracle, bounds=(0, 1), device=images.device)
    with dice(seed), torch.enable_grad():
        attack.run(model, images, Misclassification(labels), **options)


def _within(
    network: nn.Module,
    images: Images,
    standing: Standing,
    errors: Images,
    norm: Norm,
    epsilons: Sequence[float],
) -> list[Attacked]:
    random = isinstance(network, Searched) and network.drawn
    results: list[Attacked] = []
    for epsilon in epsilons:
        points = _at_border(images, errors, norm, epsilon) if random else errors
        standing.reach(points, norm, epsilon)
        results.append(standing.result())
    return results


def _at_border(images: Images, errors: Images, norm: Norm, epsilon: float) -> Images:
    """Return errors of a random network moved to the border of the ball.

    At the nearest errors half of all draws err, so that others do not confirm them.
    """
    ways = errors - images
    return (images + each(epsilon / norm.size(ways).clamp(min=TINY)) * ways).clamp(0, 1)


@torch.no_grad()
def _drawn_in(guarded: Guarded, images: Images, labels: Labels, errors: Images) -> Images:
    """Return errors moved towards the images by bisection.

    They lie 0.1 % beyond the boundary, so that rounding cannot undo them. If the network does not
    err there, as in a thin band of errors, the original error is returned.
    """
    ways = errors - images
    low = torch.zeros_like(images[:, :1, :1, :1])
    high = torch.ones_like(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        errs = (logits_of(guarded, images + middle * ways).argmax(1) != labels).view_as(low)
        low, high = torch.where(errs, low, middle), torch.where(errs, middle, high)
    drawn_in: Images = (images + (high + 2**-HALVINGS) * ways).clamp(0, 1)
    errs = logits_of(guarded, drawn_in).argmax(1) != labels
    return torch.where(errs.view_as(high), drawn_in, errors)


@torch.no_grad()
def _any_errors(
    guarded: Guarded, images: Images, labels: Labels, examples: Examples, seed: int
) -> tuple[Images, Int64[Tensor, " errs"]]:
    """Return noise that the network assigns to another class, and of which images it exists.

    Fine noise mostly belongs to one class, so coarser and coarser noise is tried: its grains are
    single pixels first, and the full image last.
    """
    draws = KeyedDraws(f"hopskipjump/start/{seed}", examples)
    start, errs = images, torch.zeros_like(labels, dtype=torch.bool)
    height, width = images.shape[2:]
    for coarseness in np.repeat((1, 2, 4, 8, max(height, width)), TRIES).tolist():
        grains = draws.uniform(0, 1, 3, -(-height // coarseness), -(-width // coarseness))
        noise = F.interpolate(grains, scale_factor=coarseness)[:, :, :height, :width]
        found = ~errs & (logits_of(guarded, noise).argmax(1) != labels)
        start, errs = torch.where(found.view(-1, 1, 1, 1), noise, start), errs | found
        if errs.all():
            break
    return start, errs.nonzero(as_tuple=True)[0]


def _hop_skip_jump(draws: KeyedDraws, steps: int) -> Minimizer:
    """Return foolbox's attack, with directions drawn for each example and not for its batch.

    foolbox also divides a batch's gradients by their common length, so that steps shrink with
    larger batches; here each gradient has length 1.
    """
    from eagerpy.tensor.pytorch import PyTorchTensor
    from foolbox.attacks.hop_skip_jump import HopSkipJumpAttack

    class HopSkipJump(HopSkipJumpAttack):
        def approximate_gradients(
            self,
            is_adversarial: Callable[[Any], Any],
            x_advs: Any,
            steps: int,
            delta: Any,
        ) -> Any:
            points, reach = x_advs.raw, delta.raw.view(-1, 1, 1, 1)
            voted, plain, votes = torch.zeros_like(points), torch.zeros_like(points), 0 * reach
            for _ in range(steps):
                noise = NORMS["l2"].steepest(draws.normal(*points.shape[1:]))
                near = (points + reach * noise).clamp(0, 1)
                direction = (near - points) / (reach + 1e-8)
                vote = 2.0 * is_adversarial(PyTorchTensor(near)).raw.view_as(reach) - 1
                voted, plain, votes = voted + vote * direction, plain + direction, votes + vote
            mean = votes / steps
            mean = torch.where(mean.abs() == 1, 0, mean)
            return PyTorchTensor(NORMS["l2"].steepest(voted - mean * plain))

    return HopSkipJump(steps=steps)
