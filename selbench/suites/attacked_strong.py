"""The suite of strong attacks, which can fool networks that the usual attacks do not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from selbench.attacks.autoattack import autoattack
from selbench.attacks.gradient import Attacked
from selbench.attacks.losses import margin
from selbench.attacks.nearest import (
    HALVINGS,
    MINIMUM_NORM,
    QUERIES,
    TRIES,
    hop_skip_jump,
    minimum_norm,
)
from selbench.attacks.norms import NORMS
from selbench.attacks.strong import DRAWS, STEPS, noise, transferred
from selbench.metrics import METRICS, Metric, RowFilter
from selbench.store import EVERY_EPSILON
from selbench.suites.attacked import (
    L2_EPSILONS,
    LINF_EPSILONS,
    TABLE,
    Levels,
    attacks,
    pgd_at,
    pgd_passes,
    variants,
)
from selbench.suites.pieces import Attack
from selbench.suites.work import SUITES, Passes, Setting, Work

EPSILONS: dict[str, Levels] = {"linf": LINF_EPSILONS, "l2": L2_EPSILONS}
# AutoAttack is slow: small epsilons at which undefended networks differ, and the usual epsilon.
AUTOATTACK: dict[str, Levels] = {"linf": (0.5, 1.0, 2.0, 8.0), "l2": (16.0, 32.0, 64.0, 128.0)}
# Passes of: the bound (with the check for gradients), FAB, and the attacks of every level.
MINIMUM, ONCE, EACH = Passes(2, 101), Passes(901, 900), Passes(5013, 1000)


def _autoattack_passes(levels: int) -> Passes:
    """Count the bound and FAB once, Square and both APGDs at every level."""
    return MINIMUM + ONCE + EACH * levels


PASSES = {
    "noise-linf": Passes(1 + DRAWS * len(LINF_EPSILONS)),
    "noise-l2": Passes(1 + DRAWS * len(L2_EPSILONS)),
    "transfer-linf": Passes(1 + 2 * len(LINF_EPSILONS), 1 + STEPS * len(LINF_EPSILONS)),
    **dict.fromkeys(("ddn-l2", "fmn-l2", "fmn-linf"), Passes(HALVINGS + 2, 101)),
    "deepfool-l2": Passes(HALVINGS + 3, 451),
    "hopskipjump-l2": Passes(QUERIES + HALVINGS + 2 + 5 * TRIES),
    **{f"autoattack-{norm}": _autoattack_passes(1) for norm in AUTOATTACK},
}

VERSIONS = {"ddn-l2": 3, "fmn-linf": 3, "fmn-l2": 1, "deepfool-l2": 2}  # of `minimum_norm`


@SUITES
def attacks_strong(setting: Setting) -> list[Work]:
    """All of `attacks`, weaker ones (noise, transfer), minimum-norm attacks and AutoAttack."""
    linf, l2 = NORMS["linf"], NORMS["l2"]
    return [
        *attacks(setting),
        _piece("noise-linf", LINF_EPSILONS, partial(noise, norm=linf)),
        _piece("noise-l2", L2_EPSILONS, partial(noise, norm=l2)),
        *(_restarted(norm, levels) for norm, levels in EPSILONS.items()),
        _piece("transfer-linf", LINF_EPSILONS, transferred, transfer=True),
        *(
            _piece(
                name,
                EPSILONS[name.rpartition("-")[2]],
                partial(minimum_norm, name=name),
                version=VERSIONS[name],
            )
            for name in MINIMUM_NORM
        ),
        _piece("hopskipjump-l2", L2_EPSILONS, hop_skip_jump, version=2),
        *(_autoattack(norm, levels, setting.full) for norm, levels in AUTOATTACK.items()),
    ]


def _autoattack(norm: str, levels: Levels, full: bool) -> Attack:
    attack = partial(autoattack, norm=NORMS[norm], full=full)
    piece = _piece(f"autoattack-{norm}", levels, attack, version=2 if full else 3)
    if not full:
        return piece
    return replace(piece, source=EVERY_EPSILON, each=_autoattack_passes(len(levels)))


def _restarted(norm: str, levels: Levels) -> Attack:
    """Make the PGD of `attacks`, but with restarts that maximise the margin, from the same points.

    Carlini & Wagner, 2017, arXiv:1608.04644. A separate condition: on a ResNet20 for CIFAR-10 it
    fools no more images than restarts on cross-entropy, on digits a few more.
    """
    at, each = partial(pgd_at, norm=norm, again=margin), pgd_passes(levels) + Passes(backward=1)
    run, name = at(levels), f"pgd-margin-{norm}"
    return Attack("attacks-strong", name, levels, run, group=norm, each=each, at=at, chunked=True)


def _piece(
    name: str,
    levels: Levels,
    attack: Callable[..., Sequence[Attacked]],
    transfer: bool = False,
    version: int = 1,
) -> Attack:
    """Make work of an attack whose last argument is epsilons; `name` ends with its norm."""

    def at(levels: Levels) -> Callable[..., list[Attacked]]:
        epsilons = tuple(level / 255 for level in levels)

        def run(*given: Any) -> list[Attacked]:
            return list(attack(*given, epsilons))

        return run

    group = name.rpartition("-")[2]
    return Attack(
        "attacks-strong",
        name,
        levels,
        at(levels),
        transfer=transfer,
        group=group,
        version=version,
        each=PASSES[name],
        chunked=True,
        at=at,
    )


for _norm, _short, _words in (("linf", "Linf", "L-inf"), ("l2", "L2", "L2")):
    _metric = METRICS(
        Metric(
            f"autoattack_{_norm}",
            f"AutoAttack {_short}",
            f"accuracy under AutoAttack ({_words}), averaged over budgets",
            "attacks-strong",
            RowFilter(("attacks-strong",), conditions=(f"autoattack-{_norm}",)),
            source="arXiv:2003.01690",
            table=TABLE,
        )
    )
    variants(_metric)
    METRICS(
        Metric(
            f"pgd_margin_{_norm}",
            f"PGD margin {_short}",
            f"accuracy under PGD with restarts on the margin ({_words}), averaged over budgets",
            "attacks-strong",
            RowFilter(("attacks-strong",), conditions=(f"pgd-margin-{_norm}",)),
            source="arXiv:1608.04644",
            table=TABLE,
            rare=True,
        )
    )
