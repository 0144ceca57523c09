"""The caption of a leaderboard: what its numbers cover, and what was left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from selbench._kit.printable import printable
from selbench.study import count_of
from selbench.suites.corrupted import CORRUPTED, SHIFTED
from selbench.suites.smoothing import SUITE as SMOOTHING
from selbench.tables.accuracies import Levels, ids
from selbench.tables.columns import COLUMNS, INDEX, OF_FOLDERS, PARTIAL, of_corrupted
from selbench.tables.current import data_name
from selbench.tables.explained import looks_of, partly
from selbench.tables.joined import Compared
from selbench.tables.published import source_notes
from selbench.tables.relative import RELATIVE, Reference, RelativeErrors


@dataclass(frozen=True)
class Remark:
    """A part of a caption, and its columns; () for all."""

    text: str
    columns: frozenset[str] = frozenset()


def remarks(
    found: Compared,
    networks: pd.DataFrame,
    table: pd.DataFrame,
    counted: Levels,
    lacking: list[str],
    fewer: list[str],
    relative: RelativeErrors,
) -> tuple[Remark, ...]:
    """Return the parts of the caption.

    Args:
        found: the compared measurements.
        networks: every network's columns.
        table: the leaderboard's table.
        counted: the corrupted conditions that count.
        lacking: corruptions that only some networks have.
        fewer: corruptions at whose severities not all networks were tested.
        relative: mCE, its reference, and the corruptions left out.
    """
    measured, reference = bool(counted), relative.reference
    left_out = relative.left_out.get("mce")
    corrupted = frozenset(name for name, each in COLUMNS.items() if of_corrupted(each))
    parts = [
        *map(Remark, (_images(found), *_hidden(found))),
        *([Remark(_sources(found.rows, counted), corrupted)] if measured else []),
        *_folders(found.rows),
        *map(Remark, (*_intervals(table), *looks_of(found.rows), *_not_finite(found))),
        *map(Remark, source_notes(found.published, found.rows, _data(found))),
    ]
    if parts_of := partly(found.rows):
        coverage = "; ".join(f"{_named([name])} covers {part}" for name, part in parts_of.items())
        parts.append(Remark(f"{PARTIAL} the selectivity of {coverage}", INDEX))
    if reference is not None and networks["mce"].notna().any():
        text = f"mCE relative to {compared_with(reference, found)}"
        parts.append(Remark(text, frozenset(RELATIVE)))
    if lacking:
        text = f"not counted, since some networks lack them: {', '.join(lacking)}"
        parts.append(Remark(text, corrupted))
    if fewer:
        text = f"only at severities that all networks have: {', '.join(fewer)}"
        parts.append(Remark(text, corrupted))
    if reference is not None and left_out and measured:
        lacks = "makes no error" if reference.errors is None else "has no published errors there"
        reason = f"not in mCE, since {written(reference)} {lacks}"
        parts.append(Remark(f"{reason}: {', '.join(left_out)}", frozenset({"mce"})))
    smoothed = found.rows.loc[found.rows["suite"] == SMOOTHING, "subject"]
    untested = networks.index[networks["mca"].isna() & ~networks.index.isin(smoothed)]
    if measured and len(untested):
        parts.append(Remark(f"not tested on corruptions: {_named(untested)}", corrupted))
    if found.diverged:
        parts.append(Remark(f"diverged in training: {_named(found.diverged)}"))
    return tuple(parts)


def note(relative: RelativeErrors) -> Mapping[str, str]:
    """Return a note on the corruptions left out of the column relative_mce."""
    reference, left_out = relative.reference, relative.left_out.get("relative_mce")
    if reference is None or not left_out:
        return {}
    reason = f"not in relative mCE, since {written(reference)} loses nothing by them"
    return {"relative_mce": f"{reason}: {', '.join(left_out)}"}


def compared_with(reference: Reference, found: Compared) -> str:
    """Return a phrase such as "alpha = 0 of the same seed"."""
    if not reference.seeded:
        return written(reference)
    others = ["of other studies"] if found.rows["study"].nunique() > 1 else []
    others += ["of networks without a seed"] if found.rows["seed"].isna().any() else []
    mean = f", {' and '.join(others)} to its mean" if others else ""
    return f"{written(reference)} of the same seed{mean}"


def written(reference: Reference) -> str:
    """Return a row's name for sentences: "alpha = 0"."""
    name = reference.name
    return f"alpha = {name.removeprefix('alpha=')}" if name.startswith("alpha=") else name


