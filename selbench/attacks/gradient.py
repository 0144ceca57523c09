"""Attacks that follow a network's gradient: in one step (FGSM) or in many (PGD).

Networks here are in evaluation mode, map images in [0, 1] to logits, and have no gradients for
their parameters. Attacks climb the cross-entropy; an example falls when it is misclassified as any
other class.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import in_chunks, sizes_of
from selbench._kit.types import Examples, Images, Labels, Logits
from selbench.attacks.folding import Searched
from selbench.attacks.losses import Loss, Losses, cross_entropy
from selbench.attacks.norms import Norm, inside

NEVER = -1  # number of steps of an example that did not fall


@dataclass(frozen=True)
class Attacked:
    """The result of an attack on a batch.

    Attributes:
        images: adversarials that succeeded; for other examples, the last images tried.
        logits: logits of `images`.
        fallen: whether the network misclassifies `images`.
        steps: number of steps until an example fell: 0 if it was misclassified from the start,
            NEVER if it did not fall.
        checks: examples with signs of masked gradients, by the checks' names in
            `selbench.attacks.masking.FLAGS`.
        counts: further counts of examples, by the metric that reports their share.
    """

    images: Images
    logits: Logits
    fallen: Bool[Tensor, " batch"]
    steps: Int64[Tensor, " batch"]
    checks: Mapping[str, Bool[Tensor, " batch"]] = field(default_factory=dict, kw_only=True)
    counts: Mapping[str, Bool[Tensor, " batch"]] = field(default_factory=dict, kw_only=True)


def check_inputs(images: Images, epsilons: Sequence[float]) -> None:
    """Raise ValueError unless images lie in [0, 1] and epsilons rise from above 0."""
    if len(images):
        low, high = torch.stack(images.aminmax()).tolist()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"images must lie in [0, 1], got values from {low:.7g} to {high:.7g}")
    if any(b <= a for a, b in pairwise([0.0, *epsilons])):
        raise ValueError(f"epsilons must be above 0 and rise, got {list(epsilons)}")


@torch.no_grad()
def logits_of(network: nn.Module, images: Images) -> Logits:
    """Return the network's logits, computed in chunks."""

    def forward(images: Images) -> tuple[Logits]:
        return (network(laid_out(images)),)

    with sizes_of(network):
        (logits,) = in_chunks(forward, images)
    return logits


def gradients_of(
    network: nn.Module,
    images: Images,
    labels: Labels,
    loss: Callable[..., Losses] = cross_entropy,
    *others: Tensor,
) -> tuple[Images, Logits]:
    """Return each example's gradient of the loss with respect to its image, and the logits.

    NaN gradients become 0, such as those of a root at 0, where many pixels are. `loss` takes
    logits, labels, and rows of `others` if there are any.
    """

    def backward(images: Images, *given: Tensor) -> tuple[Images, Logits]:
        points = laid_out(images.detach()).requires_grad_()
        with torch.enable_grad():
            outputs = network(points)
            (gradient,) = torch.autograd.grad(loss(outputs, *given).sum(), points)
        return gradient.nan_to_num_(), outputs.detach()

    with sizes_of(network):
        gradients, logits = in_chunks(backward, images, labels, *others)
    return gradients, logits


@torch.no_grad()
def fgsm(
    network: nn.Module,
    images: Images,
    labels: Labels,
    epsilons: Sequence[float],
    norm: Norm,
) -> list[Attacked]:
    """Take one step to the border of the ball, for each epsilon along the same gradient.

    Examples that are misclassified from the start keep their images and count as fallen.
    Goodfellow, Shlens & Szegedy, 2015, arXiv:1412.6572.
    """
    check_inputs(images, epsilons)
    gradients, clean = gradients_of(network, images, labels)
    wrong = clean.argmax(1) != labels
    direction = norm.steepest(gradients).masked_fill_(wrong.view(-1, 1, 1, 1), 0)
    results = []
    for epsilon in epsilons:
        adversarials = (images + epsilon * direction).clamp_(0, 1)
        logits = logits_of(network, adversarials).where(~wrong[:, None], clean)
        fallen = (logits.argmax(1) != labels) & inside(images, adversarials, norm, epsilon)
        steps = torch.where(fallen, 1, NEVER).masked_fill_(wrong, 0)
        results.append(Attacked(adversarials, logits, fallen, steps))
    return results


@torch.no_grad()
def pgd(
    network: nn.Module,
    images: Images,
    labels: Labels,
    epsilon: float,
    norm: Norm,
    *,
    step: float,
    steps: int,
    start: Images | None = None,
    early: bool = True,
    loss: Loss = cross_entropy,
) -> Attacked:
    """Climb the loss in steps of a fixed length, projected into the ball and into [0, 1].

    Kurakin, Goodfellow & Bengio, 2017, arXiv:1607.02533; Madry et al., 2018, arXiv:1706.06083.

    Args:
        network: the network under attack.
        images: clean images.
        labels: their true classes.
        epsilon: radius of the ball.
        norm: norm of the ball.
        step: length of a step in this norm.
        steps: number of steps.
        start: images inside the ball to start from; None for `images`.
        early: whether examples leave as soon as they fall; otherwise all take every step and the
            last point decides, as in foolbox.
        loss: the loss to climb.
    """
    check_inputs(images, [epsilon])
    start = images if start is None else start
    states = climb(network, images, labels, epsilon, norm, step, steps, start, early, loss)
    return deque(states, maxlen=1)[0]


