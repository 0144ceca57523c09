"""Formats of leaderboards, for people and programs."""

import json
from collections.abc import Callable, Hashable, Sequence
from html import escape
from io import StringIO
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from selbench._kit.printable import markdown, markdown_table
from selbench.store.tidy import csv_of
from selbench.tables.columns import COLUMNS
from selbench.tables.fitting import USUAL, fitting
from selbench.tables.lines import NETWORK, one_line, tables
from selbench.tables.table import Leaderboard


def to_table(board: Leaderboard, width: int = USUAL) -> Group:
    """Render for a terminal, in tables with lines of up to `width` characters."""
    parts: list[Table | Text] = []
    for name, (heads, *lines) in fitting(board, width):
        study = one_line(board.study)
        title = f"{study}: {name}" if name else study
        look = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
        table = Table(title=title, title_justify="left", box=look, padding=0, show_edge=False)
        for heading in heads:
            left = heading == NETWORK
            table.add_column(heading, justify="left" if left else "right", overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line))
        parts += [table, Text()]
    return Group(*parts, Text(one_line(board.caption), style="dim"))


def to_text(board: Leaderboard, width: int = USUAL) -> str:
    """Render as plain text, like `to_table`."""
    console = Console(width=width, file=StringIO(), color_system=None)
    with console.capture() as printed:
        console.print(to_table(board, width))
    return printed.get().rstrip()


def to_markdown(boards: Sequence[Leaderboard]) -> str:
    """Render as Markdown; names are escaped, and equal stores give equal bytes."""
    sections = []
    for board in boards:
        parts = [
            markdown_table(heads, ["---:"] * len(heads), lines)
            for heads, *lines in tables(board).values()
        ]
        title = f"### {markdown(board.study)}"
        sections.append("\n\n".join([title, *parts, markdown(board.caption)]) + "\n")
    return "\n".join(sections)


def to_csv(boards: Sequence[Leaderboard]) -> str:
    """Render as CSV: full precision, with columns for intervals and numbers of networks."""
    return csv_of(pd.concat([_measured(board.table) for board in boards]))


def to_json(boards: Sequence[Leaderboard]) -> str:
    """Render as JSON: study, caption, notes on columns and rows; full precision, or null."""
    content = [
        {
            "study": board.study,
            "caption": board.caption,
            "notes": dict(board.notes),
            "rows": _records(_measured(board.table)),
        }
        for board in boards
    ]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out rare columns without measurements."""
    names = [name for name, each in COLUMNS.items() if each.rare and name in table]
    empty = [name for name in names if table[name].isna().all()]
    return table.drop(columns=[n for e in empty for n in (e, f"{e}_interval", f"{e}_n")])


def _records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    plain: pd.DataFrame = table.astype(object).where(table.notna(), None)
    return plain.to_dict(orient="records")


def to_latex(boards: Sequence[Leaderboard]) -> str:
    """Render as LaTeX tabulars (package booktabs)."""
    parts = []
    for board in boards:
        for number, body in enumerate(tables(board).values()):
            lines = [" & ".join(latex(cell) for cell in line) + r" \\" for line in body]
            rules = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
            begin = rf"\begin{{tabular}}{{{'r' * len(body[0])}}}"
            about = [] if number else [f"% {one_line(board.study)}: {one_line(board.caption)}"]
            parts.append("\n".join([*about, begin, *rules, r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def to_html(boards: Sequence[Leaderboard]) -> str:
    """Render as HTML: a section for each study, to embed in a page; all text is escaped."""
    sections = []
    for board in boards:
        parts = [f"<h2>{escape(one_line(board.study))}</h2>"]
        for title, (heads, *lines) in tables(board).items():
            caption = f"<caption>{escape(title)}</caption>" if title else ""
            head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in line) for line in lines)
            body = "\n".join(f"<tr>{row}</tr>" for row in rows)
            parts.append(
                f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
            )
        parts.append(f"<p>{escape(one_line(board.caption))}</p>")
        sections.append("<section>\n" + "\n".join(parts) + "\n</section>\n")
    return "".join(sections)


def latex(text: str) -> str:
    """Escape text for LaTeX."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the start of a line it would be an argument of the line break before
        "*": "{*}",
        "±": r"$\pm$",
    }
    return "".join(special.get(c, "\\" + c if c in "%&#_{}$" else c) for c in text)


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}
