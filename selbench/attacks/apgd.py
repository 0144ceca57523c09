"""Auto-PGD: gradient ascent with momentum that halves its steps when they no longer help.

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
from selbench.attacks.hope import CLIMBED, checkpoint, hopeless
from selbench.attacks.losses import (
    Losses,
    cross_entropy,
    logits_ratio,
    margin,
    targeted_margin,
    targeted_ratio,
    towards,
)
from selbench.attacks.norms import Norm, Sizes, each
from selbench.attacks.waiting import remaining

FRACTION = 0.75  # least share of steps since the last check that must have raised the loss
MOMENTUM = 0.25  # share of the last step in a new one
# The first check is after the share FIRST of all steps. Intervals then shrink by SHORTER, down to
# SHORTEST.
FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06

LOSSES: Mapping[str, Callable[[Logits, Labels, Labels], Losses]] = MappingProxyType(
    {
        "ce": lambda logits, labels, targets: cross_entropy(logits, labels),
        "dlr": lambda logits, labels, targets: logits_ratio(logits, labels),
        "dlr-targeted": targeted_ratio,
        "ce-targeted": towards,  # for fewer classes than the ratio needs
    }
)


class Climbed(NamedTuple):
    """The result of APGD, in rows.

    Attributes:
        points: the first point that fooled the network; in other rows, the point of highest loss.
        fell: the rows that fooled the network.
    """

    points: Images
    fell: Bool[Tensor, " rows"]


@dataclass
class _Rows:
    """The state of APGD for the rows still being attacked; the first axis counts rows.

    Attributes:
        places: their positions among all rows.
        before: the points before the last step.
        best, best_gradients, best_losses: values at the point of highest loss.
        reach: length of the next step.
        last: the loss after the last step.
        rises: number of steps since the last check that raised the loss.
        checked: highest loss at the last check.
        halved: whether the last check halved the steps.
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
        """Return the rows at `kept`."""
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
    patient: bool = True,
) -> Climbed:
    """Climb a loss from `start`, all rows in lockstep; fallen rows leave at once.

    Costs a gradient per step and a final forward pass, for the remaining rows.

    Args:
        guarded: the network under attack.
        images: clean images, one for each row.
        labels: their true classes.
        epsilons: one for each row.
        norm: norm of the balls.
        start: points in the balls to start from; they are clipped to [0, 1].
        loss: one of `LOSSES`.
        targets: classes that targeted losses aim at.
        owners: the image that each row belongs to; when one row falls, all rows of its image leave.
            None if each row has its own image.
        steps: number of steps.
        early: whether fallen rows leave.
        patient: whether rows without hope go on to the last step.
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
        if number == checkpoint(steps) and not patient and len(rows.places):
            gone = _hopeless(guarded, rows)
            found[rows.places[gone]] = rows.best[gone]
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
    # The first step counts as a rise if its loss is above zero. This follows the authors' code; the
    # paper compares it with the loss at the start.
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
    """Evaluate the points, keep the best, and return the logits; at last without gradients."""
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


def _hopeless(guarded: Guarded, rows: _Rows) -> Int64[Tensor, " gone"]:
    """Return the rows whose best points are too far from an error, or from their targets."""

    def leads(points: Images) -> Losses:
        logits = logits_of(guarded, points)
        aimed = targeted_margin(logits, rows.labels, rows.targets)
        return torch.where(rows.targets == rows.labels, margin(logits, rows.labels), aimed)

    gone = hopeless(leads(rows.images), leads(rows.best), CLIMBED)
    return gone.nonzero(as_tuple=True)[0]


def _check(rows: _Rows, length: int) -> None:
    """After `length` steps, halve those that no longer help, and return to the best points."""
    stuck = ~rows.halved & (rows.checked >= rows.best_losses)
    halve = (rows.rises <= FRACTION * length) | stuck
    rows.reach = torch.where(halve, rows.reach / 2, rows.reach)
    rows.points = rows.best.where(_wide(halve), rows.points)
    rows.gradients = rows.best_gradients.where(_wide(halve), rows.gradients)
    rows.halved, rows.checked, rows.rises = halve, rows.best_losses, torch.zeros_like(rows.rises)


def _step(rows: _Rows, norm: Norm, momentum: float) -> None:
    """Step along the gradients, with some momentum from the last step."""

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
