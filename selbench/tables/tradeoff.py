"""The trade-off between robustness to corruptions and to attacks, and its change with alpha."""

from dataclasses import dataclass

import pandas as pd

from selbench._kit.errors import UnmeasuredError
from selbench.statistics.intervals import Difference, seed_difference
from selbench.tables.means import by_level, mean

ATTACKS = ("fgsm-linf", "pgd-linf", "pgd-l2")
REFERENCE = 0.0  # the alpha of the reference


@dataclass(frozen=True)
class Change:
    """The difference in accuracy (as a fraction) between an alpha and alpha = 0.

    `difference` has an interval over seeds; it is None if an alpha has a single network, and
    `value` is then the difference of means.
    """

    alpha: float
    quantity: str
    value: float
    difference: Difference | None


def positions(rows: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return each network's accuracies: subjects by clean, corrupted, adversarial, alpha, seed.

    Corrupted is the mean over severities, then over the benchmark's corruptions; adversarial is the
    mean over epsilons, then over FGSM and PGD (L-inf and L2). Only conditions of all networks
    count.

    Raises:
        UnmeasuredError: if no network has all three.
    """
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    kinds = {
        "corrupted": by_level(accuracy[accuracy["suite"] == "corruptions"]).dropna(),
        "adversarial": _attacked(accuracy),
    }
    table = rows[["subject", "alpha", "seed"]].drop_duplicates().set_index("subject")
    clean = accuracy[accuracy["suite"] == "clean"].set_index("subject")["value"]
    columns = {"clean": clean} | {name: mean(part).astype(float) for name, part in kinds.items()}
    found = table.join(pd.DataFrame(columns).rename_axis("subject"))
    found = found.dropna(subset=["clean", *kinds])
    if found.empty:
        what = f"the study {study} holds no networks under corruptions and attacks"
        raise UnmeasuredError(what, "--suite", "corruptions", "--suite", "attacks")
    return found


def attacks(rows: pd.DataFrame) -> str:
    """Return the attacks that `positions` averages: "FGSM and PGD", or "FGSM"."""
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    common = _attacked(accuracy).index.get_level_values("condition")
    return " and ".join(sorted({name.partition("-")[0].upper() for name in common}))


def _attacked(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies under attacks of all networks: conditions and levels by networks."""
    return by_level(accuracy[accuracy["condition"].isin(ATTACKS)]).dropna()


def changes(found: pd.DataFrame) -> list[Change]:
    """Compare every alpha with alpha = 0 by clean, corrupted and adversarial accuracy.

    Differences are unpaired, as in claims: networks of one seed are hardly similar.
    """
    at_zero = found[found["alpha"] == REFERENCE]
    others = sorted(set(found["alpha"].dropna()) - {REFERENCE})
    return [
        _change(found[found["alpha"] == alpha][name], at_zero[name], alpha, name)
        for alpha in (others if len(at_zero) else [])
        for name in ("clean", "corrupted", "adversarial")
    ]


def _change(values: pd.Series, at_zero: pd.Series, alpha: float, name: str) -> Change:
    several = min(len(values), len(at_zero)) > 1
    found = seed_difference(values.tolist(), at_zero.tolist()) if several else None
    return Change(alpha, name, float(values.mean() - at_zero.mean()), found)
