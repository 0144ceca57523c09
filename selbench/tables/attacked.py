"""Results of attacks besides mean accuracies: median perturbations, and flags."""

from collections.abc import Mapping
from math import nan

import pandas as pd

from selbench.attacks.masking import raised
from selbench.metrics import READ, IndexedRows
from selbench.tables.accuracies import ATTACKED
from selbench.tables.columns import COLUMNS, MASKING

CURVE = ("subject", "level", "value")

# Weaker attacks, which must not beat PGD: attack, PGD of the same norm, and the flag to raise.
WEAKER = (
    ("fgsm-linf", "pgd-linf", "one_step"),
    ("noise-linf", "pgd-linf", "noise"),
    ("noise-l2", "pgd-l2", "noise"),
    ("transfer-linf", "pgd-linf", "transfer"),
    ("hopskipjump-l2", "pgd-l2", "gradient_free"),
)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of median perturbations, by network."""
    accuracy = rows.loc[rows["metric"] == "accuracy", [*READ, *CURVE]]
    clean = accuracy[accuracy["suite"] == "clean"].set_index("subject")["value"].to_dict()
    readable, found = IndexedRows(accuracy), {}
    for name, metric in COLUMNS.items():
        if metric.average == "half":
            curves = _curves(readable.chosen(metric.reads))
            levels = sorted({level for curve in curves.values() for level in curve})
            found[name] = {
                subject: median_perturbation(
                    {0.0: clean.get(subject, nan), **{at: curve.get(at, nan) for at in levels}}
                )
                for subject, curve in curves.items()
            }
    return pd.DataFrame(found, dtype=float).rename_axis("subject")


def median_perturbation(accuracies: Mapping[float, float]) -> float:
    """Return the epsilon at which half of the images are fooled; NaN if none is large enough.

    `accuracies` are at rising epsilons from 0, the clean images (NaN if not tested). They are
    interpolated linearly in the logarithm of epsilon, and linearly in epsilon below the first.
    """
    low, left = 0.0, nan
    for high, right in accuracies.items():
        if right <= 0.5:
            break
        low, left = high, right
    else:
        return nan
    if high == 0:
        return high
    share = (left - 0.5) / (left - right)
    return low * (high / low) ** share if low else high * share


def masked(rows: pd.DataFrame) -> pd.Series:
    """Return each network's flags of masked gradients, "" for none.

    NaN if `attacks` did not check for them and no other check raises one.
    """
    names = [name for name in rows["metric"].unique() if name.startswith("masking_")]
    measured = rows[rows["metric"].isin(names)]
    checked = set(measured.loc[measured["condition"] == "masking", "subject"])
    checks: dict[str, dict[str, float]] = {}
    for subject, name, value in zip(
        *(measured[each].tolist() for each in ("subject", "metric", "value")), strict=True
    ):
        _raise(checks, subject, name.removeprefix("masking_"), value)
    attacked = rows[rows["suite"].isin(ATTACKED)]
    chosen = attacked[attacked["metric"] == "accuracy"]
    parts = {name: _curves(part) for name, part in chosen.groupby("condition")}
    for weaker, stronger, name in WEAKER:
        weak = parts.get(weaker, {})
        for subject, curve in parts.get(stronger, {}).items():
            for level in curve.keys() & weak.get(subject, {}).keys():
                _raise(checks, subject, name, curve[level] - weak[subject][level])
    images = attacked.groupby("subject")["n"].min()
    flags = {
        subject: ", ".join(raised(checks[subject], int(images[subject])))
        for subject in sorted(checks)
    }
    known = {name: words for name, words in flags.items() if words or name in checked}
    return pd.Series(known, dtype=object, name=MASKING).rename_axis("subject")


def _raise(checks: dict[str, dict[str, float]], subject: str, name: str, value: float) -> None:
    """Raise the value of a check to at least this value."""
    values = checks.setdefault(subject, {})
    values[name] = max(values.get(name, value), value)


def _curves(rows: pd.DataFrame) -> dict[str, dict[float, float]]:
    """Return accuracies under an attack: networks by levels."""
    found: dict[str, dict[float, float]] = {}
    for subject, level, value in zip(*(rows[each].tolist() for each in CURVE), strict=True):
        found.setdefault(subject, {})[level] = value
    return found
