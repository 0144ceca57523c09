"""Join the measurements of several studies in one table, if they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore, condition_id
from selbench.store.findings import Finding, whole_name
from selbench.store.tidy import plain_text
from selbench.study import exactly
from selbench.suites.smoothing import SUITE as SMOOTHING
from selbench.suites.smoothing import classifier
from selbench.tables.current import command, current_rows, hidden_limits, images_used, reading_once
from selbench.tables.published import published
from selbench.tables.spoilt import findings_of, withheld


@dataclass(frozen=True)
class Compared:
    """Measurements that one table compares.

    Attributes:
        title: the studies' names.
        rows: current measurements, with the additional columns study; row, the name in the table;
            name, that of `--reference`; own, that in the study; and tested, the condition in the
            store. `subject` is unique; a smoothed network has its own.
        where: their folders.
        diverged: networks that diverged in training.
        findings: findings of the probe, by network.
        withheld: columns that lack numbers since a finding makes them meaningless.
        stores: the studies' stores, by the names in rows.
        runs: the commands that add to them.
        images: the test images of accuracies; None for all.
        published: the places of published numbers, which have no store.
        hidden: further numbers of test images on which a study has results, with its name.
    """

    title: str
    rows: pd.DataFrame
    where: str = ""
    diverged: tuple[str, ...] = ()
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    stores: tuple[tuple[str, StudyStore], ...] = ()
    runs: tuple[str, ...] = ()
    images: frozenset[int] | None = None
    published: tuple[str, ...] = ()
    hidden: tuple[tuple[str, int], ...] = ()


def compared(
    stores: Sequence[StudyStore], limit: int | None = None, places: Sequence[str] = ()
) -> Compared:
    """Return the measurements of one study, or of several that can be compared.

    With several studies, a row has the name of a user's network, or "alpha=0". It has the prefix of
    its study, "digits: alpha=0", if two studies have this name, or if two have alphas.

    Args:
        stores: the stores of the studies; may be empty if there are places.
        limit: the number of test images; None for the largest of each.
        places: of published numbers, such as "published:cifar10-c".

    Raises:
        SelbenchError: if two studies differ in the test images, their number, or a condition; also
            as `current_rows`.
    """
    with reading_once():
        tables = [current_rows(store, limit) for store in stores]
        hidden = [hidden_limits(store, limit) for store in stores]
    check_alike(stores, tables)
    names = study_names(stores)
    titles = [*names, *places]
    every = [*tables, *map(published, places)]
    marked = [labelled(table, name) for table, name in zip(every, titles, strict=True)]
    joined = (
        marked[0] if len(marked) == 1 else _with_study_names(pd.concat(marked, ignore_index=True))
    )
    return Compared(
        " + ".join(titles),
        joined,
        " and ".join(str(store.folder) for store in stores),
        _diverged(stores, names),
        findings_of(stores, names),
        frozenset().union(*(withheld(store.manifest()) for store in stores)),
        tuple(zip(names, stores, strict=True)),
        tuple(
            command(store, images_used(table)) for store, table in zip(stores, tables, strict=True)
        ),
        published=tuple(places),
        hidden=tuple((name, each) for name, few in zip(names, hidden, strict=True) for each in few),
    )


def labelled(rows: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return measurements of one study with the columns that `Compared` adds."""
    known = {name: whole_name(name) for name in rows["subject"].unique()}
    full_names = rows["subject"].map(known)  # draws of a random network are one row
    written = {alpha: exactly(alpha) for alpha in rows["alpha"].dropna().unique().tolist()}
    alphas = rows["alpha"].map(written)
    trained = rows["alpha"].notna()
    with plain_text():
        marked = rows.assign(
            study=study,
            own=rows["subject"],
            row=full_names.where(~trained, alphas),
            name=full_names.where(~trained, "alpha=" + alphas.astype(object).fillna("")),
            tested=rows["condition"],
        )
        return _smoothed_apart(marked)


def _smoothed_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Give each smoothed network a row of its own: it is another classifier than the network."""
    smoothed = rows["suite"] == SMOOTHING
    if not smoothed.any():
        return rows
    added = " " + rows["condition"].where(smoothed, "").map(
        {name: classifier(name) for name in rows.loc[smoothed, "condition"].unique()}
    ).fillna("")
    names = {
        name: rows[name].where(~smoothed, rows[name] + added) for name in ("subject", "row", "name")
    }
    return rows.assign(condition=rows["condition"].where(~smoothed, SMOOTHING), **names)


def check_alike(stores: Sequence[StudyStore], tables: Sequence[pd.DataFrame]) -> None:
    """Refuse studies with different test images, or different conditions of the same name."""
    made: dict[str, tuple[StudyStore, tuple[str, int, str]]] = {}
    for store, table in zip(stores, tables, strict=True):
        _check_images(stores[0], store, tables[0], table)
        facts = table.drop_duplicates(["suite", "condition", "level"])
        columns = ["suite", "condition", "level", "source", "version", "data"]
        for suite, condition, level, *how in facts[columns].itertuples(index=False):
            name = condition_id(suite, condition, None if pd.isna(level) else level)
            other, before = made.setdefault(name, (store, tuple(how)))
            if before != tuple(how):
                difference = f"{name} differs ({_how(before)}, and {_how(tuple(how))})"
                raise _unlike(other, store, difference, "run one of them again like the other")


def _check_images(
    one: StudyStore, other: StudyStore, first: pd.DataFrame, then: pd.DataFrame
) -> None:
    data = [store.manifest()["data"] for store in (one, other)]
    if data[0] != data[1]:
        difference = f"their test images differ (checksums {data[0]} and {data[1]})"
        raise _unlike(one, other, difference, "join studies of the same images")
    counts = [images_used(table) or "all" for table in (first, then)]
    if counts[0] != counts[1]:
        difference = f"they used different numbers of test images ({counts[0]} and {counts[1]})"
        raise _unlike(one, other, difference, "choose one that both have with --limit")


def _how(facts: tuple[str, int, str]) -> str:
    source, version, data = facts
    return f"{source} in version {version} of images {data}"


def _unlike(one: StudyStore, other: StudyStore, difference: str, advice: str) -> SelbenchError:
    return SelbenchError(
        f"{one.folder} and {other.folder} cannot be in one table: {difference}; {advice}"
    )


def study_names(stores: Sequence[StudyStore]) -> list[str]:
    """Return the studies' names; for studies of equal names, their folders."""
    names = [store.study for store in stores]
    return [
        name if names.count(name) == 1 else str(store.folder)
        for name, store in zip(names, stores, strict=True)
    ]


def _with_study_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the name of the study to rows, if another study has the same row or also has alphas."""
    alone = rows.groupby("name")["study"].transform("nunique") == 1
    trained = rows["alpha"].notna()
    if rows.loc[trained, "study"].nunique() > 1:
        alone &= ~trained
    name = rows["name"].where(alone, rows["study"] + ": " + rows["name"])
    return rows.assign(name=name, row=name, subject=rows["study"] + ": " + rows["subject"])


def _diverged(stores: Sequence[StudyStore], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        subject if len(stores) == 1 else f"{name}: {subject}"
        for name, store in zip(names, stores, strict=True)
        for subject, facts in store.manifest()["subjects"].items()
        if facts.get("diverged")
    )
