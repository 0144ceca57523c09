"""Effects of findings of the probe on tables: accuracies that are left out, and why."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from selbench.store import StudyStore, is_attack
from selbench.store.findings import Finding, finding_sentences, findings_in, spoiling
from selbench.tables.columns import COLUMNS

FINDINGS = "findings"  # the column of sentences, if there are any


def meaningful(rows: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Leave out accuracies under attack that a finding makes meaningless."""
    for name, found in findings_in(manifest).items():
        attacked = (rows["subject"] == name) & rows["source"].map(is_attack).astype(bool)
        spoilt = [each for each in set(rows.loc[attacked, "condition"]) if spoiling(found, each)]
        rows = rows[~(attacked & rows["condition"].isin(spoilt))]
    return rows


def withheld(manifest: Mapping[str, Any]) -> set[str]:
    """Return the columns that lack a network's number because of a finding.

    Only requested attacks count.
    """
    every = findings_in(manifest).values()
    asked = {
        tuple(name.split("/")[:2])
        for name, (source, *_) in manifest["conditions"].items()
        if is_attack(source)
    }
    spoilt = {pair for pair in asked if any(spoiling(found, pair[1]) for found in every)}
    return {
        name
        for name, metric in COLUMNS.items()
        for suite, attack in spoilt
        if suite in metric.reads.suites and attack in metric.reads.conditions
    }


def findings_of(stores: Sequence[StudyStore], names: Sequence[str]) -> dict[str, Sequence[Finding]]:
    """Return the findings of studies' networks, by their names in a joint table."""
    return {
        subject if len(stores) == 1 else f"{name}: {subject}": found
        for name, store in zip(names, stores, strict=True)
        for subject, found in findings_in(store.manifest()).items()
    }


def sentences(
    networks: Iterable[str], findings: Mapping[str, Sequence[Finding]]
) -> tuple[str, ...]:
    """Return the findings of some networks as sentences."""
    return tuple(finding_sentences({name: findings.get(name, ()) for name in networks}))
