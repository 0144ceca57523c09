"""What attacks leave of networks, beside mean accuracies: median perturbations, and flags."""

import numpy as np
import pandas as pd

from selbench.attacks.masking import raised
from selbench.leaderboard.accuracies import ATTACKED
from selbench.leaderboard.columns import COLUMNS, MASKING

# What must never leave less than PGD does: attack, PGD of the same norm, and the flag it raises.
WEAKER = (
    ("fgsm-linf", "pgd-linf", "one_step"),
    ("noise-linf", "pgd-linf", "noise"),
    ("noise-l2", "pgd-l2", "noise"),
    ("transfer-linf", "pgd-linf", "transfer"),
    ("hopskipjump-l2", "pgd-l2", "gradient_free"),
)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that are median perturbations: networks by columns."""
    clean, found = _clean(rows), {}
    for name, metric in COLUMNS.items():
        part = metric.reads.chosen(rows) if metric.average == "half" else rows[:0]
        if not part.empty:
            curve = _curve(part)
            whole = pd.concat([clean.reindex(columns=curve.columns), curve])
            found[name] = whole.apply(median_perturbation)
    return pd.DataFrame(found).rename_axis("subject")


def median_perturbation(accuracies: pd.Series) -> float:
    """Return the epsilon at which half of the images have fallen; NaN where no budget does it.

    `accuracies` are indexed by rising epsilons, from 0: the clean images, of which NaN says that
    they were not tested. Accuracy is taken to fall evenly with the logarithm of epsilon between two
    of them, and evenly from epsilon 0 to the first.
    """
    below = np.flatnonzero(accuracies.to_numpy() <= 0.5)
    if not len(below):
        return float("nan")
    last = below[0]
    right, high = accuracies.iloc[last], float(accuracies.index[last])
    if last == 0:
        return high
    left, low = accuracies.iloc[last - 1], float(accuracies.index[last - 1])
    share = (left - 0.5) / (left - right)
    return float(low * (high / low) ** share if low else high * share)


def masked(rows: pd.DataFrame) -> pd.Series:
    """Return each network's flags of masked gradients, "" for none.

    NaN where `attacks` did not check for them and nothing else raises one.
    """
    measured = rows[rows["metric"].str.startswith("masking_")]
    checked = set(measured.loc[measured["condition"] == "masking", "subject"])
    names = measured["metric"].str.removeprefix("masking_")
    checks = measured.pivot_table("value", "subject", names, aggfunc="max", observed=True)
    curves = _curves(rows)
    for weaker, stronger, name in WEAKER:
        if weaker in curves and stronger in curves:
            checks = checks.reindex(checks.index.union(curves[stronger].columns))
            ahead = (curves[stronger] - curves[weaker]).max()
            before = checks.get(name, ahead)
            checks[name] = pd.concat([before, ahead], axis=1).max(axis=1)
    attacked = rows[rows["suite"].isin(ATTACKED)]
    images = attacked.groupby("subject", observed=True)["n"].min()
    flags = {
        subject: ", ".join(
            raised({str(name): value for name, value in row.items()}, int(images[subject]))
        )
        for subject, row in checks.iterrows()
    }
    known = {name: words for name, words in flags.items() if words or name in checked}
    return pd.Series(known, dtype=object, name=MASKING).rename_axis("subject")


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies on clean images, as those of epsilon 0: one row."""
    chosen = rows[(rows["suite"] == "clean") & (rows["metric"] == "accuracy")]
    return chosen.set_index("subject")[["value"]].T.set_axis([0.0])


def _curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the accuracies that each attack leaves: levels by networks."""
    chosen = rows[rows["suite"].isin(ATTACKED) & (rows["metric"] == "accuracy")]
    return {str(name): _curve(part) for name, part in chosen.groupby("condition")}


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot(index="level", columns="subject", values="value").sort_index()
