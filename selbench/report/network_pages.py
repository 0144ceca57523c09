"""A page for each network under test, a row of the leaderboard: an alpha, or a user's network."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pandas as pd

from selbench._kit.errors import SelbenchError
from selbench.figures.style import labels_of
from selbench.report.answer import KINDS
from selbench.report.board import to_boards
from selbench.report.evidence import Evidence
from selbench.store.findings import finding_sentences, findings_in, whole_name
from selbench.study import count_of, exactly
from selbench.tables.current import data_name
from selbench.tables.tradeoff import positions

SHADES = 10  # of a heat map, from 0 to 100 %
WORST = 3  # corruptions that are named first
SUITES = ("corruptions", "corruptions-extra", "corruptions-bar")
ATTACKS = ("attacks", "attacks-strong")
BUDGETS = {"linf": 8.0, "l2": 128.0}  # in 255ths, that the field compares at
LONGEST = 60  # letters of a name in an address
FIRST = "index.html"


@dataclass(frozen=True)
class Tone:
    """An accuracy as a cell of a heat map: its text in %, and how dark it is, from 0."""

    text: str
    shade: int


@dataclass(frozen=True)
class Map:
    """A table of accuracies: what rows and columns are, and a cell of each pair or None."""

    corner: str
    columns: list[str]
    rows: list[tuple[str, list[Tone | None]]]


@dataclass(frozen=True)
class Quantity:
    """A column of the leaderboard: its heading, the network's text, and what it means."""

    heading: str
    text: str
    meaning: str


@dataclass(frozen=True)
class Seed:
    """One of the networks of an alpha: accuracies in %, as the trade-off averages them.

    They are clean, corrupted and adversarial; "-" without a number.
    """

    seed: int
    accuracies: list[str]
    weights: str
    diverged: bool


@dataclass(frozen=True)
class NetworkPage:
    """What a network's page shows.

    Attributes:
        path: its file, beside the other pages.
        title: its heading: "alpha = -1", or a name.
        row: its name in tables.
        labels: its names in figures.
        about: what it is.
        tiles: the first numbers: what they are of, and their texts.
        worst: the corruptions that cost most: their names, and what is left.
        corruptions: corruption x severity, the worst first; None where none was measured.
        attacks: attack x budget, for each norm.
        findings: what the probe found.
        quantities: its numbers in the leaderboard.
        seeds: the networks of an alpha.
    """

    path: str
    title: str
    row: str
    labels: list[str]
    about: str
    tiles: list[tuple[str, str]]
    worst: list[str]
    corruptions: Map | None
    attacks: list[Map]
    findings: list[str]
    quantities: list[Quantity]
    seeds: list[Seed]


def is_brought(evidence: Evidence) -> bool:
    """Whether none of the networks is one of a study's, with its alpha."""
    return bool(evidence.rows["alpha"].isna().all())


def network_pages(evidence: Evidence) -> list[NetworkPage]:
    """Return the page of each network, alphas first; a user's network alone has the first page."""
    rows = _shown(evidence.rows)
    alphas = rows["alpha"].map(exactly, na_action="ignore").astype(object)
    rows = rows.assign(label=labels_of(rows), row=alphas.fillna(rows["subject"].map(whole_name)))
    groups = [part for _, part in rows.groupby(["alpha", "row"], dropna=False)]
    alone = len(groups) == 1 and is_brought(evidence)
    quantities, seeds, taken = _quantities(evidence), _seeds(evidence), set[str]()
    pages = []
    for part in groups:
        row, path = part["row"].iloc[0], FIRST if alone else _unused(_stem(part.iloc[0]), taken)
        pages.append(_page(evidence, part, path, quantities.get(row, []), seeds.get(row, [])))
    return pages


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Return networks' accuracies, and one row at least of each network; layers have far more."""
    return rows[
        ((rows["metric"] == "accuracy") & rows["layer"].isna()) | ~rows["subject"].duplicated()
    ]


def address_of(row: str, pages: Sequence[NetworkPage]) -> str:
    """Return the page of a row of a table, or of a network of a store; "" without one.

    Smoothed networks, draws and seeds have more words after the name that a page has.
    """
    names = (f"{row} ", f"{row.removeprefix('alpha=')} ")
    found = [each for each in pages if any(name.startswith(f"{each.row} ") for name in names)]
    return max(found, key=lambda each: len(each.row)).path if found else ""


def plain(name: str) -> str:
    """Return what of a name may be part of an address."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", name)[:LONGEST].strip("-.")


def _stem(row: pd.Series) -> str:
    alpha = "" if pd.isna(row["alpha"]) else "alpha="
    return plain(f"network-{alpha}{whole_name(row['label'])}")


def _unused(stem: str, taken: set[str]) -> str:
    """Return a file that no other network has, not even where case does not count; take it."""
    names = (f"{stem}{f'-{number}' if number > 1 else ''}.html" for number in count(1))
    path = next(name for name in names if name.lower() not in taken)
    taken.add(path.lower())
    return path


def _quantities(evidence: Evidence) -> dict[str, list[Quantity]]:
    """Return the leaderboard's numbers as it writes them, by its rows."""
    found: dict[str, list[Quantity]] = {}
    for board in to_boards(evidence.board).values():
        for line in board.lines:
            found.setdefault(line[0].text, []).extend(
                Quantity(heading.text, entry.text, heading.meaning)
                for heading, entry in list(zip(board.headings, line, strict=True))[2:]
                if entry.text != "-"
            )
    return found


