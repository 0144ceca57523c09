"""Leaderboards: pure functions of a study's measurements, in several formats."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from selbench.stats import mean_interval
from selbench.store import StudyStore

FAMILIES = ("noise", "blur", "weather", "digital")
REFERENCE = 0.0  # the alpha that mCE is relative to


@dataclass(frozen=True)
class Column:
    """How a quantity is shown: its heading, the factor from the data's unit, and decimals."""

    heading: str
    factor: float = 100
    decimals: int = 1


COLUMNS = {
    "selectivity": Column("selectivity", 1, 3),
    "clean": Column("clean %"),
    "corrupted": Column("corrupted %"),
    "mce": Column("mCE %"),
    "ratio": Column("corr./clean", 1, 3),
    **{family: Column(f"{family} %") for family in FAMILIES},
}


@dataclass(frozen=True)
class Leaderboard:
    """A study's table: one row per alpha or brought network, numbers as numbers.

    Attributes:
        study: its name.
        table: columns study, subject, alpha, networks, and for every quantity of `COLUMNS` its
            mean over networks and, with the suffix `_interval`, the half width of its 95 %
            interval. Accuracies lie in [0, 1]; mce is 1 for the reference.
        caption: what the numbers are over, and what was left out.
    """

    study: str
    table: pd.DataFrame
    caption: str


def leaderboard(store: StudyStore, limit: int | None = None) -> Leaderboard:
    """Derive the leaderboard of a study from its store.

    Only like is compared with like: the data and the training of the store's latest run, one
    number of test images, and the corrupted conditions that all networks have in common.

    Args:
        store: the study's results.
        limit: use the cells with so many test images; None takes the most there are.
    """
    manifest = store.manifest()
    rows = store.measurements()
    current = (rows["data"] == manifest["data"]) & rows["training"].isin([manifest["training"], ""])
    rows = rows[current]
    limits = rows["limit"].unique()
    chosen = (
        limit
        if limit is not None
        else (pd.NA if rows["limit"].isna().any() else max(limits, default=pd.NA))
    )
    rows = rows[rows["limit"].isna() if pd.isna(chosen) else rows["limit"] == chosen]
    networks, conditions, excluded = _networks(rows)
    table = _rows_over_networks(networks)
    table.insert(0, "study", store.study)
    return Leaderboard(store.study, table, _caption(rows, conditions, excluded, networks))


