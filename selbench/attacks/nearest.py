"""Attacks that look for the nearest error, which is one at every larger budget too."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.randomness import dice
from selbench._kit.types import Examples, Images, Labels, Logits
from selbench.attacks.descent import ddn, fmn
from selbench.attacks.foreign import Guarded, Standing
from selbench.attacks.gradient import Attacked, logits_of
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import NORMS, Norm

HALVINGS = 10  # of the way from an image to an error, to find where on it errors begin
STEPS, QUERIES = 8, 2500  # of HopSkipJump: its steps, and a bound that they do not reach
TRIES = 10  # noise images of each coarseness, when looking for any error to start from

Minimizer = Any  # foolbox's MinimizationAttack; importing foolbox takes a while


class ExhaustedError(Exception):
    """Raised in an attack that has used up its queries."""


class Oracle(nn.Module):
    """Answers queries about a batch, and keeps the nearest images that fooled the network.

    So the result of an attack is neither what it returns, nor lost where it does not end well.

    Attributes:
        nearest: the nearest errors so far; the clean image where there is none.
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
            self.nearest[closer], self._sizes[closer] = points[closer], sizes[closer]
        return logits


def _deepfool(guarded: Guarded, images: Images, labels: Labels) -> Images:
    """Take at most 50 steps towards the nearest of nine classes: Moosavi-Dezfooli et al., 2016.

    arXiv:1511.04599.
    """
    from foolbox.attacks.deepfool import L2DeepFoolAttack

    oracle = Oracle(guarded, images, labels, NORMS["l2"], torch.inf)
    _run(L2DeepFoolAttack(), oracle, images, labels, seed=0)
    return oracle.nearest


# What finds near errors, in the norm that its name ends with.
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
    """Follow gradients to the nearest errors; say which lie within each of rising epsilons.

    `name` is one of `MINIMUM_NORM`. Of the way from an image to the error that an attack stops at,
    only as much is kept as is needed.
    """
    norm, nearest_errors = NORMS[name.rpartition("-")[2]], MINIMUM_NORM[name]
    guarded = Guarded(network)

    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        return _drawn_in(guarded, images, labels, nearest_errors(guarded, images, labels))

    standing = Standing(network, images, labels, examples)
    if not differentiable(network, images[:1], labels[:1]):
        return [standing.result() for _ in epsilons]
    return _within(standing, standing.search(attack), norm, epsilons)


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
    """Walk along the boundary of the label's region, knowing predictions alone.

    Chen, Jordan & Wainwright, 2020, arXiv:1904.02144, for L2. Eight steps ask the network about
    1,850 times for each image, and never more than 2,500 times; the search for an error to start
    from comes before them. An example for which none is found stands.
    """
    norm, guarded = NORMS["l2"], Guarded(network)

    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        start, errs = _any_errors(guarded, images, labels, examples, seed)
        nearest = images.clone()
        if not errs.any():
            return nearest
        oracle = Oracle(guarded, images[errs], labels[errs], norm, QUERIES)
        walk = _hop_skip_jump(KeyedDraws(f"hopskipjump/{seed}", examples[errs]), steps)
        # It insists that an image which fooled the network once does so again. Random outputs
        # break that, or keep it busy until there are no queries left.
        with suppress(ExhaustedError, AssertionError, ValueError):
            _run(walk, oracle, images[errs], labels[errs], seed, starting_points=start[errs])
        nearest[errs] = oracle.nearest
        return _drawn_in(guarded, images, labels, nearest)

    standing = Standing(network, images, labels, examples)
    return _within(standing, standing.search(attack), norm, epsilons)


def _run(
    attack: Minimizer, oracle: Oracle, images: Images, labels: Labels, seed: int, **options: Tensor
) -> None:
    """Run an attack of foolbox for what it asks the oracle."""
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(oracle, bounds=(0, 1), device=images.device)
    with dice(seed), torch.enable_grad():
        attack.run(model, images, Misclassification(labels), **options)


def _within(
    standing: Standing, errors: Images, norm: Norm, epsilons: Sequence[float]
) -> list[Attacked]:
    results: list[Attacked] = []
    for epsilon in epsilons:
        standing.reach(errors, norm, epsilon)
        results.append(standing.result())
    return results


@torch.no_grad()
def _drawn_in(guarded: Guarded, images: Images, labels: Labels, errors: Images) -> Images:
    """Return errors as near as bisection finds them on the ways from images to `errors`.

    They lie 0.1 % of the way beyond, so that rounding otherwise does not undo them; where there is
    no error either, which a band of errors can be too thin for, `errors` are returned.
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
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """Return noise that the network puts into another class, and where there is such.

    Fine noise mostly belongs to a single class, so ever coarser noise is tried: its grains are
    pixels first, and at last the whole image.
    """
    draws = KeyedDraws(f"hopskipjump/start/{seed}", examples)
    start, errs = images.clone(), torch.zeros_like(labels, dtype=torch.bool)
    height, width = images.shape[2:]
    for coarseness in (1, 2, 4, 8, max(height, width)):
        for _ in range(TRIES):
            grains = draws.uniform(0, 1, 3, -(-height // coarseness), -(-width // coarseness))
            noise = F.interpolate(grains, scale_factor=coarseness)[:, :, :height, :width]
            found = ~errs & (logits_of(guarded, noise).argmax(1) != labels)
            start[found], errs = noise[found], errs | found
            if errs.all():
                return start, errs
    return start, errs


def _hop_skip_jump(draws: KeyedDraws, steps: int) -> Minimizer:
    """Make foolbox's attack, with directions that belong to the example and not to its batch.

    foolbox also divides a batch's gradients by the length of all of them together, so that steps
    are the shorter the larger the batch; here each gradient has length 1.
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
