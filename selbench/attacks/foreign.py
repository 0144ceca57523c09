"""For attacks written by others: a network that is safe to attack, and a check of the results."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from selbench._kit.chunks import in_chunks
from selbench._kit.types import Examples, Images, Labels, Logits
from selbench.attacks.folding import as_given
from selbench.attacks.gradient import NEVER, Attacked, check_inputs, logits_of
from selbench.attacks.losses import tempered
from selbench.attacks.norms import SLACK, Epsilon, Norm, inside

Foreign = Callable[[Images, Labels, Examples], Images]  # maps a batch to its unchecked result


class Guarded(nn.Module):
    """A network prepared for attacks.

    Attacks by others write into its logits, and fail if these are not finite. For gradient attacks,
    which mostly use cross-entropy, logits are `tempered`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.given = network, as_given(network)
        self.eval()

    @torch.no_grad()
    def fallen(self, points: Images, labels: Labels, logits: Logits) -> Int64[Tensor, " fallen"]:
        """Return which points fool the original network and, by these `logits`, this one.

        Waits for a GPU once, and again if errors must be checked with the original network.
        """
        (errs,) = (logits.argmax(1) != labels).nonzero(as_tuple=True)
        if self.given is self.network or not len(errs):
            return errs
        return errs[logits_of(self.given, points[errs]).argmax(1) != labels[errs]]

    def forward(self, images: Images) -> Logits:
        logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        logits = logits.nan_to_num()  # also makes a copy
        return tempered(logits) if logits.requires_grad else logits


@torch.no_grad()
def confirmed(
    network: nn.Module,
    clean: Images,
    labels: Labels,
    found: Images,
    norm: Norm,
    epsilon: Epsilon,
) -> tuple[Images, Logits, Bool[Tensor, " batch"]]:
    """Project points into [0, 1] and into the ball, and evaluate the network there.

    Returns:
        the projected images, their logits, and which of them fool the network inside the ball.
    """
    within = torch.where(found.isfinite(), found, clean).clamp(0, 1)
    within = (clean + norm.project(within - clean, epsilon)).clamp(0, 1)
    logits = logits_of(network, within)
    return within, logits, (logits.argmax(1) != labels) & inside(clean, within, norm, epsilon)


@dataclass(frozen=True)
class Felled(Attacked):
    """The result of several attacks on a batch.

    Attributes:
        by: position of the attack that fooled the network, in a list of attacks; below 0 if none
            did: NEVER, or a reason of `selbench.attacks.ladder.WHY`.
    """

    by: Int64[Tensor, " batch"]


class Standing:
    """Examples under attack, which leave when they have fallen; epsilons must rise.

    An example that withstands keeps its clean image. Examples whose logits are not finite are not
    attacked: they count as fallen if misclassified, otherwise as withstanding.
    """

    @torch.no_grad()
    def __init__(
        self, network: nn.Module, images: Images, labels: Labels, examples: Examples
    ) -> None:
        """Find the examples misclassified from the start; epsilons are checked when used."""
        check_inputs(images, [])
        network = as_given(network)
        logits = logits_of(network, images)
        wrong = logits.argmax(1) != labels
        self._network, self._labels, self._examples = network, labels, examples
        self._clean = images.contiguous()  # attacks by others take views that need this layout
        self._images, self._logits = self._clean.clone(), logits
        self._steps = torch.where(wrong, 0, NEVER)
        self._by = torch.full_like(labels, NEVER)
        self._left = ~wrong & logits.isfinite().all(1)

    @property
    def left(self) -> Int64[Tensor, " left"]:
        """The positions of the examples that can still be attacked."""
        return self._left.nonzero(as_tuple=True)[0]

    @torch.no_grad()
    def search(self, attack: Foreign) -> Images:
        """Return an attack's results for the remaining examples, and clean images for others."""
        return self._searched(attack, self.left)

    def _searched(self, attack: Foreign, left: Int64[Tensor, " left"]) -> Images:
        found = self._clean.clone()
        if len(left):

            def search(*given: Tensor) -> tuple[Images]:
                return (attack(*given),)

            given = (self._clean[left], self._labels[left], self._examples[left])
            (found[left],) = in_chunks(search, *given)
        return found

    @torch.no_grad()
    def strike(self, attack: Foreign, norm: Norm, epsilon: float, number: int = 0) -> None:
        """Attack the remaining examples, and keep errors within `epsilon`."""
        left = self.left
        self._offer(left, self._searched(attack, left), norm, epsilon, number)

    def reach(self, errors: Images, norm: Norm, epsilon: float, number: int = 0) -> None:
        """Keep those of `errors` (from `search`) that are within `epsilon`."""
        sizes = norm.size(errors - self._clean)
        near = (sizes > 0) & (sizes <= epsilon + SLACK)
        (places,) = (self._left & near).nonzero(as_tuple=True)
        self._offer(places, errors, norm, epsilon, number)

    @torch.no_grad()
    def _offer(
        self, places: Tensor, found: Images, norm: Norm, epsilon: float, number: int
    ) -> None:
        """Mark the examples at `places` as fallen if their images in `found` fool the network."""
        check_inputs(self._clean[:0], [epsilon])
        if not len(places):
            return
        labels = self._labels[places]
        within, logits, hits = confirmed(
            self._network, self._clean[places], labels, found[places], norm, epsilon
        )
        # No place of `hits` is looked for, which would wait for a GPU.
        self._images[places] = within.where(hits.view(-1, 1, 1, 1), self._images[places])
        self._logits[places] = logits.where(hits[:, None], self._logits[places])
        self._steps[places] = torch.where(hits, 1, self._steps[places])
        self._by[places] = torch.where(hits, number, self._by[places])
        self._left[places] = self._left[places] & ~hits

    def result(self) -> Felled:
        """Return the results so far."""
        images, logits, steps, by = (
            t.clone() for t in (self._images, self._logits, self._steps, self._by)
        )
        return Felled(images, logits, steps != NEVER, steps, by)
