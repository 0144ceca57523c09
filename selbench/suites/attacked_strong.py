"""The suite of attacks that would notice what the usual ones do not."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from selbench.attacks.autoattack import autoattack
from selbench.attacks.gradient import Attacked
from selbench.attacks.nearest import MINIMUM_NORM, hop_skip_jump, minimum_norm
from selbench.attacks.norms import NORMS
from selbench.attacks.strong import noise, transferred
from selbench.suites.attacked import L2_EPSILONS, LINF_EPSILONS, attacks
from selbench.suites.work import SUITES, Attack, Setting, Work

Levels = tuple[float, ...]  # epsilons in 255ths, rising

EPSILONS: dict[str, Levels] = {"linf": LINF_EPSILONS, "l2": L2_EPSILONS}
# AutoAttack takes long: the small budgets at which undefended networks differ, and the usual one.
AUTOATTACK_LINF: Levels = (0.5, 1.0, 2.0, 8.0)
AUTOATTACK_L2: Levels = (16.0, 32.0, 64.0, 128.0)


@SUITES
def attacks_strong(setting: Setting) -> list[Work]:
    """All of `attacks`, and what must be weaker, other ways to errors, and AutoAttack."""
    linf, l2 = NORMS["linf"], NORMS["l2"]
    return [
        *attacks(setting),
        _piece("noise-linf", LINF_EPSILONS, partial(noise, norm=linf)),
        _piece("noise-l2", L2_EPSILONS, partial(noise, norm=l2)),
        _piece("transfer-linf", LINF_EPSILONS, transferred, transfer=True),
        *(
            _piece(f"{name}-{norm}", EPSILONS[norm], partial(minimum_norm, name=name))
            for name, (norm, _) in MINIMUM_NORM.items()
        ),
        _piece("hopskipjump-l2", L2_EPSILONS, hop_skip_jump),
        _piece("autoattack-linf", AUTOATTACK_LINF, partial(autoattack, norm=linf)),
        _piece("autoattack-l2", AUTOATTACK_L2, partial(autoattack, norm=l2)),
    ]


def _piece(
    name: str, levels: Levels, attack: Callable[..., Sequence[Attacked]], transfer: bool = False
) -> Attack:
    """Make a piece of work of an attack that takes epsilons after all else; `name` has its norm."""
    epsilons = tuple(level / 255 for level in levels)

    def run(*given: Any) -> list[Attacked]:
        return list(attack(*given, epsilons))

    group = name.rpartition("-")[2]
    return Attack("attacks-strong", name, levels, run, transfer=transfer, group=group)