def _networks(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return one row per network, the conditions that count, and corruptions left out of mCE."""
    identity = ["subject", "alpha", "seed", "weights"]
    accuracy = rows[rows["metric"] == "accuracy"]
    overall = rows[(rows["metric"] == "selectivity_index") & rows["layer"].isna()]
    table = rows[identity].drop_duplicates("weights").set_index("weights")
    table["selectivity"] = overall.drop_duplicates("weights").set_index("weights")["value"]
    clean = accuracy[accuracy["suite"] == "clean"].drop_duplicates("weights")
    table["clean"] = clean.set_index("weights")["value"]
    corrupted = accuracy[accuracy["suite"] == "corruptions"]
    cells = corrupted.pivot_table(
        index=["group", "condition", "level"], columns="weights", values="value"
    )
    cells = cells.dropna(axis=0)
    conditions = cells.index.to_frame(index=False)
    by_corruption = cells.groupby(level=["group", "condition"]).mean()
    table["corrupted"] = by_corruption.mean()
    table["ratio"] = table["corrupted"] / table["clean"]
    families = by_corruption.groupby(level="group").mean()
    for family in FAMILIES:
        table[family] = families.loc[family] if family in families.index else np.nan
    error = 1 - by_corruption
    reference = error[[w for w in error.columns if table.loc[w, "alpha"] == REFERENCE]].mean(axis=1)
    relative = error.div(reference.where(reference > 0), axis=0)
    table["mce"] = relative.mean()
    flawless = relative.index[reference == 0].get_level_values("condition")
    return table.reset_index(), conditions, sorted(flawless)


def _rows_over_networks(networks: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds: one row per alpha in rising order, then one per brought network."""
    label = (
        networks["alpha"].map("{:g}".format).where(networks["alpha"].notna(), networks["subject"])
    )
    rows = []
    for (subject, alpha), group in networks.groupby(
        [label, networks["alpha"].fillna(np.inf)], sort=False
    ):
        row = {"subject": subject, "alpha": alpha, "networks": len(group)}
        for name in COLUMNS:
            row[name], row[f"{name}_interval"] = mean_interval(group[name].astype(float).tolist())
        rows.append(row)
    names = [part for name in COLUMNS for part in (name, f"{name}_interval")]
    table = pd.DataFrame(rows, columns=["subject", "alpha", "networks", *names])
    table = table.sort_values(["alpha", "subject"], ignore_index=True)
    return table.replace({"alpha": {np.inf: np.nan}})


def _caption(
    rows: pd.DataFrame, conditions: pd.DataFrame, excluded: list[str], networks: pd.DataFrame
) -> str:
    n = rows.loc[rows["metric"] == "accuracy", "n"]
    parts = [f"{n.max()} test images" if len(n) else "no accuracies yet"]
    if len(conditions):
        sources = sorted(rows.loc[rows["suite"] == "corruptions", "source"].unique())
        parts.append(
            f"{conditions['condition'].nunique()} corruptions, {len(conditions)} conditions with "
            f"their severities ({', '.join(sources)})"
        )
    parts.append("mean over seeds ± 95 % t interval")
    if (networks["alpha"] == REFERENCE).any():
        parts.append(f"mCE relative to alpha = {REFERENCE:g}")
    if excluded:
        parts.append(
            f"mCE without {', '.join(excluded)}, where alpha = {REFERENCE:g} makes no error"
        )
    return "; ".join(parts) + "."


def _text(row: pd.Series, name: str, plus_minus: str = " ± ") -> str:
    """Write a quantity for people: "97.1 ± 0.4"; "-" where it is missing."""
    column = COLUMNS[name]
    value, interval = row[name] * column.factor, row[f"{name}_interval"] * column.factor
    if np.isnan(value):
        return "-"
    text = f"{value:.{column.decimals}f}"
    return text if np.isnan(interval) else f"{text}{plus_minus}{interval:.{column.decimals}f}"


def _present(table: pd.DataFrame) -> list[str]:
    return [name for name in COLUMNS if table[name].notna().any()]


def _lines(board: Leaderboard, names: list[str], plus_minus: str = " ± ") -> Iterator[list[str]]:
    for _, row in board.table.iterrows():
        yield [
            row["subject"],
            str(row["networks"]),
            *(_text(row, name, plus_minus) for name in names),
        ]


def to_table(board: Leaderboard) -> Group:
    """Render for a terminal, in two tables that fit 80 columns."""
    present = _present(board.table)
    halves = [[n for n in present if n not in FAMILIES], [n for n in present if n in FAMILIES]]
    parts: list[Table | Text] = []
    for names in halves:
        if not names:
            continue
        title = f"{board.study}: accuracy by family" if names[0] in FAMILIES else board.study
        look = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
        table = Table(title=title, title_justify="left", box=look, padding=0, show_edge=False)
        for heading in ("alpha", "n", *(COLUMNS[name].heading for name in names)):
            table.add_column(heading, justify="right", no_wrap=True)
        for line in _lines(board, names):
            table.add_row(*line)
        parts += [table, Text()]
    return Group(*parts, Text(board.caption, style="dim"))


def to_markdown(boards: Sequence[Leaderboard]) -> str:
    """Render as Markdown; equal stores give equal bytes."""
    sections = []
    for board in boards:
        names = _present(board.table)
        heads = ["alpha", "n", *(COLUMNS[name].heading for name in names)]
        lines = [heads, ["---:"] * len(heads), *_lines(board, names)]
        table = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        sections.append(f"### {board.study}\n\n{table}\n\n{board.caption}\n")
    return "\n".join(sections)


def to_csv(boards: Sequence[Leaderboard]) -> str:
    """Render as CSV: full numbers, one column per quantity and one per interval."""
    return pd.concat([board.table for board in boards]).to_csv(index=False)


def to_json(boards: Sequence[Leaderboard]) -> str:
    """Render as JSON: a list of study, caption and rows; full numbers, or null."""
    content = [
        {
            "study": board.study,
            "caption": board.caption,
            "rows": json.loads(board.table.to_json(orient="records", double_precision=15)),
        }
        for board in boards
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def to_latex(boards: Sequence[Leaderboard]) -> str:
    """Render as LaTeX tabulars (package booktabs)."""
    tables = []
    for board in boards:
        names = _present(board.table)
        heads = ["alpha", "n", *(COLUMNS[name].heading for name in names)]
        body = [heads, *_lines(board, names, r" $\pm$ ")]
        lines = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in body]
        rules = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        begin = rf"\begin{{tabular}}{{{'r' * len(heads)}}}"
        tables.append(
            "\n".join([f"% {board.study}: {board.caption}", begin, *rules, r"\end{tabular}"]) + "\n"
        )
    return "\n".join(tables)


def _escape(text: str) -> str:
    for character in "%&#_":
        text = text.replace(character, "\\" + character)
    return text


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}
