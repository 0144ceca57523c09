"""The smallest of several epsilons at which each example falls, and the attack responsible."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from selbench._kit.types import Images, Labels
from selbench.attacks.folding import as_given
from selbench.attacks.foreign import Felled, confirmed
from selbench.attacks.gradient import NEVER, check_inputs, logits_of
from selbench.attacks.norms import SLACK, Norm, Sizes

STAGES = ("fmn", "apgd-ce", "apgd-t", "fab-t", "square")  # in the order of an example's attacks
FMN, APGD, APGD_TARGETED, FAB, SQUARE = range(5)

# Reasons why an example stands or was not attacked: values of `Felled.by` other than attacks.
WITHSTOOD = NEVER  # all attacks at this epsilon
IMPLIED, WRONG, NOT_FINITE = -2, -3, -4
WHY = {
    WITHSTOOD: "withstood",
    IMPLIED: "withstood a larger epsilon",
    WRONG: "wrong before the attack",
    NOT_FINITE: "outputs not finite",
}


def decisions(by: Int64[Tensor, " batch"]) -> list[str]:
    """Return in words which attack each example fell to, or why it stands."""
    return [STAGES[place] if place >= 0 else WHY[place] for place in by.tolist()]


class Decided(Felled):
    """A `Felled` whose `by` is a position in `STAGES`, or a reason of `WHY`."""


class Ladder:
    """Examples attacked at several epsilons (levels), with the nearest error found for each.

    Examples that are misclassified, or have logits that are not finite, are not attacked.

    Attributes:
        epsilons: epsilons of the levels, in rising order.
        levels: smallest level with a known error, from 0; the number of levels if there is none.
        attackable: which examples can be attacked.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: nn.Module,
        images: Images,
        labels: Labels,
        epsilons: Sequence[float],
        norm: Norm,
    ) -> None:
        """Evaluate the original network on clean images."""
        check_inputs(images, epsilons)
        self._network, self._clean, self._labels, self._norm = (
            as_given(network),
            images,
            labels,
            norm,
        )
        self.epsilons: Sizes = torch.tensor(epsilons, device=images.device).to(images.dtype)
        self._images, self._unharmed = images.clone(), logits_of(self._network, images)
        self._logits = self._unharmed.clone()
        self._wrong = self._logits.argmax(1) != labels
        self._finite = self._logits.isfinite().all(1)
        self.attackable = ~self._wrong & self._finite
        self.levels = torch.full_like(labels, len(epsilons))
        self._by = torch.full_like(labels, WITHSTOOD)

    @torch.no_grad()
    def offer(self, places: Int64[Tensor, " some"], found: Images, number: int) -> None:
        """Record an attack's results for the examples at `places`.

        A result counts at the smallest epsilon that contains it, if no error is known there yet and
        it still fools the network.
        """
        clean = self._clean[places]
        found = torch.where(found.isfinite(), found, clean).clamp(0, 1)
        sizes = self._norm.size(found - clean)
        levels = torch.searchsorted(self.epsilons + SLACK, sizes)
        (nearer,) = ((sizes > 0) & (levels < self.levels[places])).nonzero(as_tuple=True)
        if not len(nearer):
            return
        places, levels = places[nearer], levels[nearer]
        within, logits, hits = confirmed(
            self._network,
            clean[nearer],
            self._labels[places],
            found[nearer],
            self._norm,
            self.epsilons[levels],
        )
        hit = places[hits]
        self._images[hit], self._logits[hit] = within[hits], logits[hits]
        self.levels[hit], self._by[hit] = levels[hits], number

    @torch.no_grad()
    def results(self, implied: bool) -> list[Decided]:
        """Return the results at each epsilon.

        `implied`: whether examples were attacked only at the largest epsilon that they withstood.
        """
        return [self._result(level, implied) for level in range(len(self.epsilons))]

    def _result(self, level: int, implied: bool) -> Decided:
        fell = self.levels <= level
        fallen = fell | self._wrong
        by = torch.where(fell, self._by, WITHSTOOD)
        by[self._wrong], by[~self._wrong & ~self._finite] = WRONG, NOT_FINITE
        if implied:
            by[(by == WITHSTOOD) & (level < self.levels - 1)] = IMPLIED
        steps = torch.where(fell, 1, NEVER).masked_fill(self._wrong, 0)
        images = self._images.where(fell.view(-1, 1, 1, 1), self._clean)
        return Decided(images, self._logits.where(fell[:, None], self._unharmed), fallen, steps, by)
