"""AutoAttack: three gradient attacks and one gradient-free attack, without settings.

Croce & Hein, 2020, arXiv:2003.01690, with the settings of the standard version: APGD on the
cross-entropy and on the targeted ratio of logits, FAB (Croce & Hein, 2020, arXiv:1907.02044) and
Square (Andriushchenko et al., 2020, arXiv:1912.00049).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import few, in_chunks
from selbench._kit.types import Examples, Images, Labels
from selbench.attacks.apgd import apgd
from selbench.attacks.descent import fmn
from selbench.attacks.fab import fab
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import logits_of
from selbench.attacks.ladder import (
    APGD,
    APGD_TARGETED,
    FAB,
    FMN,
    SQUARE,
    Decided,
    Ladder,
)
from selbench.attacks.losses import Losses, margin
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import Norm, Sizes, each
from selbench.attacks.square import square

TARGETS = 9  # number of other classes for targeted attacks, likeliest first
ROWS = 4096  # most pairs of image and target that are attacked together

MANY_CLASSES = 2**20  # separates the random numbers of one example's targets from other examples'

Places = Int64[Tensor, " some"]
# An attack on rows with their epsilons, and the margins that APGD has reached.
Rows = Callable[[Images, Labels, Examples, Sizes, Losses], Images]


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
    full: bool = False,
) -> list[Decided]:
    """Find the epsilons at which each example falls, attacking only where this is open.

    With several epsilons, FMN first finds near errors, which settle all epsilons that contain them.
    The four attacks of AutoAttack then run at the largest epsilon left. An example that falls there
    moves to the largest epsilon that does not contain its error, and meets all attacks again. One
    that withstands them is assumed to withstand smaller epsilons too. Searches end after a fifth of
    their steps if they are far from an error (`selbench.attacks.hope`). With `full` each example is
    attacked at all epsilons, in rising order, and all searches take all steps.

    Examples with different epsilons, and all targets, are attacked together.

    Without gradients only Square runs. With fewer than ten classes, all other classes are targets.
    With fewer than four, where the ratio of logits is undefined, the target's cross-entropy
    replaces it.

    An example's result does not depend on its batch: APGD starts from a point drawn for the
    example, FAB from the image, and Square uses the same random numbers for all.

    Args:
        network: the network under attack.
        images: clean images.
        labels: their true classes.
        examples: each image's position in its data set, which determines its random numbers.
        epsilons: radii of the ball, in rising order.
        norm: norm of the ball.
        seed: seed of the random numbers.
        iterations: steps for each target, in all attacks except Square.
        queries: queries of Square at each epsilon.
        full: attack each example at every epsilon without a known error, with all steps.

    Returns:
        one result per epsilon; `by` is a position in `STAGES` or a reason of `ladder.WHY`, and the
        check `gradient_free` marks examples that only Square fooled at this epsilon.
    """
    guarded, images = Guarded(network), images.contiguous()
    ladder = Ladder(network, images, labels, epsilons, norm)
    ahead = torch.full_like(images[:, 0, 0, 0], -torch.inf)

    def strike(places: Places, number: int, attack: Rows, sizes: Sizes) -> None:
        if len(places):
            given = (images[places], labels[places], examples[places], sizes, ahead[places])
            (found,) = in_chunks(lambda *rows: (attack(*rows),), *given, most=_at_once(images))
            ladder.offer(places, found, number)
            if number == APGD:
                ahead[places] = margin(logits_of(guarded, found), labels[places])

    attacks = [(SQUARE, _square(guarded, norm, queries, seed, full))]
    if differentiable(network, images[:1], labels[:1]):
        climbing = _Climbing(guarded, norm, iterations, full, f"autoattack/{seed}/{norm.name}")
        attacks = [
            (APGD, climbing.away),
            (APGD_TARGETED, climbing.towards),
            (FAB, _fab(guarded, norm, iterations, full)),
            *attacks,
        ]
        if len(epsilons) > 1:  # with one epsilon, most images fall in fewer steps than FMN needs
            (all_,) = ladder.attackable.nonzero(as_tuple=True)
            sizes = torch.zeros_like(images[all_, 0, 0, 0])
            strike(all_, FMN, _fmn(guarded, norm, iterations), sizes)
    course = Course(ladder, [number for number, _ in attacks], full)
    while len(places := course.next()):
        strike(places, *attacks[course.stage], ladder.epsilons[course.levels[places]])
        course.advance(places)
    found = ladder.results(implied=not full)
    return [replace(each, checks={"gradient_free": each.by == SQUARE}) for each in found]


def _at_once(images: Images, rows: int = 1) -> int:
    """Return how many images, with `rows` rows each, are attacked together."""
    return max(1, few(images, ROWS) // rows)


class Course:
    """The level at which each example is attacked, and its next attack.

    The examples that lag behind run first, so that each later attack gets all its examples
    together.

    Attributes:
        levels: current levels of the examples; below 0 if finished.
        stage: position of the next attack.
    """

    def __init__(self, ladder: Ladder, attacks: Sequence[int], full: bool) -> None:
        self._ladder, self._attacks, self._full = ladder, attacks, full
        self.levels = torch.zeros_like(ladder.levels) if full else ladder.levels - 1
        self.stage, self._stages = 0, torch.zeros_like(ladder.levels)
        self._searched = torch.zeros_like(ladder.attackable)

    def next(self) -> Places:
        """Return the examples for the next attack; empty at the end."""
        levels = self.levels
        under_way = self._ladder.attackable & (levels >= 0) & (levels < self._ladder.levels)
        if under_way.any():
            self.stage = int(self._stages[under_way].min())
        return (under_way & (self._stages == self.stage)).nonzero(as_tuple=True)[0]

    def advance(self, places: Places) -> None:
        """Move examples to the next attack, or to another level."""
        fell = self._ladder.levels[places] <= self.levels[places]
        stood, fell = places[~fell], places[fell]
        if not self._full:
            self.levels[fell], self._stages[fell] = self._ladder.levels[fell] - 1, 0
        if self._attacks[self.stage] == FAB:
            self._searched[stood] = True  # FAB ignores epsilons here: it would find nothing new
        self._stages[stood] += 1
        for stage, number in enumerate(self._attacks):
            if number == FAB:
                self._stages[(self._stages == stage) & self._searched] += 1
        through = stood[self._stages[stood] == len(self._attacks)]
        self.levels[through] = self.levels[through] + 1 if self._full else -1
        self._stages[through] = 0


@dataclass(frozen=True)
class _Climbing:
    """APGD as in AutoAttack, for one network and norm."""

    guarded: Guarded
    norm: Norm
    steps: int
    patient: bool
    key: str

    def away(
        self, images: Images, labels: Labels, examples: Examples, epsilons: Sizes, ahead: Losses
    ) -> Images:
        """Climb the label's cross-entropy."""
        start = self._start(images, examples, epsilons, "ce")
        climbed = apgd(
            self.guarded,
            images,
            labels,
            epsilons,
            self.norm,
            start=start,
            loss="ce",
            steps=self.steps,
            patient=self.patient,
        )
        return climbed.points

    def towards(
        self, images: Images, labels: Labels, examples: Examples, epsilons: Sizes, ahead: Losses
    ) -> Images:
        """Climb towards the likeliest other class, then towards all others together."""
        logits = logits_of(self.guarded, images)
        targets = logits.argsort(1, descending=True)[:, 1 : TARGETS + 1]
        loss = "dlr-targeted" if logits.shape[1] > 3 else "ce-targeted"
        found, left = images.clone(), torch.arange(len(images), device=images.device)
        for some in (targets[:, :1], targets[:, 1:]):
            if some.shape[1] and len(left):
                given = (images[left], labels[left], examples[left], epsilons[left], some[left])
                most = _at_once(images, some.shape[1])
                points, fell = in_chunks(partial(self._targeted, loss), *given, most=most)
                found[left[fell]] = points[fell]
                left = left[~fell]
        return found

    def _targeted(
        self,
        loss: str,
        images: Images,
        labels: Labels,
        examples: Examples,
        epsilons: Sizes,
        targets: Int64[Tensor, "batch targets"],
    ) -> tuple[Images, Bool[Tensor, " batch"]]:
        """Return a point for each image that fooled the network, and which images have one."""
        count = targets.shape[1]
        owners = torch.arange(len(images), device=images.device).repeat_interleave(count)
        flat = targets.flatten()
        streams = examples[owners] * MANY_CLASSES + flat
        climbed = apgd(
            self.guarded,
            images[owners],
            labels[owners],
            epsilons[owners],
            self.norm,
            start=self._start(images[owners], streams, epsilons[owners], "targeted"),
            loss=loss,
            targets=flat,
            owners=owners,
            steps=self.steps,
            patient=self.patient,
        )
        fell = climbed.fell.view(-1, count)
        first = fell.int().argmax(1)  # first of an image's rows that fell together
        return climbed.points.unflatten(0, (-1, count))[owners[::count], first], fell.any(1)

    def _start(self, images: Images, streams: Examples, epsilons: Sizes, name: str) -> Images:
        """Draw starts as APGD does: noise of the ball's radius, uniform or, for L2, Gaussian."""
        draws, shape = KeyedDraws(f"{self.key}/{name}", streams), images.shape[1:]
        noise = draws.uniform(-1, 1, *shape) if self.norm.name == "linf" else draws.normal(*shape)
        return images + each(epsilons / self.norm.size(noise)) * noise


def _fab(guarded: Guarded, norm: Norm, steps: int, patient: bool) -> Rows:
    def attack(
        images: Images, labels: Labels, examples: Examples, epsilons: Sizes, ahead: Losses
    ) -> Images:
        return fab(guarded, images, labels, epsilons, norm, steps=steps, patient=patient)

    return attack


def _fmn(guarded: Guarded, norm: Norm, steps: int) -> Rows:
    def attack(
        images: Images, labels: Labels, examples: Examples, epsilons: Sizes, ahead: Losses
    ) -> Images:
        return fmn(guarded, images, labels, norm, steps=steps)

    return attack


def _square(guarded: Guarded, norm: Norm, queries: int, seed: int, patient: bool) -> Rows:
    def attack(
        images: Images, labels: Labels, examples: Examples, epsilons: Sizes, ahead: Losses
    ) -> Images:
        given = (guarded, images, labels, epsilons, norm)
        return square(*given, seed=seed, queries=queries, ahead=None if patient else ahead)

    return attack
