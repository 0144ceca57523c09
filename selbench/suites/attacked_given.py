"""Adversarials from files of the user (--adversarials), counted as one attack."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from selbench._kit.types import Examples, Images, Labels
from selbench.attacks.folding import as_given
from selbench.attacks.foreign import Standing
from selbench.attacks.given import GivenAdversarials
from selbench.attacks.gradient import Attacked, logits_of
from selbench.attacks.norms import NORMS, SLACK, Norm
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.suites.attacked import L2_EPSILONS, LINF_EPSILONS, Levels
from selbench.suites.pieces import Attack
from selbench.suites.work import Passes

EPSILONS: dict[str, Levels] = {"linf": LINF_EPSILONS, "l2": L2_EPSILONS}
IN_BALL, FOOL = "given_in_ball", "given_fool"  # shares of images
TABLE = "given adversarials"


@dataclass(frozen=True)
class GivenAttack(Attack):
    """Adversarials from files; `checksum` covers them and the test images."""

    checksum: str = ""

    @property
    def data(self) -> str:
        """The checksum of all images."""
        return self.checksum


def given_pieces(found: GivenAdversarials, checksum: str) -> Iterator[Attack]:
    """Yield an attack for each norm; each level uses all adversarials in its ball."""
    for name, levels in EPSILONS.items():
        norm = NORMS[name]

        def run(
            network: nn.Module,
            images: Images,
            labels: Labels,
            examples: Examples,
            norm: Norm = norm,
            levels: Levels = levels,
        ) -> list[Attacked]:
            return reached(found, network, images, labels, examples, norm, levels)

        passes = Passes(1 + len(found.sets) * (1 + len(levels)))
        yield GivenAttack(
            "attacks", f"given-{name}", levels, run, group=name, each=passes, checksum=checksum
        )


@torch.no_grad()
def reached(
    found: GivenAdversarials,
    network: nn.Module,
    images: Images,
    labels: Labels,
    examples: Examples,
    norm: Norm,
    levels: Levels,
) -> list[Attacked]:
    """Return which images an adversarial in the ball fools, for rising levels.

    The counts hold which images have an adversarial in the ball, and which have one at any distance
    that fools the network.
    """
    standing = Standing(network, images, labels, examples)
    sets = [found.of(number, images, examples) for number in range(len(found.sets))]
    sizes = [norm.size(each - images) for each in sets]
    fool = torch.zeros_like(labels, dtype=torch.bool)
    for each, size in zip(sets, sizes, strict=True):
        fool |= (size > 0) & (logits_of(as_given(network), each).argmax(1) != labels)
    results: list[Attacked] = []
    for level in levels:
        near = torch.zeros_like(fool)
        for each, size in zip(sets, sizes, strict=True):
            standing.reach(each, norm, level / 255)
            near |= (size > 0) & (size <= level / 255 + SLACK)
        results.append(replace(standing.result(), counts={IN_BALL: near, FOOL: fool}))
    return results


for _norm, _words in (("linf", "L-inf"), ("l2", "L2")):
    _short = _norm.capitalize() if _norm == "linf" else "L2"
    METRICS(
        Metric(
            f"given_{_norm}",
            f"given {_short}",
            f"accuracy under the adversarials of --adversarials ({_words}), averaged over budgets",
            "attacks",
            RowFilter(("attacks",), conditions=(f"given-{_norm}",)),
            table=TABLE,
            rare=True,
        )
    )
    METRICS(
        Metric(
            f"{IN_BALL}_{_norm}",
            f"in {_short} ball",
            f"share of images with a given adversarial in the {_words} ball, averaged over budgets",
            "attacks",
            RowFilter(("attacks",), IN_BALL, conditions=(f"given-{_norm}",)),
            better=0,
            table=TABLE,
            place=1,
            rare=True,
        )
    )
METRICS(
    Metric(
        FOOL,
        "fool at any distance",
        "share of images with a given adversarial that fools the network, at any distance",
        "attacks",
        RowFilter(("attacks",), FOOL, conditions=("given-linf",)),
        better=-1,
        table=TABLE,
        place=2,
        rare=True,
    )
)
