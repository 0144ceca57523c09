"""Suites: what is done to the images, or computed of a network."""

from corruptions import CORRUPTIONS
from selbench.errors import SelbenchError, unknown
from selbench.suites import (
    attacked,
    attacked_strong,
    calibration,
    clean,
    corrupted,
    elasticity,
    gradients,
    mechanism,
    representation,
    selectivity,
)
from selbench.suites.work import (
    SUITES,
    Analysis,
    Attack,
    Comparison,
    Condition,
    HeldOut,
    Passes,
    Recalibration,
    Setting,
    Validation,
    Work,
    levels_of,
    once,
)

__all__ = [
    "SUITES",
    "Analysis",
    "Attack",
    "Comparison",
    "Condition",
    "HeldOut",
    "Passes",
    "Recalibration",
    "Setting",
    "Validation",
    "Work",
    "attacked",
    "attacked_strong",
    "calibration",
    "clean",
    "collect",
    "corrupted",
    "elasticity",
    "gradients",
    "levels_of",
    "mechanism",
    "representation",
    "selectivity",
]


def collect(names: tuple[str, ...], setting: Setting) -> list[Work]:
    """Return the work of several suites, each piece once.

    Raises:
        SelbenchError: for an unknown suite or corruption, a corruption that is in none of the
            suites, and images or sets on disk that do not serve.
    """
    for name in setting.only:
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, CORRUPTIONS)
    pieces = [work for name in names for work in SUITES[name](setting)]
    absent = set(setting.only) - {work.name for work in pieces}
    if absent:
        raise SelbenchError(
            f"{min(absent)} is not in the suite {', '.join(names)}; add --suite corruptions-all"
        )
    return once(pieces)
