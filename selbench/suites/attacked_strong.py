"""The suite of attacks that would notice what the usual ones do not."""

from functools import partial

from torch import nn

from selbench.attacks.autoattack import autoattack
from selbench.attacks.gradient import Attacked
from selbench.attacks.nearest import MINIMUM_NORM, hop_skip_jump, minimum_norm
from selbench.attacks.norms import NORMS
from selbench.attacks.strong import noise
from selbench.suites.attacked import L2_EPSILONS, LINF_EPSILONS, attacks
from selbench.suites.work import SUITES, Attack, Setting, Work
from selbench.types import Examples, Images, Labels

EPSILONS = {"linf": LINF_EPSILONS, "l2": L2_EPSILONS}  # in 255ths, as all here
# AutoAttack takes long: the small budgets at which undefended networks differ, and the usual one.
AUTOATTACK_EPSILONS = {"linf": (0.5, 1.0, 2.0, 8.0), "l2": (16.0, 32.0, 64.0, 128.0)}


@SUITES
def attacks_strong(setting: Setting) -> list[Work]:
    """AutoAttack, minimum-norm and decision-based attacks, noise, and all of `attacks`."""
    return [
        *attacks(setting),
        *(_autoattack(norm) for norm in NORMS),
        *(_minimum_norm(name) for name in MINIMUM_NORM),
        _hop_skip_jump(),
        *(_noise(norm) for norm in NORMS),
    ]