def _seeds(evidence: Evidence) -> dict[str, list[Seed]]:
    """Return the networks of each alpha, by its name in tables."""
    rows = evidence.rows[evidence.rows["alpha"].notna()]
    clean = rows[(rows["suite"] == "clean") & (rows["metric"] == "accuracy")]
    table = clean.set_index("subject")[["value"]]
    with suppress(SelbenchError):  # no network has all three
        table = table.join(positions(evidence.rows, evidence.study)[KINDS])
    facts = rows[["subject", "alpha", "seed"]].drop_duplicates().sort_values("seed")
    table = table.reindex(facts["subject"], columns=["value", *KINDS])
    found: dict[str, list[Seed]] = {}
    for subject, alpha, seed in facts.itertuples(index=False):
        known = evidence.manifest["subjects"][subject]
        texts = ["-" if math.isnan(v) else _percent(v) for v in table.loc[subject]]
        made = Seed(int(seed), texts, known["weights"], bool(known.get("diverged")))
        found.setdefault(exactly(alpha), []).append(made)
    return found


def _page(
    evidence: Evidence,
    rows: pd.DataFrame,
    path: str,
    quantities: list[Quantity],
    seeds: list[Seed],
) -> NetworkPage:
    row, alpha = rows["row"].iloc[0], rows["alpha"].iloc[0]
    subjects = {*rows["subject"]}
    found = findings_in(evidence.manifest)
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    corrupted = _table(accuracy[accuracy["suite"].isin(SUITES)])
    attacked = _by_norm(accuracy)
    return NetworkPage(
        path=path,
        title=row if pd.isna(alpha) else f"alpha = {row}",
        row=row,
        labels=[*rows["label"].unique()],
        about=_about(evidence, rows),
        tiles=[*_first_tiles(quantities), *_attack_tiles(attacked)],
        worst=_worst(corrupted, accuracy.loc[accuracy["suite"] == "clean", "value"].mean()),
        corruptions=_map("corruption", corrupted) if len(corrupted) else None,
        attacks=[_map(f"{norm}, budget / 255", table) for norm, table in attacked.items()],
        findings=finding_sentences({name: found[name] for name in found if name in subjects}),
        quantities=quantities,
        seeds=seeds,
    )


def _about(evidence: Evidence, rows: pd.DataFrame) -> str:
    first, n = rows.iloc[0], rows.loc[rows["metric"] == "accuracy", "n"].min()
    tested = f"Tested on {count_of(int(n), 'image')}." if pd.notna(n) else ""
    if pd.isna(first["alpha"]):
        own = f"selbench did not train this network. Hash of its weights: {first['weights']}."
        return f"{own} {tested}"
    networks = count_of(rows["subject"].nunique(), f"{first['architecture']} network")
    data = data_name(evidence.manifest).removeprefix("folder ")
    means = " Numbers are means over its networks." if rows["subject"].nunique() > 1 else ""
    return f"{networks}, trained on {data}. {tested}{means}"


def _first_tiles(quantities: Sequence[Quantity]) -> list[tuple[str, str]]:
    return [
        (each.heading.removesuffix(" %"), f"{each.text} %")
        for each in quantities
        if each.heading in ("clean %", "corrupted %")
    ]


def _attack_tiles(attacked: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Return what the strongest attack of each norm leaves at the usual budget, or the largest."""
    tiles = []
    for norm, table in attacked.items():
        level = BUDGETS[norm] if BUDGETS[norm] in table else table.columns.max()
        tiles.append((f"attacked, {norm} {level:g}/255", f"{_percent(table[level].min())} %"))
    return tiles


def _by_norm(accuracy: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return accuracies under attacks by norm: attacks by rising budgets."""
    rows = accuracy[accuracy["suite"].isin(ATTACKS) & accuracy["level"].notna()]
    norms = rows["condition"].str.split("-").str[-1]
    parts = rows[norms.isin([*BUDGETS])].groupby(norms)
    return {str(norm): _table(part).sort_index() for norm, part in parts}


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over networks by condition and level, the worst condition first.

    NaN where a network lacks the level that others have.
    """
    cells = rows.groupby(["condition", "level"])["value"]
    means, counts = cells.mean().unstack(), cells.count().unstack()
    means = means.where(counts.eq(counts.max(axis="columns"), axis="index"))
    return means.loc[_means(means).sort_values(kind="stable").index]  # the unfinished ones last


def _means(table: pd.DataFrame) -> pd.Series:
    """Return each condition's mean over levels, NaN where some are not there."""
    return table.mean(axis=1, skipna=False)


def _worst(table: pd.DataFrame, clean: float) -> list[str]:
    return [
        f"{condition}: {_percent(value)} %"
        + ("" if pd.isna(clean) else f" ({100 * (value - clean):+.1f} points against clean)")
        for condition, value in _means(table).dropna().head(WORST).items()
    ]


def _map(corner: str, table: pd.DataFrame) -> Map:
    """Lay accuracies out, with the mean over levels at the end where there are several."""
    columns = [f"{level:g}" for level in table.columns]
    if corner == "corruption" and len(columns) > 1:
        table, columns = table.assign(mean=_means(table)), [*columns, "mean"]
    cells = [[_tone(value) for value in values] for values in table.to_numpy().tolist()]
    return Map(corner, columns, list(zip(table.index, cells, strict=True)))


def _tone(value: float) -> Tone | None:
    if math.isnan(value):
        return None
    return Tone(_percent(value), min(int(value * SHADES), SHADES - 1))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
