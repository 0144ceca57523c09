"""AutoAttack: three attacks that follow gradients, and one that does not, without any settings.

Croce & Hein, 2020, arXiv:2003.01690, with the standard version's numbers: APGD on the cross-entropy
and on the targeted ratio of logits, FAB (Croce & Hein, 2020, arXiv:1907.02044) and Square
(Andriushchenko et al., 2020, arXiv:1912.00049).
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
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import Norm, Sizes, each
from selbench.attacks.square import square

TARGETS = 9  # other classes that targeted attacks try, the likeliest first
ROWS = 4096  # of images and targets, that are climbed with at once

MANY_CLASSES = 2**20  # keeps random numbers of an example's targets apart from other examples'

Places = Int64[Tensor, " some"]
Rows = Callable[[Images, Labels, Examples, Sizes], Images]  # an attack; each row has its epsilon


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
    """Find which epsilons each example falls to, and attack it where that is in doubt.

    Of several epsilons, FMN shows which hold an error: these have fallen. AutoAttack's four then
    run at the largest that is left. An example that falls goes down to the largest epsilon that
    does not hold what felled it, and meets all of them again; one that withstands them is taken to
    withstand all smaller epsilons too. With `full` it is attacked at each of these, the smallest
    first.

    Examples are attacked together whatever their epsilons, and for all targets at once.

    Without gradients Square runs alone. Where there are fewer than ten classes all others are
    targets; where there are fewer than four, whose ratio of logits is not defined, the target's
    cross-entropy takes its place.

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
        iterations: of all attacks but Square, for every target.
        queries: of Square, for every epsilon.
        full: whether an example is attacked at every epsilon that it is not known to fall to.

    Returns:
        one result per epsilon; `by` is the place in `STAGES`, or a reason of `ladder.WHY`, and the
        check `gradient_free` holds of what nothing but Square felled at this epsilon.
    """
    guarded, images = Guarded(network), images.contiguous()
    ladder = Ladder(network, images, labels, epsilons, norm)

    def strike(places: Places, number: int, attack: Rows, sizes: Sizes) -> None:
        if len(places):
            given = (images[places], labels[places], examples[places], sizes)
            (found,) = in_chunks(lambda *rows: (attack(*rows),), *given, most=_at_once(images))
            ladder.offer(places, found, number)

    attacks = [(SQUARE, _square(guarded, norm, queries, seed))]
    if differentiable(network, images[:1], labels[:1]):
        climbing = _Climbing(guarded, norm, iterations, f"autoattack/{seed}/{norm.name}")
        attacks = [
            (APGD, climbing.away),
            (APGD_TARGETED, climbing.towards),
            (FAB, _fab(guarded, norm, iterations)),
            *attacks,
        ]
        if len(epsilons) > 1:  # a single one most images fall to in fewer steps than FMN takes
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
    """Return how many images of so many rows each are attacked at once."""
    return max(1, few(images, ROWS) // rows)


class Course:
    """At which level each example is attacked, and by which attack next.

    Those that are least far run first, so that by the time of the last attack all that meet it are
    there at once.

    Attributes:
        levels: of the examples; below 0 for those that are done.
        stage: the place of the attack that is next.
    """

    def __init__(self, ladder: Ladder, attacks: Sequence[int], full: bool) -> None:
        self._ladder, self._attacks, self._full = ladder, attacks, full
        self.levels = torch.zeros_like(ladder.levels) if full else ladder.levels - 1
        self.stage, self._stages = 0, torch.zeros_like(ladder.levels)
        self._searched = torch.zeros_like(ladder.attackable)

    def next(self) -> Places:
        """Return the examples that the next attack is for; none at the end."""
        levels = self.levels
        under_way = self._ladder.attackable & (levels >= 0) & (levels < self._ladder.levels)
        if under_way.any():
            self.stage = int(self._stages[under_way].min())
        return (under_way & (self._stages == self.stage)).nonzero(as_tuple=True)[0]

    def advance(self, places: Places) -> None:
        """Send examples on to the next attack, or to another level."""
        fell = self._ladder.levels[places] <= self.levels[places]
        stood, fell = places[~fell], places[fell]
        if not self._full:
            self.levels[fell], self._stages[fell] = self._ladder.levels[fell] - 1, 0
        if self._attacks[self.stage] == FAB:
            self._searched[stood] = True  # without regard to epsilons: it would find no more
        self._stages[stood] += 1
        for stage, number in enumerate(self._attacks):
            if number == FAB:
                self._stages[(self._stages == stage) & self._searched] += 1
        through = stood[self._stages[stood] == len(self._attacks)]
        self.levels[through] = self.levels[through] + 1 if self._full else -1
        self._stages[through] = 0


@dataclass(frozen=True)
class _Climbing:
    """APGD as AutoAttack runs it, on a network and in balls of one kind."""

    guarded: Guarded
    norm: Norm
    steps: int
    key: str

    def away(self, images: Images, labels: Labels, examples: Examples, epsilons: Sizes) -> Images:
        """Climb the label's cross-entropy."""
        start = self._start(images, examples, epsilons, "ce")
        norm, steps = self.norm, self.steps
        climbed = apgd(
            self.guarded, images, labels, epsilons, norm, start=start, loss="ce", steps=steps
        )
        return climbed.points

    def towards(
        self, images: Images, labels: Labels, examples: Examples, epsilons: Sizes
    ) -> Images:
        """Climb to the likeliest other class first, then to all others at once."""
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
        """Return for each image a point that fooled the network, and which images have one."""
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
        )
        fell = climbed.fell.view(-1, count)
        first = fell.int().argmax(1)  # of an image's rows that fell at once
        return climbed.points.unflatten(0, (-1, count))[owners[::count], first], fell.any(1)

    def _start(self, images: Images, streams: Examples, epsilons: Sizes, name: str) -> Images:
        """Draw starts as APGD does: uniform noise, or Gaussian for L2, as large as the ball."""
        draws, shape = KeyedDraws(f"{self.key}/{name}", streams), images.shape[1:]
        noise = draws.uniform(-1, 1, *shape) if self.norm.name == "linf" else draws.normal(*shape)
        return images + each(epsilons / self.norm.size(noise)) * noise


def _fab(guarded: Guarded, norm: Norm, steps: int) -> Rows:
    def attack(images: Images, labels: Labels, examples: Examples, epsilons: Sizes) -> Images:
        return fab(guarded, images, labels, epsilons, norm, steps=steps)

    return attack


def _fmn(guarded: Guarded, norm: Norm, steps: int) -> Rows:
    def attack(images: Images, labels: Labels, examples: Examples, epsilons: Sizes) -> Images:
        return fmn(guarded, images, labels, norm, steps=steps)

    return attack


def _square(guarded: Guarded, norm: Norm, queries: int, seed: int) -> Rows:
    def attack(images: Images, labels: Labels, examples: Examples, epsilons: Sizes) -> Images:
        return square(guarded, images, labels, epsilons, norm, seed=seed, queries=queries)

    return attack
