"""Leaderboards in the formats that people and programs read."""

import json
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from selbench.explained import MECHANISM
from selbench.leaderboard import (
    ATTACKS,
    COLUMNS,
    FAMILIES,
    MASKING,
    MEDIANS,
    Leaderboard,
)

Lines = list[list[str]]  # of a table, its headings first


def _tables(board: Leaderboard, narrow: bool = False) -> dict[str, Lines]:
    """Return the tables of a leaderboard by their titles: more of them where it is `narrow`."""
    if board.columns:
        return {"": _lines(board.table, [*board.columns], masking=False)}
    others = (*FAMILIES, *ATTACKS, *MEDIANS, *MECHANISM)
    explained = list(MECHANISM)
    main = [name for name in COLUMNS if name not in others]
    if narrow:
        groups = {
            "": main,
            "accuracy by family": [*FAMILIES],
            "attacks": [*ATTACKS],
            "smallest perturbations": [*MEDIANS],
            "dimensionality": explained[:3],
            "gradients and elasticity": explained[3:],
        }
    else:
        groups = {"": [*main, *FAMILIES], "attacks": [*ATTACKS, *MEDIANS], "mechanism": explained}
    tables = {}
    for title, group in groups.items():
        names = [name for name in group if board.table[name].notna().any()]
        if names:
            tables[title] = _lines(board.table, names, masking=MEDIANS[0] in group)
    return tables


def _lines(table: pd.DataFrame, names: list[str], masking: bool) -> Lines:
    masking = masking and bool(table[MASKING].notna().any())
    ranked = "rank" in table
    heads = ["alpha", "n", *(COLUMNS[name].heading for name in names)]
    lines = [[*(["rank"] if ranked else []), *heads, *(["masking flags"] if masking else [])]]
    for _, row in table.iterrows():
        rank = [] if not ranked else ["-" if pd.isna(row["rank"]) else str(row["rank"])]
        line = [row["subject"], str(row["networks"]), *(_text(row, name) for name in names)]
        lines.append([*rank, *line, *([row[MASKING] or "-"] if masking else [])])
    return lines


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


def to_table(board: Leaderboard) -> Group:
    """Render for a terminal, in tables that fit 80 columns."""
    parts: list[Table | Text] = []
    for name, (heads, *lines) in _tables(board, narrow=True).items():
        title = f"{board.study}: {name}" if name else board.study
        look = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
        table = Table(title=title, title_justify="left", box=look, padding=0, show_edge=False)
        for heading in heads:
            table.add_column(heading, justify="right", overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line))
        parts += [table, Text()]
    return Group(*parts, Text(board.caption, style="dim"))


def to_markdown(boards: Sequence[Leaderboard]) -> str:
    """Render as Markdown; equal stores give equal bytes."""
    sections = []
    for board in boards:
        tables = []
        for heads, *lines in _tables(board).values():
            rows = [heads, ["---:"] * len(heads), *lines]
            cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
            tables.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
        sections.append("\n\n".join([f"### {board.study}", *tables, board.caption]) + "\n")
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
    parts = []
    for board in boards:
        for number, body in enumerate(_tables(board).values()):
            lines = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in body]
            rules = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
            begin = rf"\begin{{tabular}}{{{'r' * len(body[0])}}}"
            about = [] if number else [f"% {board.study}: {board.caption}"]
            parts.append("\n".join([*about, begin, *rules, r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "%&#_{}$" else c) for c in text).replace(
        "±", r"$\pm$"
    )


def to_html(boards: Sequence[Leaderboard]) -> str:
    """Render as HTML: a section for each study, to be put into a page; all text is escaped."""
    sections = []
    for board in boards:
        tables = []
        for title, (heads, *lines) in _tables(board).items():
            caption = f"<caption>{escape(title)}</caption>" if title else ""
            head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in line) for line in lines)
            body = "\n".join(f"<tr>{row}</tr>" for row in rows)
            tables.append(
                f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
            )
        parts = [f"<h2>{escape(board.study)}</h2>", *tables, f"<p>{escape(board.caption)}</p>"]
        sections.append("<section>\n" + "\n".join(parts) + "\n</section>\n")
    return "".join(sections)


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}
