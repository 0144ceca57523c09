"""FAB: the nearest errors, from one hyperplane to the next, for each of the likeliest classes.

Croce & Hein, 2020, arXiv:1907.02044, in the targeted version of AutoAttack (arXiv:2003.01690).
"""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import logits_of
from selbench.attacks.hyperplanes import onto_hyperplane
from selbench.attacks.norms import Norm, Perturbations, Sizes
from selbench.chunks import CHUNK, in_chunks
from selbench.types import Images, Labels

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
    network: nn.Module,
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
        network: under attack.
        images: clean ones, in [0, 1]; those that the network errs on are left alone.
        labels: the right ones.
        epsilons: how near an error must be for each image to be done with; 0 for never.
        norm: to find near errors in.
        steps: for every target.
    """
    guarded = Guarded(network)
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
        self, network: nn.Module, images: Images, labels: Labels, epsilons: Sizes, norm: Norm
    ) -> None:
        self.nearest, self.sizes = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
        self._network, self._images, self._labels = network, images, labels
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
        most = max(1, CHUNK[self._images.device.type] // many)
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
        slopes, leads = _slopes(self._network, points, labels, targets.flatten())
        points = _towards_boundary(images, points, slopes, leads, self._norm)
        errs = logits_of(self._network, points).argmax(1) != labels
        self._keep(places, points, errs, many)
        back = images + RETURN * (points - images)
        return torch.where(errs.view(-1, 1, 1, 1), back, points)

    def _keep(self, places: Places, points: Tensor, errs: Tensor, many: int) -> None:
        """Keep the nearest of the points that are errors."""
        images = self._images[places].repeat_interleave(many, 0)
        sizes = self._norm.size(points - images).masked_fill(~errs, torch.inf)
        least, which = sizes.view(-1, many).min(1)
        closer = least < self.sizes[places]
        rows = torch.arange(len(places), device=places.device) * many + which
        self.sizes[places[closer]] = least[closer]
        self.nearest[places[closer]] = points[rows[closer]]


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


def _slopes(
    network: nn.Module, points: Images, labels: Labels, targets: Labels
) -> tuple[Perturbations, Sizes]:
    """Return by how much targets' logits lead the labels', and the gradient of that."""

    def backward(points: Images, labels: Labels, targets: Labels) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = network(points)
            of_target, of_label = (logits.gather(1, c[:, None])[:, 0] for c in (targets, labels))
            leads = of_target - of_label
            (slopes,) = torch.autograd.grad(leads.sum(), points)
        return slopes.nan_to_num_(), leads.detach()

    slopes, leads = in_chunks(backward, points, labels, targets)
    return slopes, leads
