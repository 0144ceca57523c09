"""Makes text from files and networks safe to show on terminals, in logs and in spreadsheets."""

import html
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence

UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, writing directions, surrogates, line ends
STARTS = (*"=+-@＝＋－＠", "\t", "\r", "\n")  # noqa: RUF001  # of what spreadsheets compute
NUMBER = re.compile(r"[+-]([\d.]+(e[+-]?\d+)?)?", re.ASCII)  # a number or a sign alone
QUOTE = "'"  # put before a text that would be a formula


def printable(text: str) -> str:
    r"""Return text on one line of visible characters, with others as Python escapes: "\x1b".

    On GitHub no part of it can be a workflow command, even if the line is wrapped.
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
    """Escape text so that Markdown shows it unchanged on one line; `also`: more signs to escape."""
    line = html.escape(printable(" ".join(text.split())), quote=False)
    return re.sub(rf"([\\`*_|\[\]~{also}])", r"\\\1", line)


def markdown_table(
    heads: Sequence[str], rules: Sequence[str], lines: Iterable[Sequence[str]], also: str = ""
) -> str:
    """Write a table; cells are escaped, but `heads` and `rules` (such as "---:") are not."""
    cells = ([markdown(cell, also) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rules, *cells])


def no_formula(text: str) -> str:
    """Return text as a spreadsheet cell: numbers stay, a formula gets a quote in front."""
    return QUOTE + text if _is_formula(text.lstrip(QUOTE)) else text


def from_cell(text: str) -> str:
    """Return the text behind a cell of `no_formula`."""
    quoted = text.startswith(QUOTE) and _is_formula(text.lstrip(QUOTE))
    return text.removeprefix(QUOTE) if quoted else text


def _is_formula(text: str) -> bool:
    return text.startswith(STARTS) and not NUMBER.fullmatch(text)