@torch.no_grad()
def pgd_curve(
    network: nn.Module,
    images: Images,
    labels: Labels,
    epsilon: float,
    norm: Norm,
    *,
    step: float,
    steps: int,
) -> list[Attacked]:
    """Run PGD once from the images; return the results after 1, 2, ..., `steps` steps.

    All results share the images of the last step.
    """
    check_inputs(images, [epsilon])
    states = climb(network, images, labels, epsilon, norm, step, steps, images, early=True)
    kept = [
        Attacked(now.images, now.logits.clone(), now.fallen.clone(), now.steps.clone())
        for now in states
    ]
    return (kept + kept[-1:] * steps)[1 : steps + 1]  # it ends early if all have fallen


def climb(
    network: nn.Module,
    images: Images,
    labels: Labels,
    epsilon: float,
    norm: Norm,
    step: float,
    steps: int,
    points: Images,
    early: bool,
    loss: Loss = cross_entropy,
) -> Iterator[Attacked]:
    """Yield the state of PGD at the start and after every step, in the same tensors.

    Arguments are those of `pgd`; images are not checked.
    """
    alive = torch.arange(len(images), device=images.device)
    state: Attacked | None = None
    for number in range(steps + 1):
        last = number == steps
        if last:
            gradients, logits = points, logits_of(network, points)
        else:
            gradients, logits = gradients_of(network, points, labels, loss)
        if state is None:
            nobody = torch.zeros_like(labels, dtype=torch.bool)
            state = Attacked(points.clone(), logits.clone(), nobody, torch.full_like(labels, NEVER))
        state.images[alive], state.logits[alive] = points, logits
        fell = _errs(network, points, labels, logits) & inside(images, points, norm, epsilon)
        # The only wait for a GPU, once per step.
        left = (~fell).nonzero(as_tuple=True)[0] if early and not last else alive
        if last or len(left) < len(fell):
            state.fallen[alive] = fell
            state.steps[alive] = torch.where(fell, number, NEVER)
        yield state
        if last or not len(left):
            return
        if len(left) < len(fell):
            alive, images, labels = alive[left], images[left], labels[left]
            points, gradients = points[left], gradients[left]
        moved = points + step * norm.steepest(gradients)
        points = (images + norm.project(moved - images, epsilon)).clamp_(0, 1)


@torch.no_grad()
def pgd_grid(
    network: nn.Module,
    images: Images,
    labels: Labels,
    epsilons: Sequence[float],
    norm: Norm,
    *,
    steps: int,
    relative_step: float,
    restarts: int,
    examples: Examples,
    key: str,
    again: Loss = cross_entropy,
) -> list[Attacked]:
    """Run PGD for rising epsilons; an example that falls at one falls at all larger ones.

    The first run starts from the images, each restart from random points of the ball.

    Args:
        network: the network under attack.
        images: clean images.
        labels: their true classes.
        epsilons: radii of the ball, in rising order.
        norm: norm of the ball.
        steps: steps of each run.
        relative_step: length of a step as a fraction of epsilon.
        restarts: number of further runs on the remaining examples.
        examples: each image's position in its data set, which determines its random points.
        key: name of the random numbers.
        again: loss of the restarts.
    """
    check_inputs(images, epsilons)
    logits = logits_of(network, images)
    wrong = logits.argmax(1) != labels
    best = Attacked(images.clone(), logits, wrong, torch.where(wrong, 0, NEVER))
    results = []
    for epsilon in epsilons:
        for run in range(restarts + 1):
            (left,) = (~best.fallen).nonzero(as_tuple=True)
            if not len(left):
                break
            clean, start = images[left], None
            if run:
                draws = KeyedDraws(f"{key}/{norm.name}/{epsilon!r}/{run}", examples[left])
                noise = norm.random(draws, tuple(clean.shape[1:]), epsilon)
                start = (clean + noise).clamp_(0, 1)
            found = pgd(
                network,
                clean,
                labels[left],
                epsilon,
                norm,
                step=relative_step * epsilon,
                steps=steps,
                start=start,
                loss=again if run else cross_entropy,
            )
            best = merged(best, found, left)
        results.append(best)
    return results


def merged(
    full: Attacked, part: Attacked, places: Tensor, kept: Bool[Tensor, " part"] | None = None
) -> Attacked:
    """Return `full` with the examples at `places` replaced by those of `part`, or by its `kept`."""
    chosen = slice(None) if kept is None else kept
    places = places[chosen]

    def put(ours: Tensor, theirs: Tensor) -> Tensor:
        return ours.index_copy(0, places, theirs[chosen])

    return Attacked(
        put(full.images, part.images),
        put(full.logits, part.logits),
        put(full.fallen, part.fallen),
        put(full.steps, part.steps),
    )


def _errs(
    network: nn.Module, points: Images, labels: Labels, logits: Logits
) -> Bool[Tensor, " batch"]:
    """Return which points fool the network; other draws confirm errors of a random one."""
    errs = logits.argmax(1) != labels
    if isinstance(network, Searched) and network.drawn and errs.any():
        errs[errs.clone()] = logits_of(network.given, points[errs]).argmax(1) != labels[errs]
    return errs


def laid_out(images: Images) -> Images:
    """Return images in the memory layout of the networks' weights (channels last)."""
    return images.contiguous(memory_format=torch.channels_last)
