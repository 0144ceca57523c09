"""Text of files and networks on its way to people: it steers no terminal, log or spreadsheet."""

import html
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence

UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, directions of writing, half characters, lines
STARTS = (*"=+-@＝＋－＠", "\t", "\r", "\n")  # noqa: RUF001  # of what spreadsheets compute
NUMBER = re.compile(r"[+-]([\d.]+(e[+-]?\d+)?)?", re.ASCII)  # or the sign alone
QUOTE = "'"  # before a text that would be one


def printable(text: str) -> str:
    r"""Write a text on one line of visible characters; what is none as Python does: "\x1b".

    In jobs of GitHub nothing in it is a workflow command, wherever a line is broken.
    """
    line = "".join(_escaped(sign) for sign in text)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        line = line.replace("::", r"\x3a:").replace("##[", r"\x23#[")
    return line


def _escaped(sign: str) -> str:
    if sign.isprintable() or unicodedata.category(sign) not in UNSEEN:
        return sign
    return sign.encode("unicode_escape").decode()


def markdown(text: str, also: str = "") -> str:
    """Write text so that Markdown, with signs of its own in `also`, shows it as it is on a line."""
    line = html.escape(printable(" ".join(text.split())), quote=False)
    return re.sub(rf"([\\`*_|\[\]~{also}])", r"\\\1", line)


def markdown_table(
    heads: Sequence[str], rules: Sequence[str], lines: Iterable[Sequence[str]], also: str = ""
) -> str:
    """Write a table whose cells are text, under heads and rules such as "---:" that are not."""
    cells = ([markdown(cell, also) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rules, *cells])


def no_formula(text: str) -> str:
    """Return a text as a cell of a spreadsheet: numbers stay, a formula gets a quote before it."""
    return QUOTE + text if _is_formula(text.lstrip(QUOTE)) else text


def from_cell(text: str) -> str:
    """Return the text that `no_formula` made a cell of."""
    quoted = text.startswith(QUOTE) and _is_formula(text.lstrip(QUOTE))
    return text.removeprefix(QUOTE) if quoted else text


def _is_formula(text: str) -> bool:
    return text.startswith(STARTS) and not NUMBER.fullmatch(text)
