"""AutoAttack: three attacks that follow gradients, and one that does not, without any settings.

Croce & Hein, 2020, arXiv:2003.01690, as the package pyautoattack has it, with the standard
version's numbers: APGD on the cross-entropy and on the targeted ratio of logits, FAB (Croce & Hein,
2020, arXiv:1907.02044) and Square (Andriushchenko et al., 2020, arXiv:1912.00049).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import (  # type: ignore[import-untyped]
    APGDAttack,
    APGDAttack_targeted,
)
from pyautoattack.fab_pt import FABAttack_PT  # type: ignore[import-untyped]
from pyautoattack.square import SquareAttack  # type: ignore[import-untyped]
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench.attacks.foreign import Felled, Foreign, Guarded, Standing
from selbench.attacks.gradient import logits_of
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import TINY, Norm
from selbench.randomness import dice
from selbench.types import Examples, Images, Labels

STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")  # an example meets them in this order
APGD, APGD_TARGETED, FAB, SQUARE = range(4)
TARGETS = 9  # other classes that targeted attacks try, the likeliest first
NAMES = {"linf": "Linf", "l2": "L2"}
SILENT = logging.Logger("autoattack", logging.CRITICAL + 1)  # APGD tells of zero gradients


@torch.no_grad()
def autoattack(
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: Sequence[float],
    norm: Norm,
    *,
    seed: int = 0,
    iterations: int = 100,
    queries: int = 5000,
) -> list[Felled]:
    """Run AutoAttack for epsilons in rising order, each attack on what the ones before left.

    FAB looks for the nearest error, whatever the epsilon, so it runs once, and what it found serves
    all later epsilons too. Without gradients Square runs alone. Where there are fewer than ten
    classes all others are targets; where there are fewer than four, whose ratio of logits is not
    defined, the target's cross-entropy takes its place.

    What becomes of an example does not depend on the others in its batch: APGD starts from a point
    drawn for the example, FAB from the image, and Square's random numbers are the same for all.

    Args:
        network: under attack.
        images: clean ones.
        labels: the right ones.
        examples: each image's position in its data set, which its random numbers depend on.
        epsilons: sizes of the ball, rising.
        norm: of the ball.
        seed: of the random numbers.
        iterations: of APGD and of FAB, for every target.
        queries: of Square, for every epsilon.

    Returns:
        one result per epsilon; `by` is the place in `STAGES`, and the check `gradient_free` holds
        of what fell to Square, at an epsilon at which nothing else had felled it.
    """
    standing = Standing(network, images, labels, examples)
    guarded = Guarded(network)
    white_box = differentiable(network, images[:1], labels[:1])
    errors: Images | None = None
    results = []
    for epsilon in epsilons:
        if errors is not None:
            standing.reach(errors, norm, epsilon, FAB)
        if white_box:
            key = f"autoattack/{seed}/{norm.name}/{epsilon!r}"
            attack = _apgd(guarded, norm, epsilon, iterations, key)
            standing.strike(attack, norm, epsilon, APGD)
            attack = _targeted_apgd(guarded, norm, epsilon, iterations, key)
            standing.strike(attack, norm, epsilon, APGD_TARGETED)
            if errors is None:
                errors = standing.search(_fab(guarded, norm, epsilon, iterations))
                standing.reach(errors, norm, epsilon, FAB)
        standing.strike(_square(guarded, norm, epsilon, queries, seed), norm, epsilon, SQUARE)
        found = standing.result()
        results.append(replace(found, checks={"gradient_free": found.by == SQUARE}))
    return results


def _apgd(guarded: Guarded, norm: Norm, epsilon: float, iterations: int, key: str) -> Foreign:
    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        apgd = APGDAttack(
            guarded, n_iter=iterations, norm=NAMES[norm.name], eps=epsilon, logger=SILENT
        )
        return _run_apgd(apgd, images, labels, _start(images, examples, norm, epsilon, key))

    return attack


def _targeted_apgd(
    guarded: Guarded, norm: Norm, epsilon: float, iterations: int, key: str
) -> Foreign:
    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        apgd = APGDAttack_targeted(
            guarded, n_iter=iterations, norm=NAMES[norm.name], eps=epsilon, logger=SILENT
        )
        found = images.clone()
        targets = _targets(guarded, images)
        if targets.shape[1] < 3:  # fewer than four classes
            apgd.loss = "ce-targeted"
        left = torch.arange(len(images), device=images.device)
        for number, target in enumerate(targets.T):
            start = _start(images[left], examples[left], norm, epsilon, f"{key}/{number}")
            apgd.y_target = target[left]
            found[left] = _run_apgd(apgd, images[left], labels[left], start)
            left = left[logits_of(guarded, found[left]).argmax(1) == labels[left]]
            if not len(left):
                break
        return found

    return attack


def _run_apgd(apgd: APGDAttack, images: Images, labels: Labels, start: Images) -> Images:
    """Return what APGD makes of `start`: the points that fooled the network, else its starts."""
    apgd.init_hyperparam(images)
    with dice(0):  # it draws a start that it then does not use
        *_, found = apgd.attack_single_run(images, labels, x_init=start)
    return found  # type: ignore[no-any-return]


def _start(images: Images, examples: Examples, norm: Norm, epsilon: float, key: str) -> Images:
    """Draw starts as APGD does: uniform noise, or Gaussian for L2, as large as the ball."""
    draws = KeyedDraws(key, examples)
    shape = images.shape[1:]
    noise = draws.uniform(-1, 1, *shape) if norm.name == "linf" else draws.normal(*shape)
    return images + epsilon * noise / norm.size(noise).view(-1, 1, 1, 1)


def _targets(guarded: Guarded, images: Images) -> Tensor:
    """Return the classes that targeted attacks try, from the second likeliest on: one row each."""
    return logits_of(guarded, images).argsort(1, descending=True)[:, 1 : TARGETS + 1]


def _fab(guarded: Guarded, norm: Norm, epsilon: float, iterations: int) -> Foreign:
    """Make FAB, which leaves an image alone as soon as its error is nearer than `epsilon`."""

    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        fab = FABAttack_PT(guarded, NAMES[norm.name], n_iter=iterations, device=images.device)
        nearest, sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        for number in range(_targets(guarded, images[:1]).shape[1]):
            (left,) = (sizes > epsilon).nonzero(as_tuple=True)
            if not len(left):
                break
            fab.target_class = number + 2  # it counts the likeliest class as 1
            found = fab.attack_single_run(images[left], labels[left], is_targeted=True)
            size = norm.size(found - images[left])
            closer = (size > 0) & (size < sizes[left])  # where it fails it returns the image
            nearest[left[closer]], sizes[left[closer]] = found[closer], size[closer]
        return nearest

    return attack


class _Square(SquareAttack):  # type: ignore[misc]
    """Square with a generator of its own, so that networks can be attacked side by side.

    Its random numbers are the same for all examples, and so not those of a batch.
    """

    generator: torch.Generator
    height, width = 0, 0  # of the images, without what `_tiled` adds

    def normalize(self, x: Images) -> Images:
        """Divide perturbations by their length; there are none beside the images."""
        x[:, :, self.height :], x[..., self.width :] = 0, 0
        normalized: Images = super().normalize(x)
        return normalized

    def random_choice(self, shape: list[int]) -> Tensor:
        """Draw signs for one example, and repeat them for the others."""
        one = [1, *shape[1:]] if len(shape) == 4 else shape
        return (2 * self._uniform(one) - 1).sign().expand(shape)

    def random_int(self, low: int = 0, high: int = 1, shape: Sequence[int] = (1,)) -> Tensor:
        """Draw from low to high - 1."""
        return (low + (high - low) * self._uniform(shape)).long()

    def eta(self, s: int) -> Tensor:
        """Return the pattern of a square of L2, which lies on its side at random."""
        with dice(0):  # it always draws that it stands
            upright: Tensor = super().eta(s)
        return upright.T if self._uniform([1]) > 0.5 else upright

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(*shape, generator=self.generator).to(self.device)

    def margin_and_loss(self, x: Images, y: Labels) -> tuple[Tensor, Tensor]:
        """Count a tie as an error; it does so itself, but for the start, after which it fails."""
        margin, loss = super().margin_and_loss(x, y)
        return margin.masked_fill(margin == 0, -TINY), loss


def _square(guarded: Guarded, norm: Norm, epsilon: float, queries: int, seed: int) -> Foreign:
    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        height, width = images.shape[2:]

        def cropped(points: Images) -> Tensor:
            logits: Tensor = guarded(points[:, :, :height, :width])
            return logits

        square = _Square(
            cropped, NAMES[norm.name], n_queries=queries, eps=epsilon, resc_schedule=False
        )
        square.height, square.width = height, width
        points = _tiled(images) if norm.name == "l2" else images
        square.init_hyperparam(points)
        square.generator = torch.Generator().manual_seed(seed)
        _, found = square.attack_single_run(points, labels)
        return found[:, :, :height, :width]  # type: ignore[no-any-return]

    return attack


def _tiled(images: Images) -> Tensor:
    """Pad images to a size that Square can start on in L2, if theirs is none.

    It lays squares of a fifth of the height side by side, from an offset that is the height's
    remainder, and fails where the last one does not fit: on most images that are not square.
    """
    height, width = images.shape[2:]
    tall = next(size for size in count(max(height, 5)) if _fits(size, size))
    wide = next(size for size in count(width) if _fits(tall, size))
    if (tall, wide) == (height, width):
        return images
    return F.pad(images, (0, wide - width, 0, tall - height))


def _fits(height: int, size: int) -> bool:
    side, offset = height // 5, height % 5 // 2
    return size >= side and offset + size // side * side <= size
