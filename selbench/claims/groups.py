"""The networks of each alpha as a group: their values, and how to write them."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from selbench.claims.claim import Reading
from selbench.claims.effects import PLAIN, POINTS, Effect
from selbench.claims.readings import Networks, UntestedError, alpha_text, needed, written

REFERENCE = 0.0


def groups_of(networks: Networks, values: pd.Series) -> dict[float, list[float]]:
    """Return the values of each alpha, alphas in rising order, leaving out missing values."""
    found: dict[float, list[float]] = {}
    for alpha, value in zip(networks.alphas.reindex(values.index), values, strict=True):
        if alpha == alpha and value == value:  # not NaN
            found.setdefault(float(alpha), []).append(float(value))
    return dict(sorted(found.items()))


def mean(values: Sequence[float]) -> float:
    """Return the mean of a group."""
    return sum(values) / len(values)


def text(values: Sequence[float], reading: Reading) -> str:
    """Write the mean of a group for people."""
    return written(mean(values), reading)


def in_unit(effect: Effect, reading: Reading, label: str, detail: str) -> Effect:
    """Convert an effect on accuracies to percentage points."""
    factor, unit = (100, POINTS) if reading.points else (1, PLAIN)
    return replace(
        effect,
        unit=unit,
        value=factor * effect.value,
        low=factor * effect.low,
        high=factor * effect.high,
        label=label,
        detail=detail,
    )


def no_alphas(reading: Reading, between: tuple[float, float], least: int) -> UntestedError:
    """Return the error that says for how many alphas networks are missing."""
    low, high = between
    if low == high:
        return UntestedError(f"there is no network of {alpha_text(low)}", needed(reading, (low,)))
    alphas = (low, (low + high) / 2, high) if least > 1 else (low, high)
    number = {1: "one alpha", 3: "three alphas"}[least]
    reason = f"it needs networks of {number} between {low:g} and {high:g}"
    return UntestedError(reason, needed(reading, alphas))
