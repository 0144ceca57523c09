"""Auto-PGD: gradient ascent with momentum that halves its steps where they no longer help.

Croce & Hein, 2020, arXiv:2003.01690.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from selbench._kit.types import Images, Labels, Logits
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import gradients_of, laid_out, logits_of
from selbench.attacks.losses import Losses, cross_entropy, logits_ratio, targeted_ratio, towards
from selbench.attacks.norms import Norm, Sizes, each
from selbench.attacks.waiting import remaining

FRACTION = 0.75  # of the steps since the last check that must have raised the loss
MOMENTUM = 0.25  # of the last step, in a new one
# Checks: the first after so much of all steps, each interval shorter by so much, to a shortest.
FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06

LOSSES: Mapping[str, Callable[[Logits, Labels, Labels], Losses]] = MappingProxyType(
    {
        "ce": lambda logits, labels, targets: cross_entropy(logits, labels),
        "dlr": lambda logits, labels, targets: logits_ratio(logits, labels),
        "dlr-targeted": targeted_ratio,
        "ce-targeted": towards,  # for fewer classes than the ratio takes
    }
)


class Climbed(NamedTuple):
    """What APGD made of rows.

    Attributes:
        points: the first that fooled the network; of the other rows, that of the highest loss.
        fell: which fooled it.
    """

    points: Images
    fell: Bool[Tensor, " rows"]


@dataclass
class _Rows:
    """What APGD keeps of each row that is still under way; a tensor's first axis counts them.

    Attributes:
        places: among all rows.
        before: the points before the last step.
        best, best_gradients, best_losses: at the point with the highest loss.
        reach: length of the steps.
        last: the loss after the last step.
        rises: steps since the last check that raised the loss.
        checked: the highest loss at the last check.
        halved: whether steps were halved there.
    """

    places: Int64[Tensor, " rows"]
    owners: Int64[Tensor, " rows"]
    images: Images
    labels: Labels
    targets: Labels
    epsilons: Sizes
    points: Images
    before: Images
    gradients: Images
    best: Images
    best_gradients: Images
    best_losses: Losses
    reach: Sizes
    last: Losses
    rises: Float[Tensor, " rows"]
    checked: Losses
    halved: Bool[Tensor, " rows"]

    def only(self, kept: Int64[Tensor, " kept"]) -> "_Rows":
        """Return some of the rows."""
        return _Rows(*(getattr(self, f.name)[kept] for f in fields(self)))


@torch.no_grad()
def apgd(
    guarded: Guarded,
    images: Images,
    labels: Labels,
    epsilons: Sizes,
    norm: Norm,
    *,
    start: Images,
    loss: str,
    targets: Labels | None = None,
    owners: Int64[Tensor, " batch"] | None = None,
    steps: int = 100,
    early: bool = True,
) -> Climbed:
    """Climb a loss from `start`, all rows in lockstep; rows that have fallen leave at once.

    Costs a gradient for every step, and at last a forward pass, of the rows that are left.

    Args:
        guarded: the network under attack.
        images: clean ones, one for each row.
        labels: the right ones.
        epsilons: each row's.
        norm: of the balls.
        start: points to start from, in the balls; they are brought into [0, 1].
        loss: one of `LOSSES`.
        targets: the classes that targeted losses climb to.
        owners: which image a row belongs to: with one row all of its image's leave. None where
            each has an image of its own.
        steps: how many.
        early: whether rows leave at all.
    """
    places = torch.arange(len(images), device=images.device)
    owners = places if owners is None else owners
    targets = labels if targets is None else targets
    images, points = laid_out(images), laid_out(start.clamp(0, 1))
    fell = torch.zeros_like(labels, dtype=torch.bool)
    rows = _begun(places, owners, images, labels, targets, epsilons, points)
    found = points.clone()
    window = length = max(int(FIRST * steps), 1)
    for number in range(steps + 1):
        logits = _evaluate(guarded, rows, LOSSES[loss], number, last=number == steps)
        if early:
            fallen = guarded.fallen(rows.points, rows.labels, logits)
            if len(fallen):
                (gone,) = torch.isin(rows.owners, rows.owners[fallen]).nonzero(as_tuple=True)
                found[rows.places[gone]] = rows.best[gone]
                found[rows.places[fallen]] = rows.points[fallen]
                fell.index_fill_(0, rows.places[fallen], True)
                rows = rows.only(remaining(gone, len(rows.places)))
        if number == steps or not len(rows.places):
            break
        if number and not (window := window - 1):
            _check(rows, length)
            shorter = length - max(int(SHORTER * steps), 1)
            window = length = max(shorter, int(SHORTEST * steps), 1)
        _step(rows, norm, MOMENTUM if number else 0)
    found[rows.places] = rows.best
    return Climbed(found, fell)


def _begun(
    places: Tensor,
    owners: Tensor,
    images: Images,
    labels: Labels,
    targets: Labels,
    epsilons: Sizes,
    points: Images,
) -> _Rows:
    nothing = torch.zeros_like(epsilons)
    # The first step counts as one that raised the loss if the loss is then above zero: as in the
    # authors' code, not as in the paper, which compares it with the start's.
    return _Rows(
        places,
        owners,
        images,
        labels,
        targets,
        epsilons,
        points=points,
        before=points,
        gradients=points,
        best=points,
        best_gradients=points,
        best_losses=nothing,
        reach=2 * epsilons,
        last=nothing,
        rises=nothing,
        checked=nothing,
        halved=torch.ones_like(labels, dtype=torch.bool),
    )


def _evaluate(
    guarded: Guarded, rows: _Rows, loss: Callable[..., Losses], number: int, last: bool
) -> Logits:
    """Look at the points, keep the best ones, and return the logits; at last without gradients."""
    if last:
        logits = logits_of(guarded, rows.points)
    else:
        rows.gradients, logits = gradients_of(guarded, rows.points, rows.labels, loss, rows.targets)
    losses = loss(logits, rows.labels, rows.targets)
    if not number:
        rows.best_losses = rows.checked = losses
        rows.best, rows.best_gradients = rows.points, rows.gradients
        return logits
    rows.rises, rows.last = rows.rises + (losses > rows.last), losses
    better = losses > rows.best_losses
    rows.best_losses = losses.where(better, rows.best_losses)
    rows.best = rows.points.where(_wide(better), rows.best)
    if not last:
        rows.best_gradients = rows.gradients.where(_wide(better), rows.best_gradients)
    return logits


def _check(rows: _Rows, length: int) -> None:
    """Halve steps that no longer help, after `length` of them, and go back to the best point."""
    stuck = ~rows.halved & (rows.checked >= rows.best_losses)
    halve = (rows.rises <= FRACTION * length) | stuck
    rows.reach = torch.where(halve, rows.reach / 2, rows.reach)
    rows.points = rows.best.where(_wide(halve), rows.points)
    rows.gradients = rows.best_gradients.where(_wide(halve), rows.gradients)
    rows.halved, rows.checked, rows.rises = halve, rows.best_losses, torch.zeros_like(rows.rises)


def _step(rows: _Rows, norm: Norm, momentum: float) -> None:
    """Step along the gradients and, a little, along the last step."""

    def brought_in(points: Images) -> Images:
        away = norm.project(points - rows.images, rows.epsilons)
        return away.add_(rows.images).clamp_(0, 1)

    moved = brought_in(rows.points + each(rows.reach) * norm.steepest(rows.gradients))
    if momentum:
        drift = rows.points - rows.before
        moved = brought_in(rows.points + (1 - momentum) * (moved - rows.points) + momentum * drift)
    rows.before, rows.points = rows.points, moved


def _wide(true: Bool[Tensor, " rows"]) -> Bool[Tensor, "rows 1 1 1"]:
    return true.view(-1, 1, 1, 1)
