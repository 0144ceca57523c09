"""Text that people wrote, such as names of files, inside of formats: it is shown as it is."""

import re

from selbench._kit.printable import printable


def markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is, on one line."""
    line = printable(" ".join(text.split()))
    entities = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]~])", r"\\\1", entities)


def latex(text: str) -> str:
    """Write text so that LaTeX sets it as it is."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # as the first of a line it would be an argument of the line break before
        "*": "{*}",
        "±": r"$\pm$",
    }
    return "".join(special.get(c, "\\" + c if c in "%&#_{}$" else c) for c in text)
