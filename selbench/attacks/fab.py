"""FAB: the nearest errors, from one hyperplane to the next, for each of the likeliest classes.

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
TARGETS = 9  # other classes that are tried, the likeliest first
OVERSHOOT = 1.05  # of the way to a hyperplane
BIAS = 0.1  # at most, of a step's start towards the clean image
RETURN = 0.9  # what is kept of the way to an error, from which the search goes on
SHORTEST = 1e-8  # ways shorter than this count as so long

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
    """Return the nearest errors that FAB finds; the clean image where there is none.

    The likeliest other class is tried first, and then all others side by side. An image leaves as
    soon as an error is at most its epsilon away: what is found does not depend on the batch.

    Args:
        guarded: the network under attack.
        images: clean ones, in [0, 1]; those that the network errs on are left alone.
        labels: the right ones.
        epsilons: how near an error must be for each image to be done with; 0 for never.
        norm: to find near errors in.
        steps: for every target.
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
    """The nearest errors so far, and how to look for nearer ones.

    Attributes:
        nearest: errors; the clean image where there is none.
        sizes: how far they are; inf where there is none.
    """

    def __init__(
        self, guarded: Guarded, images: Images, labels: Labels, epsilons: Sizes, norm: Norm
    ) -> None:
        self.nearest, self.sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        self._guarded, self._images, self._labels = guarded, images, labels
        self._epsilons, self._norm = epsilons, norm

    @property
    def left(self) -> Bool[Tensor, " batch"]:
        """Whether each image has no error yet that is near enough."""
        return self.sizes > self._epsilons

    def run(self, places: Places, targets: Targets, steps: int) -> None:
        """Let images at `places` take their steps, all targets of an image together.

        As many images at once as fill a pass: where one is done the next takes its place.
        """
        many = targets.shape[1]
        if not many:
            return
        most = max(1, gradient_chunk(self._images) // many)
        waiting, now = places, places[:0]
        points, taken = self._images[now][:, None].expand(-1, many, -1, -1, -1), now
        while len(waiting) or len(now):
            new, waiting = waiting.tensor_split([most - len(now)])
            starts = self._images[new][:, None].expand(-1, many, -1, -1, -1)
            now, points = torch.cat([now, new]), torch.cat([points, starts])
            taken = torch.cat([taken, torch.zeros_like(new)]) + 1
            points = self._step(now, points.flatten(0, 1), targets[now]).view_as(points)
            stay = self.left[now] & (taken < steps)
            now, points, taken = now[stay], points[stay], taken[stay]

    def _step(self, places: Places, points: Tensor, targets: Targets) -> Tensor:
        """Return the points after a step of every row: of each image in turn its targets."""
        many = targets.shape[1]
        images = self._images[places].repeat_interleave(many, 0)
        labels = self._labels[places].repeat_interleave(many)
        wanted = targets.flatten()
        slopes, logits = gradients_of(self._guarded, points, labels, _lead, wanted)
        leads = _lead(logits, labels, wanted)
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
        sure = self._guarded.fooled(points[rows], self._labels[places[closer]], logits[rows])
        closer, rows = closer[sure], rows[sure]
        self.sizes[places[closer]] = least[closer]
        self.nearest[places[closer]] = points[rows]


def _towards_boundary(
    images: Images, points: Images, slopes: Perturbations, leads: Sizes, norm: Norm
) -> Images:
    """Go beyond where a target's logit would reach the label's if both were linear.

    The new point lies between where that is for `points` and for `images`, the nearer to the latter
    the nearer these are to it.
    """
    moved = (slopes * (images - points)).flatten(1).sum(1)
    here = onto_hyperplane(points, slopes, leads, norm)
    there = onto_hyperplane(images, slopes, leads + moved, norm)
    length, other = (norm.size(way).clamp(min=SHORTEST) for way in (here, there))
    bias = (length / (length + other)).clamp(max=BIAS).view(-1, 1, 1, 1)
    onward, outward = points + OVERSHOOT * here, images + OVERSHOOT * there
    return ((1 - bias) * onward + bias * outward).clamp(0, 1)


def _lead(logits: Logits, labels: Labels, targets: Labels) -> Losses:
    """Return by how much targets' logits lead the labels'."""
    own, other = (logits.gather(1, each[:, None]).squeeze(1) for each in (labels, targets))
    return other - own
