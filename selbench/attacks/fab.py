"""FAB: nearest errors by steps towards linearised boundaries, for each of the likeliest classes.

Croce & Hein, 2020, arXiv:1907.02044, in the targeted version of AutoAttack (arXiv:2003.01690).
"""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from selbench._kit.chunks import gradient_chunk
from selbench._kit.types import Images, Labels, Logits
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import gradients_of, logits_of
from selbench.attacks.hyperplanes import onto_hyperplane
from selbench.attacks.losses import Losses
from selbench.attacks.norms import Norm, Perturbations, Sizes

STEPS = 100
TARGETS = 9  # number of other classes to try, likeliest first
OVERSHOOT = 1.05  # factor of the step to a hyperplane
BIAS = 0.1  # largest weight of the clean image in a step
RETURN = 0.9  # share of the perturbation kept after an error, to search on from there
SHORTEST = 1e-8  # least length of a step, for the weights

Places = Int64[Tensor, " places"]
Targets = Int64[Tensor, "rows targets"]


@torch.no_grad()
def fab(
    guarded: Guarded,
    images: Images,
    labels: Labels,
    epsilons: Sizes,
    norm: Norm,
    *,
    steps: int = STEPS,
) -> Images:
    """Return the nearest errors that FAB finds; the clean image if there is none.

    The likeliest other class is tried first, then all others side by side. An image leaves when its
    error is within its epsilon, so the result does not depend on the batch.

    Args:
        guarded: the network under attack.
        images: clean images, in [0, 1]; misclassified ones are skipped.
        labels: their true classes.
        epsilons: distance of an error at which the search for an image ends; 0 for never.
        norm: norm of the distances.
        steps: steps for each target.
    """
    logits = logits_of(guarded, images)
    ranked = logits.argsort(1, descending=True)[:, 1 : TARGETS + 1]
    search = _Search(guarded, images, labels, epsilons, norm)
    right = logits.argmax(1) == labels
    for targets in (ranked[:, :1], ranked[:, 1:]):
        (places,) = (right & search.left).nonzero(as_tuple=True)
        search.run(places, targets, steps)
    return search.nearest


class _Search:
    """The nearest errors so far, and the search for nearer ones.

    Attributes:
        nearest: nearest errors; the clean image if there is none.
        sizes: their distances; inf if there is none.
    """

    def __init__(
        self, guarded: Guarded, images: Images, labels: Labels, epsilons: Sizes, norm: Norm
    ) -> None:
        self.nearest, self.sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        self._guarded, self._images, self._labels = guarded, images, labels
        self._epsilons, self._norm = epsilons, norm

    @property
    def left(self) -> Bool[Tensor, " batch"]:
        """Whether each image still lacks an error within its epsilon."""
        return self.sizes > self._epsilons

    def run(self, places: Places, targets: Targets, steps: int) -> None:
        """Run all steps for the images at `places`, all targets of an image together.

        Passes are kept full: when an image is finished, the next one takes its place.
        """
        many = targets.shape[1]
        if not many:
            return
        most = max(1, gradient_chunk(self._images) // many)
        waiting, now = places, places[:0]
        points, steps_done = self._images[now][:, None].expand(-1, many, -1, -1, -1), now
        while len(waiting) or len(now):
            new, waiting = waiting.tensor_split([most - len(now)])
            starts = self._images[new][:, None].expand(-1, many, -1, -1, -1)
            now, points = torch.cat([now, new]), torch.cat([points, starts])
            steps_done = torch.cat([steps_done, torch.zeros_like(new)]) + 1
            points = self._step(now, points.flatten(0, 1), targets[now]).view_as(points)
            (stay,) = (self.left[now] & (steps_done < steps)).nonzero(as_tuple=True)
            now, points, steps_done = now[stay], points[stay], steps_done[stay]

    def _step(self, places: Places, points: Tensor, targets: Targets) -> Tensor:
        """Return all points after one step; each image's targets are consecutive rows."""
        many = targets.shape[1]
        images = self._images[places].repeat_interleave(many, 0)
        labels = self._labels[places].repeat_interleave(many)
        target_rows = targets.flatten()
        slopes, logits = gradients_of(self._guarded, points, labels, _lead, target_rows)
        leads = _lead(logits, labels, target_rows)
        points = _towards_boundary(images, points, slopes, leads, self._norm)
        logits = logits_of(self._guarded, points)
        errs = logits.argmax(1) != labels
        ways = points - images
        self._keep(places, points, logits, self._norm.size(ways).masked_fill(~errs, torch.inf))
        return torch.where(errs.view(-1, 1, 1, 1), images + RETURN * ways, points)

    def _keep(self, places: Places, points: Tensor, logits: Tensor, sizes: Tensor) -> None:
        """Keep each image's nearest point if it is the nearest so far; `sizes` is inf for none."""
        least, which = sizes.view(len(places), -1).min(1)
        (closer,) = (least < self.sizes[places]).nonzero(as_tuple=True)
        if not len(closer):
            return
        rows = closer * (len(sizes) // len(places)) + which[closer]
        sure = self._guarded.fallen(points[rows], self._labels[places[closer]], logits[rows])
        closer, rows = closer[sure], rows[sure]
        self.sizes[places[closer]] = least[closer]
        self.nearest[places[closer]] = points[rows]


def _towards_boundary(
    images: Images, points: Images, slopes: Perturbations, leads: Sizes, norm: Norm
) -> Images:
    """Step beyond the hyperplane where both classes' logits would be equal if they were linear.

    The new point lies between the hyperplane's nearest points to `points` and to `images`, with
    more weight for the latter the closer `images` are.
    """
    moved = (slopes * (images - points)).flatten(1).sum(1)
    here, there = onto_hyperplane(
        torch.cat([points, images]),
        slopes.repeat(2, 1, 1, 1),
        torch.cat([leads, leads + moved]),
        norm,
    ).chunk(2)
    length, other = (norm.size(way).clamp(min=SHORTEST) for way in (here, there))
    bias = (length / (length + other)).clamp(max=BIAS).view(-1, 1, 1, 1)
    onward, outward = points + OVERSHOOT * here, images + OVERSHOOT * there
    return ((1 - bias) * onward + bias * outward).clamp(0, 1)


def _lead(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return the targets' logits minus the labels' logits."""
    label_logits, target_logits = (
        logits.gather(1, each[:, None]).squeeze(1) for each in (labels, targets)
    )
    return target_logits - label_logits
