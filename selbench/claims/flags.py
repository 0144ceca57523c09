"""The test that no network shows a sign of masked gradients."""

import pandas as pd
from scipy.stats import binomtest

from selbench.claims.claim import Flags
from selbench.claims.effects import SHARE, Effect, Finding
from selbench.claims.readings import Need, Networks, UntestedError
from selbench.study import count_of
from selbench.tables.attacked import masked

CHECKS = ("attacks", "attacks-strong")  # the suites that check for masking
# Attacks that must not succeed more often than PGD: each network needs one of each group.
FURTHER = {
    "gradient-free": ("hopskipjump-l2", "autoattack-linf", "autoattack-l2"),
    "transfer": ("transfer-linf",),
}


def flags(networks: Networks, test: Flags, published: None) -> Finding:
    """Count the networks that raise a flag: one refutes the claim, none at all supports it.

    The count is certain for these networks. The interval bounds the share of further ones that
    raise a flag (Clopper & Pearson, 1934, doi:10.1093/biomet/26.4.404).
    """
    raised = masked(networks.rows)
    if raised.empty:
        raise UntestedError("masking was not checked", Need(CHECKS))
    flagged = raised[raised != ""]
    seeds = int(networks.alphas[raised.index].value_counts().min())
    share = binomtest(len(flagged), len(raised)).proportion_ci(method="exact")
    reason = "" if len(flagged) else _open(networks, raised, seeds)
    effect = Effect(
        "networks with a flag",
        SHARE,
        100 * len(flagged) / len(raised),
        100 * share.low,
        100 * share.high,
        p_for=1.0 if len(flagged) or reason else 0.0,
        p_against=0.0 if len(flagged) else 1.0,
        networks=len(raised),
        seeds=seeds,
        reason=reason,
        detail="; ".join(f"{name}: {words}" for name, words in flagged.items()),
    )
    return Finding(effect, effect, (effect,), effect.p_for, effect.p_against, certain=True)


def _open(networks: Networks, raised: pd.Series, seeds: int) -> str:
    """Say why a count of no flags decides nothing; return "" if it does."""
    if unchecked := _unchecked(networks, raised):
        return f"no flag, but masking was not checked for {count_of(len(unchecked), 'network')}"
    rows = networks.rows
    for what, attacks in FURTHER.items():
        lacking = set(raised.index) - set(rows.loc[rows["condition"].isin(attacks), "subject"])
        if lacking:
            whom = "" if len(lacking) == len(raised) else f" on {min(lacking)}"
            return f"no flag, but no {what} attack of attacks-strong was made{whom}"
    if seeds < 2:
        return "no flag, but only one network for each alpha"
    return ""


def _unchecked(networks: Networks, raised: pd.Series) -> set[str]:
    """Return networks without the check: attacked ones, and those of alphas without any check."""
    rows, alphas = networks.rows, networks.alphas
    attacked = set(rows.loc[rows["suite"].isin(CHECKS), "subject"])
    unseen = set(alphas.index[~alphas.isin(alphas[raised.index])])
    return (attacked | unseen) - set(raised.index)
