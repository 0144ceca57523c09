"""The report's pages: what is on them, and where they are written."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from selbench import __version__
from selbench._kit.errors import SelbenchError
from selbench._kit.files import replacing, write_text
from selbench._kit.progress import SILENT, Progress, Step
from selbench.claims import formats as claims
from selbench.figures import FIGURES
from selbench.report.assets import write_assets
from selbench.report.board import Board, to_boards
from selbench.report.drawings import Drawing, drawings
from selbench.report.evidence import Evidence, gathered
from selbench.report.network_pages import (
    FIRST,
    NetworkPage,
    address_of,
    is_brought,
    network_pages,
    plain,
)
from selbench.report.output_folder import replacing_report
from selbench.report.overview import overview
from selbench.report.provenance import provenance
from selbench.report.samples import adversarial, corrupted
from selbench.store import StudyStore
from selbench.tables import leaderboard
from selbench.tables.calibrated import calibration_board
from selbench.tables.current import data_name, reading_once
from selbench.tables.formats import FORMATS
from selbench.tables.joined import study_names

DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Page:
    """A page of every study: the stem of its file, its title, and its template."""

    name: str
    title: str
    template: str
    text: str = ""


PAGES = (
    Page("index", "Overview", "overview.html"),
    Page("leaderboard", "Leaderboard", "leaderboard.html"),
    Page(
        "corruptions",
        "Corruptions",
        "figures.html",
        "Noise, blur, weather and digital artefacts happen to images on their own: nobody chose "
        "them to fool a network.",
    ),
    Page(
        "attacks",
        "Attacks",
        "figures.html",
        "An adversarial attack searches for the small change of an image that makes one given "
        "network err. What is left is accuracy in the worst case.",
    ),
    Page(
        "mechanism",
        "Mechanism",
        "figures.html",
        "What in the networks moves with alpha, and might explain how robust they are.",
    ),
    Page(
        "calibration",
        "Calibration",
        "figures.html",
        "Whether networks know when they are likely to be wrong.",
    ),
    Page("claims", "Claims", "claims.html"),
    Page("images", "Images", "images.html"),
    Page("provenance", "Provenance", "provenance.html"),
)


@dataclass(frozen=True)
class Download:
    """A file to take away: its path from the page, what it is, and the command that makes it."""

    path: str
    what: str
    command: str


def write_report(
    studies: Sequence[StudyStore],
    output: Path,
    limit: int | None = None,
    data: Path | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write the report of some studies as a static site.

    One study's pages lie in `output` itself; those of several in a folder each, beside an index.

    Args:
        studies: what to report.
        output: a folder: new, empty, or an earlier report, which is replaced as a whole.
        limit: use the cells with so many test images; None takes the most there are.
        data: where the test images lie, where not at the place that the manifest says.
        progress: says how far it is.

    Raises:
        SelbenchError: for a folder that holds anything else, one that cannot be written, and a
            study without results on `limit` images.
    """
    pieces = len(studies) * (2 + len(FIGURES))
    with (
        replacing_report(output) as folder,
        reading_once(),
        progress.track("report", pieces) as step,
    ):
        found = [_gathered(study, limit, step) for study in studies]
        write_assets(folder / "assets")
        if len(found) == 1:
            _write_study(found[0], folder, "", data, step)
            return
        places = [
            f"{number}-{plain(each.study) or 'study'}" for number, each in enumerate(found, 1)
        ]
        networks = [
            _write_study(each, folder / place, "../", data, step)
            for each, place in zip(found, places, strict=True)
        ]
        entries = [(place, each, overview(each)) for place, each in zip(places, found, strict=True)]
        boards, caption = _joined(studies, limit, places, networks)
        content: dict[str, Any] = {"entries": entries, "boards": boards, "caption": caption}
        content |= {"base": "", "pages": [], "study": None, "several": False}
        _write(folder / "index.html", "studies.html", {"title": "Studies", **content})


def _gathered(store: StudyStore, limit: int | None, step: Step) -> Evidence:
    step(0, f"{store.study}: read")
    found = gathered(store, limit)
    step(1, f"{store.study}: draw")
    return found


