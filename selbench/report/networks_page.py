"""The first page of a report without trained networks: how robust each of them is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from selbench.report.board import to_boards
from selbench.report.evidence import Evidence
from selbench.store.findings import finding_sentences, findings_in, whole_name

SHADES = 10  # of a heat map, from 0 to 100 %
WORST = 3  # corruptions that are named first
SUITES = ("corruptions", "corruptions-extra", "corruptions-bar")
ATTACKS = ("attacks", "attacks-strong")
BUDGETS = {"linf": 8.0, "l2": 128.0}  # in 255ths, that the field compares at


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
class Shown:
    """What a network's part of the page shows.

    Attributes:
        name: of the network.
        tiles: the first numbers: what they are of, and their texts.
        worst: the corruptions that cost most: their names, and what is left.
        corruptions: corruption x severity, the worst first; None where none was measured.
        attacks: attack x budget, for each norm.
        findings: what the probe found.
    """

    name: str
    tiles: list[tuple[str, str]]
    worst: list[str]
    corruptions: Map | None
    attacks: list[Map]
    findings: list[str]


def is_brought(evidence: Evidence) -> bool:
    """Whether none of the networks is one of a study's, with its alpha."""
    return bool(evidence.rows["alpha"].isna().all())


def shown(evidence: Evidence) -> list[Shown]:
    """Return what there is of every network, in the order of their names."""
    rows = evidence.rows[evidence.rows["metric"] == "accuracy"]
    rows = rows.assign(subject=rows["subject"].map(whole_name))
    found = findings_in(evidence.manifest)
    texts = _texts(evidence)
    return [
        _shown(
            name,
            network_rows,
            texts.get(name, {}),
            finding_sentences(
                {each: what for each, what in found.items() if whole_name(each) == name}
            ),
        )
        for name, network_rows in ((str(key), part) for key, part in rows.groupby("subject"))
    ]


def _texts(evidence: Evidence) -> dict[str, dict[str, str]]:
    """Return the leaderboard's numbers as it writes them, by network and heading."""
    texts: dict[str, dict[str, str]] = {}
    for board in to_boards(evidence.board).values():
        headings = [each.text for each in board.headings]
        for line in board.lines:
            line_texts = dict(zip(headings, (entry.text for entry in line), strict=True))
            texts.setdefault(line[0].text, {}).update(line_texts)
    return texts


def _shown(name: str, rows: pd.DataFrame, texts: dict[str, str], findings: list[str]) -> Shown:
    clean = rows.loc[rows["suite"] == "clean", "value"].mean()
    corrupted = rows[rows["suite"].isin(SUITES)]
    attacked = rows[rows["suite"].isin(ATTACKS) & rows["level"].notna()]
    attacked = attacked[attacked["condition"].str.split("-").str[-1].isin([*BUDGETS])]
    means = _means(_table(corrupted)).sort_values(kind="stable")  # the unfinished ones are last
    tiles = [
        (heading.removesuffix(" %"), f"{texts[heading]} %")
        for heading in ("clean %", "corrupted %")
        if texts.get(heading, "-") != "-"
    ]
    norms = attacked["condition"].str.split("-").str[-1]
    for norm, part in attacked.groupby(norms):
        usual = BUDGETS[str(norm)]
        level = usual if usual in {*part["level"]} else part["level"].max()
        least = part.loc[part["level"] == level, "value"].min()
        tiles.append((f"attacked, {norm} {level:g}/255", f"{_percent(least)} %"))
    worst = [
        f"{condition}: {_percent(value)} %"
        + ("" if pd.isna(clean) else f" ({100 * (value - clean):+.1f} points against clean)")
        for condition, value in means.dropna().head(WORST).items()
    ]
    return Shown(
        name=name,
        tiles=tiles,
        worst=worst,
        corruptions=_map("corruption", corrupted, [*means.index]) if len(corrupted) else None,
        attacks=[
            _map(f"{norm}, budget / 255", part, sorted(part["condition"].unique()))
            for norm, part in attacked.groupby(norms)
        ],
        findings=findings,
    )


def _map(corner: str, rows: pd.DataFrame, order: Sequence[str]) -> Map:
    """Lay accuracies out, with the mean over levels at the end where there are several."""
    table = _table(rows).loc[[*order]]
    columns = [f"{level:g}" for level in table.columns]
    if corner == "corruption" and len(columns) > 1:
        table, columns = table.assign(mean=_means(table)), [*columns, "mean"]
    cells = [[_tone(value) for value in values] for values in table.to_numpy().tolist()]
    return Map(corner, columns, list(zip(order, cells, strict=True)))


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot_table(index="condition", columns="level", values="value")


def _means(table: pd.DataFrame) -> pd.Series:
    """Return each condition's mean over levels, NaN where some are not there."""
    return table.mean(axis=1, skipna=False)


def _tone(value: float) -> Tone | None:
    if math.isnan(value):
        return None
    return Tone(_percent(value), min(int(value * SHADES), SHADES - 1))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
