"""Errors under corruptions relative to those of a reference network."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from selbench._kit.errors import SelbenchError, unknown
from selbench.tables.current import data_name
from selbench.tables.joined import Compared
from selbench.tables.published import ALEXNET, ALEXNET_PLACE, benchmark_of

RELATIVE = ("mce", "relative_mce")  # the columns of this module
REFERENCE = 0.0  # the alpha of the default reference
ROUNDING = 1e-12  # of errors


@dataclass(frozen=True)
class Reference:
    """The row that errors are relative to.

    Attributes:
        name: the name of the row.
        networks: its networks with results under corruptions, by name.
        seeded: whether it has one network per seed; networks of the same study are then compared
            with that of the same seed, which had the same initial weights.
        errors: published errors by corruption, for a reference that was not measured here.
    """

    name: str
    networks: tuple[str, ...]
    seeded: bool
    errors: "pd.Series[float] | None" = None


@dataclass(frozen=True)
class RelativeErrors:
    """Columns of errors relative to a reference.

    Attributes:
        columns: mce and relative_mce of each network; NaN without a reference.
        reference: the row that they are relative to, or None.
        left_out: by column, the corruptions for which the reference has no error to divide by.
    """

    columns: dict[str, "pd.Series[float]"]
    reference: Reference | None = None
    left_out: dict[str, list[str]] = field(default_factory=dict)


def relative_errors(
    errors: pd.DataFrame, networks: pd.DataFrame, name: str | None
) -> RelativeErrors:
    """Return errors relative to those of the row `name`, averaged over corruptions.

    Args:
        errors: corruptions by tested networks, mean over severities.
        networks: every network's study, name, alpha, seed and clean accuracy.
        name: the name of the reference; None for alpha = 0, if there is one.

    Raises:
        SelbenchError: as `find_reference`.
    """
    reference = find_reference(networks, list(errors.columns), name)
    if reference is None:
        return RelativeErrors({name: pd.Series(dtype=float) for name in RELATIVE})
    if reference.errors is not None:
        return _relative_to_published(reference, reference.errors, errors)
    beyond = errors - (1 - networks.loc[errors.columns, "clean"])
    beyond = beyond.mask(beyond.abs() < ROUNDING, 0.0)
    columns, left_out = {}, {}
    for column, amounts in zip(RELATIVE, (errors, beyond), strict=True):
        columns[column] = divided_by_reference(reference, amounts, networks).mean()
        reference_amounts = amounts[[*reference.networks]]
        left_out[column] = list(reference_amounts.index[(reference_amounts <= 0).any(axis=1)])
    return RelativeErrors(columns, reference, left_out)


def usual_reference(found: Compared) -> str | None:
    """Return the published AlexNet, if all networks are for ImageNet and none has alpha = 0."""
    foreign = {benchmark_of(place).data for place in found.published}
    data = {data_name(store.manifest()) for _, store in found.stores} | foreign
    alone = data == {"imagenet"} and not (found.rows["alpha"] == REFERENCE).any()
    return ALEXNET_PLACE if alone else None


def _relative_to_published(
    reference: Reference, published: "pd.Series[float]", errors: pd.DataFrame
) -> RelativeErrors:
    """Return only mCE: the published error on clean images has too few digits for relative mCE."""
    both = errors.index.intersection(published.index)
    mce = errors.loc[both].div(published[both], axis=0).mean()
    left_out = {"mce": [name for name in errors.index if name not in both]}
    empty: pd.Series[float] = pd.Series(dtype=float)
    return RelativeErrors({"mce": mce, "relative_mce": empty}, reference, left_out)


def find_reference(
    profiles: pd.DataFrame, tested: Sequence[str], name: str | None = None
) -> Reference | None:
    """Return the reference: the row `name`, or the first tested row with alpha = 0.

    Args:
        profiles: networks by name, alpha and seed of their rows.
        tested: networks with accuracies under corruptions.
        name: None for alpha = 0, which may be missing (the result is then None); `ALEXNET_PLACE`
            for AlexNet's published errors.

    Raises:
        SelbenchError: for an unknown row, and for a row that was not tested.
    """
    if name == ALEXNET_PLACE:
        return Reference("AlexNet, as published (arXiv:1903.12261)", (), False, pd.Series(ALEXNET))
    candidates = profiles.loc[[*tested]]
    if name is None:
        zero = candidates.loc[candidates["alpha"] == REFERENCE, "name"]
        return find_reference(profiles, tested, zero.iloc[0]) if len(zero) else None
    if name not in set(profiles["name"]):
        raise unknown("reference", name, dict.fromkeys(profiles["name"]))
    chosen = candidates[candidates["name"] == name]
    if chosen.empty:
        raise SelbenchError(
            f"the reference {name} was not tested under these corruptions; test it with "
            "--suite corruptions, or name another with --reference"
        )
    return Reference(name, tuple(chosen.index), bool(chosen["seed"].notna().all()))


def divided_by_reference(
    reference: Reference, amounts: pd.DataFrame, profiles: pd.DataFrame
) -> pd.DataFrame:
    """Divide amounts of error, corruptions by networks, by those of the reference.

    Amounts are sums or means over the same severities, so the division comes after the sum. A
    network without a seed, or of another study, is compared with the mean over the reference's
    networks; a network whose seed the reference lacks has no ratio. Corruptions for which the
    reference's amount is not positive are left out.

    Hendrycks & Dietterich, 2019, arXiv:1903.12261: for errors this is CE, for the increase over the
    clean error it is relative CE, as a fraction of 1.
    """
    reference_amounts = amounts[[*reference.networks]]
    reference_amounts = reference_amounts[(reference_amounts > 0).all(axis=1)]
    studies, seeds = profiles["study"].to_dict(), profiles["seed"].dropna().to_dict()
    home = studies[reference.networks[0]]
    same = {seeds.get(name): name for name in reversed(reference.networks)}
    mean = reference_amounts.mean(axis=1)

    def divisor(name: str) -> "pd.Series[float]":
        if not reference.seeded or studies[name] != home or name not in seeds:
            return mean
        return reference_amounts[same[seeds[name]]] if seeds[name] in same else mean * float("nan")

    divisors = {name: divisor(name) for name in amounts.columns}
    return amounts.loc[reference_amounts.index] / pd.DataFrame(
        divisors, index=reference_amounts.index, dtype=float
    )
