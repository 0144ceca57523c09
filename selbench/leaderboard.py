"""Leaderboards: pure functions of a study's measurements, in several formats."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from selbench.errors import SelbenchError
from selbench.stats import mean_interval
from selbench.store import StudyStore, condition_id
from selbench.study import exactly

FAMILIES = ("noise", "blur", "weather", "digital")
REFERENCE = 0.0  # the alpha that mCE is relative to


@dataclass(frozen=True)
class Column:
    """How a quantity is shown: its heading, the factor from the data's unit, and decimals."""

    heading: str
    factor: float = 100
    decimals: int = 1
    interval: bool = True  # whether tables for people show it


COLUMNS = {
    "selectivity": Column("selectivity", 1, 3),
    "null": Column("null", 1, 3, interval=False),
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


def leaderboard(
    store: StudyStore, limit: int | None = None, extra: bool = False, only: Sequence[str] = ()
) -> Leaderboard:
    """Derive the leaderboard of a study from its store.

    Only like is compared with like: the data and the training of the store's latest run, one
    number of test images, and the corrupted conditions that all networks have in common.

    Args:
        store: the study's results.
        limit: use the cells with so many test images; None takes the most there are.
        extra: count the four extra corruptions in, beside the benchmark's fifteen.
        only: count these corruptions alone, the extra ones included; none for all.

    Raises:
        SelbenchError: where there are no cells with that `limit`, or with one of `only`.
    """
    manifest = store.manifest()
    rows = _one_limit(_current(store.measurements(), manifest), limit)
    if limit is not None and rows.empty:
        raise SelbenchError(
            f"{store.folder} holds no results on {limit} test images; make them with "
            f"`selbench run {store.study} --limit {limit}`"
        )
    corrupted = _corrupted_cells(rows, extra, only)
    absent = set(only) - set(corrupted.index.get_level_values("condition"))
    if absent:
        raise SelbenchError(
            f"{store.folder} holds no results under {min(absent)}; make them with "
            f"`selbench run {store.study} --suite corruptions-all --corruption {min(absent)}`"
        )
    cells = corrupted.dropna(axis=0)
    by_corruption = cells.groupby(level=["group", "condition"]).mean()
    networks = _profiles(rows)
    networks["corrupted"] = by_corruption.mean()
    networks["ratio"] = networks["corrupted"] / networks["clean"]
    families = by_corruption.groupby(level="group").mean()
    for family in FAMILIES:
        networks[family] = families.loc[family] if family in families.index else np.nan
    relative = _relative_error(1 - by_corruption, networks)
    networks["mce"] = relative.mean()
    table = _rows_over_networks(networks.reset_index())
    table.insert(0, "study", store.study)
    left_out = {
        "not counted, since some networks lack them": corrupted.index.difference(cells.index),
        f"not in mCE, since alpha = {REFERENCE:g} makes no error": by_corruption.index.difference(
            relative.index
        ),
    }
    caption = _caption(rows, cells, networks, left_out, manifest)
    return Leaderboard(store.study, table, caption)


def _current(rows: pd.DataFrame, manifest: dict[str, Any]) -> pd.DataFrame:
    """Keep what the manifest lists: data, networks, and conditions as they were last made."""
    weights = {name: facts["weights"] for name, facts in manifest["subjects"].items()}
    levels = [None if pd.isna(level) else int(level) for level in rows["level"]]
    conditions = map(condition_id, rows["suite"], rows["condition"], levels)
    # A condition whose images lie on disk names their checksum; the others' is the test set's.
    made = {
        name: (source, version, data or manifest["data"])
        for name, (source, version, data) in manifest["conditions"].items()
    }
    found = zip(rows["source"], rows["version"], rows["data"], strict=True)
    same = [made.get(name) == facts for name, facts in zip(conditions, found, strict=True)]
    current = (
        rows["training"].isin([manifest["training"], ""])
        & (rows["subject"].map(weights) == rows["weights"])
        & pd.Series(same, rows.index, bool)
    )
    kept: pd.DataFrame = rows[current]
    return kept


def _one_limit(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Keep the cells with `limit` test images; None takes all images, else the most there are."""
    if limit is None and rows["limit"].isna().any():
        return rows[rows["limit"].isna()]
    chosen = rows["limit"].max() if limit is None else limit
    return rows[(rows["limit"] == chosen).fillna(False)]


def _profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Return alpha, seed, selectivity, its null, clean accuracy of each network, by its name."""
    profiles = rows[["subject", "alpha", "seed"]].drop_duplicates().set_index("subject")
    whole = rows[rows["layer"].isna()]
    metrics = {
        "selectivity": whole["metric"] == "selectivity_index",
        "null": whole["metric"] == "selectivity_index_null",
        "clean": (whole["metric"] == "accuracy") & (whole["suite"] == "clean"),
    }
    for name, chosen in metrics.items():
        profiles[name] = whole[chosen].set_index("subject")["value"]
    return profiles


def _corrupted_cells(rows: pd.DataFrame, extra: bool, only: Sequence[str]) -> pd.DataFrame:
    """Return accuracies, conditions by networks; NaN where one was not tested."""
    suites = ["corruptions", "corruptions-extra"] if extra or only else ["corruptions"]
    chosen = rows[(rows["metric"] == "accuracy") & rows["suite"].isin(suites)]
    if only:
        chosen = chosen[chosen["condition"].isin(only)]
    index = ["group", "condition", "level"]
    cells: pd.DataFrame = chosen.pivot(index=index, columns="subject", values="value")
    return cells


def _relative_error(error: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Divide each network's errors by those of the reference of its own seed.

    Networks of one seed share their first weights and their validation images. One without a seed
    is compared with the mean over the references. Corruptions on which a reference makes no error
    are left out.
    """
    seeds = networks.loc[error.columns, "seed"]
    references = error.loc[:, (networks.loc[error.columns, "alpha"] == REFERENCE).to_numpy()]
    references = references[(references > 0).all(axis=1)]
    by_seed = {seeds[name]: references[name] for name in references.columns}
    missing = pd.Series(np.nan, references.index)
    mean = references.mean(axis=1)
    columns = {
        name: error.loc[references.index, name]
        / (mean if pd.isna(seeds[name]) else by_seed.get(seeds[name], missing))
        for name in error.columns
    }
    return pd.DataFrame(columns, index=references.index, dtype=float)


def _rows_over_networks(networks: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds: one row per alpha in rising order, then one per brought network."""
    label = networks["alpha"].map(exactly).where(networks["alpha"].notna(), networks["subject"])
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
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    networks: pd.DataFrame,
    left_out: "dict[str, pd.Index[Any]]",
    manifest: dict[str, Any],
) -> str:
    n = rows.loc[rows["metric"] == "accuracy", "n"]
    parts = [f"{n.max()} test images" if len(n) else "no accuracies yet"]
    if len(cells):
        names = cells.index.get_level_values("condition").unique()
        used = rows["condition"].isin(names) & (rows["level"].notna())
        sources = ", ".join(sorted(rows.loc[used, "source"].unique()))
        parts.append(
            f"{len(names)} corruptions, {len(cells)} conditions with their severities ({sources})"
        )
    parts.append("mean over seeds ± 95 % t interval")
    if networks["mce"].notna().any():
        parts.append(f"mCE relative to alpha = {REFERENCE:g} of the same seed")
    for reason, conditions in left_out.items():
        if len(conditions) and len(cells):
            names = conditions.get_level_values("condition").unique()
            parts.append(f"{reason}: {', '.join(names)}")
    untested = networks.index[networks["corrupted"].isna()]
    if len(cells) and len(untested):
        parts.append(f"not tested on corruptions: {', '.join(untested)}")
    diverged = [name for name, facts in manifest["subjects"].items() if facts["diverged"]]
    if diverged:
        parts.append(f"diverged in training: {', '.join(diverged)}")
    return "; ".join(parts) + "."


def _text(row: pd.Series, name: str) -> str:
    """Write a quantity for people: "97.1 ± 0.4"; "-" where it is missing."""
    column = COLUMNS[name]
    value, interval = row[name] * column.factor, row[f"{name}_interval"] * column.factor
    if np.isnan(value):
        return "-"
    text = f"{value:.{column.decimals}f}"
    if np.isnan(interval) or not column.interval:
        return text
    return f"{text} ± {interval:.{column.decimals}f}"


def _present(table: pd.DataFrame) -> list[str]:
    return [name for name in COLUMNS if table[name].notna().any()]


def _lines(board: Leaderboard, names: list[str]) -> Iterator[list[str]]:
    for _, row in board.table.iterrows():
        yield [
            row["subject"],
            str(row["networks"]),
            *(_text(row, name) for name in names),
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
            table.add_column(heading, justify="right", overflow="fold")
        for line in _lines(board, names):
            table.add_row(*map(Text, line))
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
        body = [heads, *_lines(board, names)]
        lines = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in body]
        rules = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        begin = rf"\begin{{tabular}}{{{'r' * len(heads)}}}"
        tables.append(
            "\n".join([f"% {board.study}: {board.caption}", begin, *rules, r"\end{tabular}"]) + "\n"
        )
    return "\n".join(tables)


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "%&#_{}$" else c) for c in text).replace(
        "±", r"$\pm$"
    )


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}
