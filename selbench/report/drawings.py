"""The report's figures: wide and narrow, in words, and where a store lacks one, what makes it."""

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench._kit.files import replacing, write_text
from selbench._kit.progress import Step, quiet
from selbench.figures import FIGURES
from selbench.figures.in_words import Numbers, described, numbers
from selbench.figures.narrow import narrow
from selbench.figures.style import drawn, save
from selbench.metrics import RowFilter
from selbench.report.evidence import Evidence
from selbench.report.legends import LEGENDS, Legend, legend_of
from selbench.store.tidy import csv_of
from selbench.suites import METRICS

FOLDER = "figures"
FONTS = re.compile(r"(font-family: |font: [^;']*)'[^;\"]*sans-serif")
POINT = 96 / 72  # CSS pixels
FACTS = ["subject", "alpha", "seed", "suite", "condition", "level", "layer"]
MOST = 20_000  # rows of a figure's own table; the table of all measurements has more
COLUMNS = [*FACTS, "metric", "value", "n"]


@dataclass(frozen=True)
class Image:
    """A picture beside the page: its path from there, and its size in CSS pixels."""

    path: str
    width: int
    height: int


@dataclass(frozen=True)
class Drawing:
    """A figure of the report, or why it is not there.

    Attributes:
        name: in `FIGURES`.
        legend: its heading, and how to read it.
        command: what draws it; where it is missing, what measures what it lacks.
        words: what it shows; where it is missing, what is not there.
        wide, narrow: for screens and for phones; None where it is missing.
        files: further files by their kind.
        panels: the numbers of its lines.
    """

    name: str
    legend: Legend
    command: str
    words: str
    wide: Image | None = None
    narrow: Image | None = None
    files: dict[str, str] = field(default_factory=dict)
    panels: list[Numbers] = field(default_factory=list)


def drawings(evidence: Evidence, folder: Path, step: Step = quiet) -> dict[str, list[Drawing]]:
    """Draw all of `FIGURES` into `folder`/figures; return them by the page they belong to."""
    pages: dict[str, list[Drawing]] = {}
    for name in sorted(FIGURES, key=_order):
        made = _drawing(evidence, name, folder)
        step(1, f"{evidence.study}: {name}")
        pages.setdefault(made.legend.page, []).append(made)
    return pages


def _order(name: str) -> tuple[int, str]:
    order = list(LEGENDS)
    return order.index(name) if name in order else len(order), name


def _drawing(evidence: Evidence, name: str, folder: Path) -> Drawing:
    legend = legend_of(name, FIGURES[name].__doc__ or "")
    rows = behind(evidence.rows, name, legend)
    known = name in LEGENDS  # what else another figure may draw is not known
    try:
        figure = drawn(
            name,
            _with_every_network(rows, evidence.rows) if known else evidence.rows,
            evidence.study,
        )
    except UnmeasuredError as problem:
        return Drawing(name, legend, evidence.making(words=problem.words), _sentence(problem))
    except SelbenchError as problem:
        return Drawing(name, legend, "", _sentence(problem))
    words, panels = described(figure), numbers(figure)
    wide, phone, table = (f"{FOLDER}/{name}{end}" for end in (".svg", "-narrow.svg", ".csv.gz"))
    save(figure, folder / wide)
    save(narrow(figure), folder / phone, trim=False)
    for path in (wide, phone):
        shorten(folder / path)
    files = {"SVG": wide}
    if len(rows) <= MOST:
        files["CSV"] = table
        with replacing(folder / table, "--output") as temporary:
            temporary.write_bytes(gzip.compress(csv_of(rows[COLUMNS]).encode(), 6, mtime=0))
    command = evidence.command("figure", name, evidence.study, "--output", f"{name}.svg")
    pictures = _image(folder, wide), _image(folder, phone)
    return Drawing(name, legend, command, words, *pictures, files, panels)


def _with_every_network(rows: pd.DataFrame, all_rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows and one of each other network: colours are those of all networks."""
    others = all_rows[~all_rows["subject"].isin(rows["subject"].unique())]
    return pd.concat([rows, others.drop_duplicates("subject")])


def _sentence(problem: SelbenchError) -> str:
    text = str(problem)
    return f"{text[0].upper()}{text[1:]}."


def behind(rows: pd.DataFrame, name: str, legend: Legend) -> pd.DataFrame:
    """Return the measurements that a figure is made of; all where that is not known."""
    drawn_here = METRICS.drawn_in(name)
    nulls = [null for metric in drawn_here if (null := METRICS.null_of(metric))]
    reads = [each.reads for each in (*drawn_here, *nulls)]
    reads += [RowFilter((each,)) if isinstance(each, str) else each for each in legend.reads]
    if not reads:
        return rows
    suites = {"clean", *(suite for each in reads for suite in each.suites)}
    metrics = {"accuracy", *(each.metric for each in reads)}  # that says what was measured
    read = rows[rows["metric"].isin(metrics)]
    return read[read["suite"].str.removesuffix("-maps").isin(suites)]


def shorten(path: Path) -> None:
    """Leave out of each text of a picture the fonts that it would have but for the first."""
    text = path.read_text(encoding="utf-8")
    write_text(path, FONTS.sub(r"\1sans-serif", text))


def _image(folder: Path, path: str) -> Image:
    head = (folder / path).read_text(encoding="utf-8")[:2000]
    found = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head)
    assert found is not None, path  # matplotlib writes one
    width, height = (round(float(size) * POINT) for size in found.groups())
    return Image(path, width, height)
