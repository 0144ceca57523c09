"""Suites: corruptions and attacks on the images, and measurements of networks."""

from collections.abc import Callable, Sequence

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.registry import discover
from selbench.metrics import METRICS
from selbench.suites.attacked_given import given_pieces
from selbench.suites.corrupted import BAR
from selbench.suites.pieces import (
    Analysis,
    Attack,
    Comparison,
    Condition,
    Recalibration,
    Validation,
)
from selbench.suites.work import SUITES, HeldOut, Passes, Setting, Task, Work, without_repeats

__all__ = [
    "METRICS",
    "SUITES",
    "Analysis",
    "Attack",
    "Comparison",
    "Condition",
    "HeldOut",
    "Passes",
    "Recalibration",
    "Setting",
    "Task",
    "Validation",
    "Work",
    "attack_names",
    "collect",
]

ANY = Setting(height=32, width=32)

discover(__name__)


def collect(names: tuple[str, ...], setting: Setting) -> list[Work]:
    """Return the pieces of work of several suites, each piece once.

    Raises:
        SelbenchError: for an unknown suite, corruption or attack, one that none of the suites has,
            and images or sets on disk that cannot be used.
    """
    attacks = attack_names(setting)
    pieces = [work for name in names for work in SUITES[name](setting)]
    for what, chosen, known, full in (
        ("corruption", setting.corruptions, [*CORRUPTIONS], "corruptions-all"),
        ("attack", setting.attacks, attacks, "attacks-strong"),
    ):
        held = _names(pieces, attacking=what == "attack")
        for name in chosen:
            if name not in known:
                raise unknown(what, name, known)
            if name not in held:
                suite = BAR if name in CORRUPTIONS and CORRUPTIONS[name].bar else full
                raise SelbenchError(
                    f"{name} is not in the suite {', '.join(names)}; add --suite {suite}"
                )
    left_out = set(attacks) - set(setting.attacks or attacks)
    kept = [
        work for work in without_repeats(pieces) if not (_attacks(work) and work.name in left_out)
    ]
    if setting.in_files:
        kept = _changed(kept, setting, "--pixels", lambda work: work.in_files())
    if setting.draws is not None:
        kept = _changed(kept, setting, "--eot", lambda work: work.averaged(setting.draws or 1))
    return [*kept, *(given_pieces(*setting.given) if setting.given else ())]


def attack_names(setting: Setting = ANY) -> list[str]:
    """Return the names of all attacks, as `--attack` takes them."""
    return _names(SUITES["attacks-strong"](setting), attacking=True)


def _changed(
    pieces: Sequence[Work], setting: Setting, option: str, change: Callable[[Work], Work | None]
) -> list[Work]:
    """Return the pieces as `option` changes them; leave out attacks without epsilons."""
    made = {work.name: change(work) for work in pieces}
    for name in setting.attacks:
        if made.get(name, True) is None:
            raise SelbenchError(
                f"{name} has no epsilons, which {option} needs; leave out one of them"
            )
    if not any(work.is_attack for work in made.values() if work):
        raise SelbenchError(f"{option} is for attacks; add --suite attacks, or leave it out")
    return [work for work in map(change, pieces) if work]


def _names(pieces: Sequence[Work], attacking: bool) -> list[str]:
    return [name for work in pieces if _attacks(work) == attacking for name in work.names]


def _attacks(work: Work) -> bool:
    """Return whether it is an attack, or attacks images to find masked gradients."""
    return work.is_attack or work.suite == "attacks"
