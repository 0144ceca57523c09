"""Habits of networks that make results wrong; each check maps a `Look` to findings."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn

from selbench._kit.chunks import is_full
from selbench._kit.randomness import seeded
from selbench._kit.types import Images, Logits
from selbench.networks.look import TOLERANCE, Look
from selbench.networks.misfits import near_chance
from selbench.store.findings import ATTACKS, GRADIENTS, NOTHING, RANDOM, Finding

ALONE, STEEP = 4, 8  # images tested one at a time, and for slopes
# Shares of changed predictions, and relative changes of logits, that make attacks unreliable.
FLIPPED, MOVED = 0.05, 0.03
CERTAIN = 40.0  # margin of the surest quarter; softmax in float32 has no slope at twice
STEPS = (1 / 255, 1 / 1020, 1 / 4080, 1e-4, 8 / 255)  # random directions, until one agrees
DIRECTIONS = 4
AGREEMENT = 0.5  # correlation of slopes with difference quotients; 0.1 by chance
SHARE = 0.1  # share of images without a gradient

Check = Callable[[Look], Iterator[Finding]]


def not_finite(look: Look) -> Iterator[Finding]:
    """Find logits that are NaN or infinite."""
    odd = ~look.first.isfinite().all(1)
    if odd.any():
        yield Finding(
            "not_finite",
            f"returns logits that are not finite for {int(odd.sum())} of {len(odd)} images; look "
            "at its weights and normalisation",
            ATTACKS,
        )


def blind(look: Look) -> Iterator[Finding]:
    """Find a network whose logits are the same for most images."""
    count, of = int(look.ignored.sum()), len(look.first)
    if count:
        yield Finding(
            "ignores_images",
            f"returns the same logits for {'all' if look.blind else f'{count} of {of}'} images; "
            "look at its weights, at the statistics of its batch norms and at --mean and --std",
        )


def random(look: Look) -> Iterator[Finding]:
    """Find logits that differ from one call to the next."""
    if look.first.isfinite().all() and look.redraw_difference > TOLERANCE:
        yield Finding(
            RANDOM,
            "returns other logits when it gets the same images again; switch its noise or dropout "
            "off and keep no state between calls, or read its accuracies, means over draws, as "
            "those of a random network",
            ATTACKS,
        )


def of_the_batch(look: Look) -> Iterator[Finding]:
    """Find logits that depend on the other images of a batch, or on the position in it."""
    few, first = look.few, look.first
    if len(few) < 2 or not first.isfinite().all() or look.redraw_difference > TOLERANCE:
        return
    parts, turned = _otherwise(look)
    distances = look.apart(first, parts), look.apart(first, turned)
    if max(distances) <= TOLERANCE or _rounds(look, lambda exact: torch.cat(_otherwise(exact))):
        return
    other = max(_flips(first, parts), _flips(first[:ALONE], parts[:ALONE]), _flips(first, turned))
    what = "on its place in the batch" if distances[0] <= TOLERANCE else "on the rest of its batch"
    yield Finding(
        "batch",
        f"returns logits of an image that depend {what}; give batch norms stored statistics and "
        "evaluation mode, and compute nothing across the batch",
        ATTACKS if other > FLIPPED or max(distances) > MOVED else NOTHING,
    )


def _otherwise(look: Look) -> tuple[Logits, Logits]:
    """Return the logits of the few images one by one or in small batches, and in reverse order."""
    few = look.few
    sizes = [1] * min(ALONE, len(few))
    parts = [*few[:ALONE].split(sizes), *few[ALONE:].split(max(1, len(few) // 3))]
    return torch.cat([look.logits(each) for each in parts]), look.logits(few.flip(0)).flip(0)


def _rounds(look: Look, other: Callable[[Look], Logits]) -> bool:
    """Return whether the logits agree in float64, so that only rounding differs."""
    try:
        logits = other(look.precise)
        first = look.precise.first.repeat(len(logits) // len(look.few), 1)
        return look.precise.apart(first, logits) <= TOLERANCE
    except Exception:  # an operation does not support float64
        return False


def _flips(one: Logits, other: Logits) -> float:
    return (one.argmax(1) != other.argmax(1)).double().mean().item()


def of_the_mode(look: Look) -> Iterator[Finding]:
    """Find logits that differ while gradients are recorded."""
    if not look.first.isfinite().all() or look.redraw_difference > TOLERANCE:
        return
    try:
        apart = look.apart(look.first, _followed(look))
    except Exception:  # another check reports networks without a gradient
        return
    if apart > TOLERANCE and not _rounds(look, _followed):
        yield Finding(
            "gradient_mode",
            "returns other logits while gradients are recorded; take out what asks "
            "torch.is_grad_enabled() or requires_grad",
            ATTACKS,
        )


def _followed(look: Look) -> Logits:
    """Return the logits of the few images while gradients are recorded."""
    with torch.enable_grad():
        logits: Logits = look.network(look.few.clone().requires_grad_())
    return logits.detach().to(look.dtype)


def without_gradient(look: Look) -> Iterator[Finding]:
    """Find a network that cannot be differentiated, or whose gradient is zero or not finite."""
    try:
        slopes = look.slopes
    except Exception as problem:  # a user's code may raise anything
        if is_full(problem):
            raise
        yield Finding("no_gradients", _why_none(problem), GRADIENTS)
        return
    finite = slopes.flatten(1).isfinite().all(1)
    flat = (slopes.flatten(1).nan_to_num().abs().amax(1) == 0) & ~look.ignored
    if (~finite).double().mean() > SHARE:
        yield Finding(
            "gradients_not_finite",
            f"has a gradient that is not finite for {int((~finite).sum())} of {len(finite)} "
            "images; add a small number under roots, logarithms and norms",
            GRADIENTS,
        )
    if look.answers and (flat & finite).double().mean() > SHARE:
        yield Finding(
            "zero_gradients",
            f"has a gradient of zero for {int((flat & finite).sum())} of {len(flat)} images, "
            "although its logits depend on them; take out rounding, thresholds, detach() and "
            "saturated functions, or give them a gradient (BPDA, arXiv:1802.00420)",
            GRADIENTS,
        )


def _why_none(problem: Exception) -> str:
    reason = next(iter(str(problem).strip().splitlines()), "").rstrip(".")
    error = f"{type(problem).__name__}: {reason}"[:160]
    detached = "does not require grad" in reason or "not have been used" in reason
    cure = (
        "take out torch.no_grad(), inference_mode(), detach() and what goes through NumPy; for "
        "quantised or exported networks take hopskipjump-l2"
        if detached
        else "make its forward pass differentiable"
    )
    return f"has no gradient with respect to its images ({error}); {cure}"


def shattered(look: Look) -> Iterator[Finding]:
    """Find gradients that disagree with difference quotients of the logits."""
    if not look.answers or look.redraw_difference > TOLERANCE:
        return
    try:
        agreement = _agreement(look.network, look.few[:STEEP])
        if agreement < AGREEMENT:  # changes may be too small for float32
            with suppress(Exception):  # an operation does not support float64
                exact = look.precise
                agreement = max(agreement, _agreement(exact.network, exact.few[:STEEP]))
    except Exception:  # another check reports networks without a gradient
        return
    if agreement < AGREEMENT:
        yield Finding(
            "shattered_gradients",
            "has a gradient that does not say how logits change along it (correlation "
            f"{agreement:.2f} with difference quotients); take out what shatters it, or give it a "
            "useful one (BPDA, arXiv:1802.00420)",
            GRADIENTS,
        )


def _agreement(network: nn.Module, images: Images) -> float:
    """Return the highest correlation of slopes with difference quotients; 1 if it is undefined."""
    generator, dtype = seeded("probe", 0), images.dtype
    # Away from 0 and 1, where images are clamped, and from the few values of drawings.
    dither = 0.05 * torch.rand(images.shape, generator=generator).to(dtype)
    points = (0.1 + 0.8 * images + dither).requires_grad_()
    ways = torch.rand(DIRECTIONS, *images.shape, generator=generator).to(dtype) * 2 - 1
    with torch.enable_grad():
        logits = network(points)
        weights = torch.randn(logits.shape, generator=generator).to(logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), points)
    slopes = (gradient * ways).flatten(2).sum(2).flatten()
    if not slopes.isfinite().all() or not slopes.any():
        return 1.0  # another check reports it
    rounding = 100 * torch.finfo(logits.dtype).eps * (logits * weights).abs().max().item()
    found = []
    for step in STEPS:
        with torch.no_grad():
            one, other = (
                torch.cat([(network(points + s * c) * weights).sum(1) for c in ways])
                for s in (step, -step)
            )
        if (one - other).square().mean().sqrt() > rounding:
            found.append(_cosine(slopes, (one - other).to(dtype)))
        if found and found[-1] >= AGREEMENT:
            break
    return max(found, default=1.0)


def _cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two vectors; torch's function treats short vectors as zero."""
    return float((one / one.norm()) @ (other / other.norm()))


