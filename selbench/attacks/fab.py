"""FAB: nearest errors by steps towards linearised boundaries, for each of the likeliest classes.

Croce & Hein, 2020, arXiv:1907.02044, in the targeted version of AutoAttack (arXiv:2003.01690).
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from selbench._kit.chunks import gradient_chunk
from selbench._kit.types import Images, Labels, Logits
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import gradients_of, logits_of
from selbench.attacks.hope import CLIMBED, checkpoint
from selbench.attacks.hyperplanes import onto_hyperplane
from selbench.attacks.losses import targeted_margin
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
    patient: bool = True,
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
        patient: whether targets without hope go on to the last step: those whose nearest error is
            more than 1.5 times as far away as the image's epsilon.
    """
    logits = logits_of(guarded, images)
    ranked = logits.argsort(1, descending=True)[:, 1 : TARGETS + 1]
    search = _Search(guarded, images, labels, epsilons, norm, steps, patient)
    right = logits.argmax(1) == labels
    for targets in (ranked[:, :1], ranked[:, 1:]):
        (places,) = (right & search.left).nonzero(as_tuple=True)
        search.run(places, targets)
    return search.nearest


class _Search:
    """The nearest errors so far, and the search for nearer ones.

    Attributes:
        nearest: nearest errors; the clean image if there is none.
        sizes: their distances; inf if there is none.
    """

    def __init__(
        self,
        guarded: Guarded,
        images: Images,
        labels: Labels,
        epsilons: Sizes,
        norm: Norm,
        steps: int,
        patient: bool,
    ) -> None:
        self.nearest, self.sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        self._guarded, self._images, self._labels = guarded, images, labels
        self._epsilons, self._norm = epsilons, norm
        self._steps, self._checkpoint = steps, steps if patient else checkpoint(steps)

    @property
    def left(self) -> Bool[Tensor, " batch"]:
        """Whether each image still lacks an error within its epsilon."""
        return self.sizes > self._epsilons

    def run(self, places: Places, targets: Targets) -> None:
        """Run all steps for the images at `places`, all targets of an image together.

        Passes are kept full: when rows have left, the next image takes their place.
        """
        many = targets.shape[1]
        if not many:
            return
        most = max(many, gradient_chunk(self._images))
        waiting, rows = places, _Rows.of(self._images, places[:0], targets)
        while len(waiting) or len(rows.places):
            new, waiting = waiting.tensor_split([(most - len(rows.places)) // many])
            rows = _Rows.joined(rows, _Rows.of(self._images, new, targets))
            self._step(rows)
            (stay,) = self._staying(rows).nonzero(as_tuple=True)
            rows = rows.only(stay)

    def _staying(self, rows: "_Rows") -> Bool[Tensor, " rows"]:
        """Return which rows take another step."""
        far = CLIMBED * rows.nearest > self._epsilons[rows.places]
        without_hope = (rows.steps == self._checkpoint) & far
        return self.left[rows.places] & (rows.steps < self._steps) & ~without_hope

    def _step(self, rows: "_Rows") -> None:
        """Take one step in all rows."""
        images, labels = self._images[rows.places], self._labels[rows.places]
        given = (labels, targeted_margin, rows.targets)
        slopes, logits = gradients_of(self._guarded, rows.points, *given)
        leads = targeted_margin(logits, labels, rows.targets)
        points = _towards_boundary(images, rows.points, slopes, leads, self._norm)
        logits = logits_of(self._guarded, points)
        errs = logits.argmax(1) != labels
        ways = points - images
        sizes = self._norm.size(ways).masked_fill(~errs, torch.inf)
        self._keep(rows.places, points, logits, sizes)
        rows.points = torch.where(errs.view(-1, 1, 1, 1), images + RETURN * ways, points)
        rows.nearest, rows.steps = torch.minimum(rows.nearest, sizes), rows.steps + 1

    def _keep(self, places: Places, points: Images, logits: Logits, sizes: Sizes) -> None:
        """Keep each image's nearest point if it is the nearest so far; `sizes` is inf for none."""
        least = self.sizes.scatter_reduce(0, places, sizes, "amin")[places]
        (rows,) = ((sizes == least) & (sizes < self.sizes[places])).nonzero(as_tuple=True)
        if not len(rows):
            return
        sure = self._guarded.fallen(points[rows], self._labels[places[rows]], logits[rows])
        rows = rows[sure]
        self.sizes[places[rows]] = sizes[rows]
        self.nearest[places[rows]] = points[rows]


@dataclass
class _Rows:
    """Pairs of an image and a target under search; an image's rows start together.

    Attributes:
        places: the images' positions.
        nearest: distances of the rows' nearest errors; inf if there is none.
        steps: number of steps taken.
    """

    places: Places
    targets: Labels
    points: Images
    nearest: Sizes
    steps: Places

    @classmethod
    def of(cls, images: Images, places: Places, targets: Targets) -> "_Rows":
        """Return the first rows of images."""
        targets = targets[places]
        places = places.repeat_interleave(targets.shape[1])
        points = images[places]
        nothing = torch.full_like(points[:, 0, 0, 0], torch.inf)
        return cls(places, targets.flatten(), points, nothing, torch.zeros_like(places))

    @classmethod
    def joined(cls, *some: "_Rows") -> "_Rows":
        """Return all rows."""
        return cls(*(torch.cat([getattr(r, f.name) for r in some]) for f in fields(cls)))

    def only(self, kept: Places) -> "_Rows":
        """Return the rows at `kept`."""
        return _Rows(*(getattr(self, f.name)[kept] for f in fields(self)))


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
