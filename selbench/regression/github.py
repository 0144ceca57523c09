"""Report a comparison on GitHub: annotations in the log, and the summary of a job."""

import os
from pathlib import Path

from selbench._kit.errors import SelbenchError
from selbench._kit.printable import markdown, markdown_table
from selbench.regression.summary import (
    Report,
    basis,
    cells_of,
    chosen,
    headline,
    sentence,
    xml_text,
)

ALSO = "{}#@:"  # characters of mentions, issues and images on GitHub


def on_github() -> bool:
    """Return whether this process is a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotations(report: Report) -> str:
    """Return workflow commands, one per line: errors for what got worse, else a notice."""
    if not report.failed:
        return f"::notice title=selbench check::{_message(headline(report))}\n"
    worse = [change for change in chosen(report.comparison) if change.verdict == "worse"]
    if not worse:
        return f"::error title={_property('selbench check')}::{_message(headline(report))}\n"
    lines = [
        f"::error title={_property('selbench check')}::{_message(sentence(report, change))}"
        for change in worse
    ]
    return "".join(line + "\n" for line in lines)


def summary(report: Report) -> str:
    """Return the comparison in Markdown, with names as text."""
    heads = ["condition", "then %", "now %", "points [95 %]", "p worse", "verdict"]
    rows = [cells_of(report, change) for change in chosen(report.comparison)]
    text = markdown_table(heads, ["---", *["---:"] * (len(heads) - 1)], rows, ALSO)
    title = "robustness got worse" if report.comparison.worse else "robustness holds"
    title = "the check sees too little" if report.blind and not report.comparison.worse else title
    found = "".join(f"\n{markdown(each, ALSO)}\n" for each in report.findings)
    head = f"## selbench: {title}\n\n{markdown(headline(report), ALSO)}"
    return f"{head}\n\n{text}\n\n{basis(report)}\n{found}"


def append_summary(report: Report) -> None:
    """Append to the job's summary, if there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary(report))
    except OSError as problem:
        raise SelbenchError(
            f"cannot write GITHUB_STEP_SUMMARY {path}: {problem.strerror}; unset it, or free space"
        ) from problem


def _message(text: str) -> str:
    text = xml_text(text).replace("%", "%25")
    return text.replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