def certain(look: Look) -> Iterator[Finding]:
    """Find logits so far apart that the cross-entropy has no gradient."""
    best = look.first.topk(2, 1).values
    margin = (best[:, 0] - best[:, 1]).quantile(0.75).item()
    if margin > CERTAIN:
        yield Finding(
            "certain",
            f"returns logits whose largest leads by {margin:.0f} for a quarter of the images, "
            "so that cross-entropy underflows; divide its logits by a temperature",
        )


def probabilities(look: Look) -> Iterator[Finding]:
    """Find outputs that are probabilities, or between 0 and 1 like probabilities."""
    first = look.first
    sums = first.sum(1)
    shares = (first >= 0).all() and (sums - sums[0]).abs().max() <= 1e-3 * sums[0].abs()
    scores = ((first > 0) & (first < 1)).all() and first.max() > 0.5  # a last ReLU gives zeros
    if shares or (scores and look.answers):
        yield Finding(
            "probabilities",
            "seems to return probabilities, not logits; return what goes into the softmax, since "
            "attacks find probabilities hard and calibration is wrong",
        )


CHECKS: tuple[Check, ...] = (
    not_finite,
    blind,
    random,
    of_the_batch,
    of_the_mode,
    without_gradient,
    shattered,
    certain,
    probabilities,
    near_chance,
)
