"""Checks whether a network only looks robust, by results that a sound attack never shows.

Carlini et al., 2019, arXiv:1902.06705; Croce & Hein, 2020, arXiv:2003.01690. Each check is a
number, which raises a flag above its threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import is_full
from selbench._kit.types import Examples, Images, Labels
from selbench.attacks.gradient import check_inputs, fgsm, gradients_of, logits_of, pgd_grid
from selbench.attacks.losses import are_probabilities, margin
from selbench.attacks.norms import NORMS

LINF = NORMS["linf"]
HUGE = 64 / 255  # an epsilon that no network can withstand
DIGITS = 9  # for shares of images: further digits are rounding


@dataclass(frozen=True)
class Flag:
    """A sign of masked gradients.

    Attributes:
        words: its name in tables.
        threshold: the flag is raised above this value.
        alone: whether one image suffices; otherwise a single image counts as chance.
    """

    words: str
    threshold: float = 0.0
    alone: bool = False


FLAGS: Mapping[str, Flag] = MappingProxyType(
    {
        "no_gradients": Flag("no gradients", alone=True),
        "zero_gradients": Flag("zero gradients"),
        "not_finite": Flag("outputs not finite", alone=True),
        "probabilities": Flag("returns probabilities", alone=True),
        "random": Flag("random outputs", alone=True),
        "one_step": Flag("one step beats many", 0.002),
        "more_steps": Flag("more steps or restarts help", 0.01),
        "noise": Flag("noise beats the attack", 0.002),
        "huge_budget": Flag("stands up to 64/255"),
        "gradient_free": Flag("a gradient-free attack beats white-box", 0.002),
        "transfer": Flag("transfer beats white-box", 0.002),
    }
)


@torch.no_grad()
def examine(
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: tuple[float, ...],
) -> dict[str, float]:
    """Return the checks that need no other network, by name in `FLAGS`.

    `probabilities` and `no_gradients` are 0 or 1; `not_finite`, `random` and `zero_gradients` are
    fractions of the images. The others are differences of accuracy under two attacks: that under
    the PGD of the suite `attacks` (L-inf, 40 steps of epsilon / 4, from the image, then from a
    random start) minus that under another attack, at the epsilon that leaves closest to half of the
    images correct. The other attack is FGSM for `one_step`, random corners of the ball for `noise`,
    and PGD with twice the steps and another random start for `more_steps`. `huge_budget` is the
    accuracy at 64/255 minus chance.
    """
    logits = logits_of(network, images)
    check_inputs(images, epsilons)
    checks = {
        "not_finite": _share(~logits.isfinite().all(1)),
        "probabilities": float(are_probabilities(logits)),
        "random": _share((logits - logits_of(network, images)).nan_to_num().abs().amax(1) > 1e-4),
        "no_gradients": float(not differentiable(network, images[:1], labels[:1])),
    }
    if checks["no_gradients"]:
        return checks
    gradients, _ = gradients_of(network, images, labels, loss=margin)
    flat = gradients.flatten(1).abs().amax(1) == 0
    checks["zero_gradients"] = _share(flat & (logits.argmax(1) == labels))

    def many_steps(epsilons: tuple[float, ...], steps: int, restarts: int) -> list[float]:
        found = pgd_grid(
            network,
            images,
            labels,
            epsilons,
            LINF,
            steps=steps,
            relative_step=10 / steps,
            restarts=restarts,
            examples=examples,
            key="pgd-linf",
        )
        return [_share(each.fallen) for each in found]

    once = [_share(each.fallen) for each in fgsm(network, images, labels, epsilons, LINF)]
    place = min(range(len(epsilons)), key=lambda i: abs(once[i] - 0.5))
    fallen = {place: many_steps((epsilons[place],), 40, 1)[0]}
    while fallen[place] > 0.5 and place > 0:  # PGD fools more images than FGSM
        place -= 1
        fallen[place] = many_steps((epsilons[place],), 40, 1)[0]
    middle = min(fallen, key=lambda i: abs(fallen[i] - 0.5))
    epsilon = epsilons[middle]
    checks["one_step"] = once[middle] - fallen[middle]
    checks["more_steps"] = many_steps((epsilon,), 80, 2)[0] - fallen[middle]
    checks["noise"] = _share(_noisy(network, images, labels, examples, epsilon)) - fallen[middle]
    checks["huge_budget"] = 1 - many_steps((HUGE,), 40, 0)[0] - 1 / logits.shape[1]
    return checks


def raised(checks: Mapping[str, float], images: float = inf) -> list[str]:
    """Return the words of the flags that `checks` raise, for this number of images.

    A single image raises a flag only if the flag is `alone`.
    """
    passed = {name: round(value, DIGITS) for name, value in checks.items()}
    least = round(1 / images, DIGITS) if images else 0.0
    return [
        flag.words
        for name, flag in FLAGS.items()
        if passed.get(name, 0) > max(flag.threshold, 0 if flag.alone else least)
    ]


def differentiable(network: nn.Module, images: Images, labels: Labels) -> bool:
    """Return whether logits have gradients with respect to images."""
    try:
        gradients_of(network, images, labels)
    except RuntimeError as problem:  # torch's error if nothing requires a gradient
        if is_full(problem):
            raise
        return False
    return True


def _noisy(
    network: nn.Module, images: Images, labels: Labels, examples: Examples, epsilon: float
) -> Bool[Tensor, " batch"]:
    """Return for each example whether one of ten random corners of the ball fools the network."""
    fallen = logits_of(network, images).argmax(1) != labels
    draws = KeyedDraws("masking/noise", examples)
    for _ in range(10):
        corners = draws.uniform(-1, 1, *images.shape[1:]).sign() * epsilon
        fallen |= logits_of(network, (images + corners).clamp(0, 1)).argmax(1) != labels
    return fallen


def _share(true: Bool[Tensor, " batch"]) -> float:
    return true.double().mean().item()
