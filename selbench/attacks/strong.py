"""Attacks that must be weaker than gradient attacks: noise, and transferred adversarials."""

from collections.abc import Sequence

from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.types import Examples, Images, Labels
from selbench.attacks.foreign import Foreign, Standing
from selbench.attacks.gradient import Attacked, pgd
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import NORMS, Norm

DRAWS = 10  # noise images per image and epsilon
STEPS = 40  # of PGD on the source


def noise(
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: Sequence[float],
    norm: Norm,
    *,
    seed: int = 0,
) -> list[Attacked]:
    """Add uniform noise of size epsilon, ten times; one draw that fools the network suffices.

    L2 noise has size epsilon after clipping to [0, 1]: Rauber & Bethge, 2020, arXiv:2007.07677.
    """
    standing = Standing(network, images, labels, examples)
    results: list[Attacked] = []
    for epsilon in epsilons:
        for number in range(DRAWS):
            key = f"noise/{seed}/{norm.name}/{epsilon!r}/{number}"
            standing.strike(_noise(norm, epsilon, key), norm, epsilon)
        results.append(standing.result())
    return results


def _noise(norm: Norm, epsilon: float, key: str) -> Foreign:
    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        added = KeyedDraws(key, examples).uniform(-1, 1, *images.shape[1:])
        return (images + _scale(images, added, norm, epsilon) * added).clamp(0, 1)

    return attack


def _scale(images: Images, added: Images, norm: Norm, epsilon: float) -> Tensor:
    """Return the factor that scales noise to size epsilon."""
    if norm.name == "linf":
        return epsilon / norm.size(added).view(-1, 1, 1, 1)
    from foolbox.external.clipping_aware_rescaling import l2_clipping_aware_rescaling

    scale: Tensor = l2_clipping_aware_rescaling(images, added, epsilon)
    return scale


def transferred(
    network: nn.Module,
    source: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    epsilons: Sequence[float],
    norm: Norm = NORMS["linf"],
    *,
    seed: int = 0,
) -> list[Attacked]:
    """Attack `source`, and test the results on `network`.

    PGD on the cross-entropy, from a random point of the ball, with 40 steps of epsilon / 4. All
    steps are taken, since an image that just fooled the source may not fool the network yet. A
    source without gradients has no effect.
    """
    standing = Standing(network, images, labels, examples)
    follows = differentiable(source, images[:1], labels[:1])
    results: list[Attacked] = []
    for epsilon in epsilons:
        if follows:
            key = f"transfer/{seed}/{norm.name}/{epsilon!r}"
            standing.strike(_pgd(source, norm, epsilon, key), norm, epsilon)
        results.append(standing.result())
    return results


def _pgd(source: nn.Module, norm: Norm, epsilon: float, key: str) -> Foreign:
    def attack(images: Images, labels: Labels, examples: Examples) -> Images:
        start = norm.random(KeyedDraws(key, examples), tuple(images.shape[1:]), epsilon)
        found = pgd(
            source,
            images,
            labels,
            epsilon,
            norm,
            step=epsilon / 4,
            steps=STEPS,
            start=(images + start).clamp(0, 1),
            early=False,
        )
        return found.images

    return attack