def _write_study(
    evidence: Evidence, folder: Path, base: str, data: Path | None, step: Step
) -> list[NetworkPage]:
    """Write a study's pages; `base` leads from them to the site's top. Return its networks'."""
    figures = drawings(evidence, folder, step)
    brought, networks = is_brought(evidence), network_pages(evidence)
    pages = (
        _pages_without_alpha(figures)
        if brought
        else [page for page in PAGES if page.template != "figures.html" or page.name in figures]
    )
    content = {
        "evidence": evidence,
        "figures": figures,
        "missing": [each for drawn in figures.values() for each in drawn if not each.wide],
        "overview": overview(evidence),
        "boards": {
            "leaderboard": to_boards(evidence.board, lambda _, row: address_of(row, networks)),
            "calibration": _calibration(evidence, networks),
        },
        "verdicts": evidence.judgement.verdicts,
        "claims": claims,
        "panels": {
            "Corrupted images": corrupted(evidence, folder, data),
            "Adversarial images": adversarial(evidence, folder),
        },
        "provenance": provenance(evidence),
        "networks": networks,
        "pages_by_label": {label: each.path for each in networks for label in each.labels},
        "address_of": address_of,
        "data": data_name(evidence.manifest).removeprefix("folder "),
        "commands": {name: evidence.making(name) for name in ("corruptions", "attacks")},
        "downloads": _downloads(evidence, folder, claimed=not brought),
        "study": evidence.study,
        "several": bool(base),
        "base": base,
        "pages": pages,
    }
    for page in pages:
        about = {"page": page, "title": page.title}
        _write(folder / f"{page.name}.html", page.template, content | about)
    for each in networks:
        if each.path != FIRST:
            about = {"page": None, "title": each.title, "shown": each}
            _write(folder / each.path, "network.html", content | about)
    step(1, f"{evidence.study}: pages")
    return networks


def _pages_without_alpha(figures: Mapping[str, Sequence[Drawing]]) -> list[Page]:
    """Return the pages of networks without an alpha, which no claim is about."""
    first, *others = PAGES
    kept = [
        page
        for page in others
        if page.name != "claims"
        and (
            page.template != "figures.html" or any(each.wide for each in figures.get(page.name, ()))
        )
    ]
    return [replace(first, template="brought.html"), *kept]


def _calibration(evidence: Evidence, networks: Sequence[NetworkPage]) -> dict[str, Board]:
    """Return the tables of calibration; none where the figure says what is missing."""
    try:
        board = calibration_board(evidence.store, evidence.limit)
    except SelbenchError:
        return {}
    return to_boards(board, lambda _, row: address_of(row, networks))


def _joined(
    studies: Sequence[StudyStore],
    limit: int | None,
    places: Sequence[str],
    networks: Sequence[list[NetworkPage]],
) -> tuple[dict[str, Board], str]:
    """Return one leaderboard of all studies, and its caption; or why they cannot be compared."""
    names = study_names(studies)
    known = dict(zip(names, zip(places, networks, strict=True), strict=True))

    def page_of(study: str, row: str) -> str:
        place, pages = known[study]
        page = address_of(row.removeprefix(f"{study}: "), pages)
        return f"{place}/{page}" if page else ""

    try:
        board = leaderboard(studies, limit)
    except SelbenchError as problem:
        return {}, str(problem)
    return to_boards(board, page_of), board.caption


def _downloads(evidence: Evidence, folder: Path, claimed: bool) -> list[Download]:
    """Write the tables as files."""
    made = []
    for kind in ("csv", "json", "md"):
        path = f"{DOWNLOADS}/leaderboard.{kind}"
        write_text(folder / path, FORMATS[kind]([evidence.board]))
        command = evidence.command("leaderboard", evidence.study, "--format", kind)
        made.append(Download(path, "the leaderboard", command))
    for kind, written in claims.FORMATS.items() if claimed else ():
        path = f"{DOWNLOADS}/claims.{kind}"
        write_text(folder / path, written([evidence.judgement]))
        command = evidence.command("claims", evidence.study, "--format", kind)
        made.append(Download(path, "the claims, with their tests and hashes", command))
    path = f"{DOWNLOADS}/measurements.parquet"
    with replacing(folder / path, "--output") as temporary:
        evidence.rows.to_parquet(temporary, index=False, compression="zstd")
    run = shlex.join(["selbench", *evidence.manifest.get("command", ["run", evidence.study])])
    made.append(Download(path, "every measurement that counts, one a row", run))
    return made


def _write(path: Path, template: str, content: dict[str, Any]) -> None:
    """Fill a template; all text is escaped there."""
    made = _templates().get_template(template)
    write_text(path, made.render(version=__version__, **content))


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("selbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