def _folders(rows: pd.DataFrame) -> Iterator[Remark]:
    """Return the number of images and the source of each folder of shifted images."""
    accuracy = rows[(rows["metric"] == "accuracy") & (rows["suite"] == SHIFTED)]
    for name, part in accuracy.groupby("condition"):
        counts = " to ".join(map(str, sorted({part["n"].min(), part["n"].max()})))
        sources = ", ".join(sorted(part["source"].unique()))
        yield Remark(f"{name}: {counts} images, {sources}", frozenset({f"{OF_FOLDERS}{name}"}))


def _images(found: Compared) -> str:
    counted = (found.rows["metric"] == "accuracy") & (found.rows["suite"] != SHIFTED)
    n = found.rows.loc[counted, "n"]
    numbers = " to ".join(map(str, sorted({n.min(), n.max()})))
    which = " that every network has right while they are clean" if found.images else ""
    return f"{numbers} test images{which}" if len(n) else "no accuracies yet"


def _hidden(found: Compared) -> list[str]:
    """Return a phrase on results with other limits, which are not in the table."""
    each = [f"{name} on {n} test images (--limit {n} shows them)" for name, n in found.hidden]
    return [f"not shown: {_named(each)}"] if each else []


def _not_finite(found: Compared) -> list[str]:
    """Return a phrase on networks with cells that have an accuracy but no mean confidence.

    Stores hold only finite numbers, and a confidence is NaN if a network's outputs are not finite.
    Accuracies from other places than stores may have no confidence.
    """
    rows = found.rows[found.rows["metric"].isin(["accuracy", "confidence"])]
    measured = rows[~rows["study"].isin(found.published)]
    counts = Counter(zip(measured["metric"], measured["subject"], strict=True))
    names = [
        name
        for metric, name in sorted(counts)
        if metric == "accuracy" and counts["confidence", name] < counts[metric, name]
    ]
    if not (names and found.stores):
        return []
    return [f"outputs that are NaN or infinite count as they come: {_named(names)}"]


def _data(found: Compared) -> list[str]:
    return [data_name(store.manifest()) for _, store in found.stores]


def _named(networks: Iterable[str]) -> str:
    """Return the names of networks, escaped for every terminal and format."""
    return ", ".join(printable(name) for name in networks)


def _sources(rows: pd.DataFrame, counted: Levels) -> str:
    corrupted = rows[rows["suite"].isin(CORRUPTED)].drop_duplicates(["suite", "condition", "level"])
    used = {each for part in counted.values() for each in part}
    made = zip(ids(corrupted), corrupted["source"], strict=True)
    counts = sorted(Counter(source for each, source in made if each in used).items())
    sources = ", ".join(f"{count} {source}" for source, count in counts)
    return f"{count_of(len(counted), 'corruption')}, with their severities {sources}"


def _intervals(table: pd.DataFrame) -> list[str]:
    """Return a phrase on what the intervals are over."""
    lone = table["networks"] == 1
    halves = table[[name for name in table if str(name).endswith("_interval")]]
    over_images = bool(halves[lone].notna().any(axis=None))
    parts = [] if lone.all() and len(table) else ["mean over seeds ± 95 % t interval"]
    if over_images:
        parts.append("of one network ± 95 % interval over test images alone")
    return parts or ["one network each, without an interval"]
