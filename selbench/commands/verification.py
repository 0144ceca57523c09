"""Verifies a store: every file against its digest, and the tables against the cells.

Nothing is repaired by guessing: damaged files are removed, and the command that made them makes
them again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selbench._kit.errors import UNLIKE, DamagedError, SelbenchError
from selbench._kit.files import cannot_write
from selbench._kit.locks import Holder
from selbench._kit.places import read_all
from selbench.commands.cached import Fault
from selbench.store import (
    CELL,
    FORMAT,
    MARK,
    MEASURED,
    Cell,
    StudyStore,
    adversarials,
    failures,
    packs,
    parts,
    write_mark,
)
from selbench.store.manifest import COMPLETE
from selbench.store.records import (
    CellFile,
    is_current,
    outcomes_in,
    parse_cells,
    read_files,
    read_outcomes,
    sha256,
)
from selbench.store.tidy import find_tidy, read_tidy


@dataclass
class Findings:
    """Results of checking a study's files.

    Attributes:
        store: the study's store.
        files: number of files checked.
        unsigned: how many of them come from a version without digests: they can be read, but not
            verified.
        faults: the problems found.
        earlier: names of files of cells in an earlier version's format.
        parts: files of finished chunks of images.
        served: keys of attacks that are finished on all images.
        busy: holders of the study's locks.
    """

    store: StudyStore
    files: int = 0
    unsigned: int = 0
    earlier: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    busy: list[Holder] = field(default_factory=list)


def studies_at(place: Path) -> list[StudyStore]:
    """Return the studies in a store's folder, or the one in this folder, finished or not.

    Raises:
        SelbenchError: if there are none.
    """
    folder = place.resolve() if place.name in ("", "..") else place
    if _is_study(folder):
        return [StudyStore(folder.parent, folder.name)]
    found = sorted(each for each in folder.glob("*") if _is_study(each))
    if not found:
        raise SelbenchError(f"there are no results in {place}; name the folder of a store")
    return [StudyStore(folder, each.name) for each in found]


def verify(store: StudyStore) -> Findings:
    """Check every file of a study's results."""
    return store.steadily(lambda paths: _checked(store, paths))


def _checked(store: StudyStore, cells: Sequence[Path]) -> Findings:
    findings = Findings(store)
    findings.busy = _at_work(store)
    findings.faults += _of_cells(findings, cells)
    findings.faults += _of_adversarials(findings)
    findings.faults += _of_parts(findings)
    findings.faults += _of_failures(findings)
    findings.faults += _of_tables(findings)
    findings.busy = findings.busy or _at_work(store)  # the checks may take minutes
    if not findings.busy:  # files of a running process look like leftovers
        findings.faults += _left_behind(findings, {path.stem for path in cells})
    return findings


def repair(findings: Findings) -> list[Fault]:
    """Remove damaged files and leftovers, and write the tables of the remaining cells.

    Returns:
        what no command can make again: tables without cells.

    Raises:
        SelbenchError: while a run is active there, or for a file outside the store, where a link
            may lead.
    """
    store = findings.store
    _refuse_busy(findings)
    for path in dict.fromkeys(path for each in findings.faults for path in each.remove):
        if not path.parent.resolve().is_relative_to(store.root.resolve()):
            raise SelbenchError(f"{path} lies outside of {store.root}; remove it yourself")
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise cannot_write(path, problem) from problem
    lost = any(each.remove and not each.harmless for each in findings.faults)
    if findings.faults and store.finished and store.begun:
        _finish(store, lost)
    elif lost and store.finished:
        store.lacks()
    return [each for each in findings.faults if not (each.remove or store.begun)]


def migrate(checked: Sequence[Findings]) -> None:
    """Convert a store to the present format; all its studies must be checked and undamaged.

    The store stays readable throughout. The mark is written first: versions that know only the
    earlier format refuse the store from then on.

    Raises:
        SelbenchError: while a run is active there, or for a folder that is no store.
    """
    root = checked[0].store.root
    if not (root / "selbench.json").is_file():
        raise SelbenchError(f"{root} is no store of runs; tables in it are read as they are")
    for findings in checked:
        _refuse_busy(findings)
    write_mark(root)
    for findings in checked:
        store = findings.store
        if store.begun:
            store.pack(findings.earlier)
            if store.finished and (findings.earlier or store.format != FORMAT):
                _finish(store, lost=bool(store.failed()))


def _finish(store: StudyStore, lost: bool) -> None:
    """Write the tables of a study whose latest run has ended."""
    manifest = store.manifest()
    store.finish(manifest, manifest.get("state", COMPLETE) == COMPLETE and not lost)


def _refuse_busy(findings: Findings) -> None:
    store = findings.store
    if busy := findings.busy or _at_work(store):
        raise SelbenchError(
            f"{busy[0]} is at work in {store.folder}; repair it when that has ended, or "
            f"remove {store.locks.folder} if it has"
        )


def _at_work(store: StudyStore) -> list[Holder]:
    return list(store.locks.held_by_others().values())


def _is_study(folder: Path) -> bool:
    return (folder / MARK).is_file() or (folder / "cells").is_dir()


def _of_cells(findings: Findings, paths: Sequence[Path]) -> Iterator[Fault]:
    """Yield the problems of files of cells and their outcomes."""
    files = []
    for path, text, size in read_files(paths):
        findings.files += 1
        try:
            kept = parse_cells(path, text, size)
        except DamagedError as problem:
            yield Fault(path, _reason(problem), (path, path.with_suffix(".parquet")))
            continue
        findings.unsigned += kept.digest is None
        findings.files += kept.has_outcomes
        findings.earlier += [] if is_current(text) else [path.name]
        files.append(kept)
    findings.served = parts.served(Cell(**record.cell) for kept in files for record in kept.cells)
    yield from _of_contents(files, findings.busy)


def _of_contents(files: Sequence[CellFile], busy: Collection[Holder]) -> Iterator[Fault]:
    """Yield the problems in the content of files of cells that can be parsed."""
    waste = packs.needless({kept.path.name: kept.keys for kept in files if kept.complete})
    tested = []
    for kept in files:
        if any(Cell(**record.cell).key != record.key for record in kept.cells):
            flaw = "a cell in it does not match its key"
            yield Fault(kept.path, flaw, (kept.path, kept.parquet))
        elif kept.path.name in waste and not busy:
            flaw = "its cells are in another file too"
            yield Fault(kept.path, flaw, (kept.path, kept.parquet), harmless=True)
        elif kept.has_outcomes:
            tested.append(kept)
    yield from _of_outcomes(tested)


def _of_outcomes(tested: Sequence[CellFile]) -> Iterator[Fault]:
    """Yield the problems of the outcomes of undamaged files of cells."""
    contents = read_outcomes([kept for kept in tested if kept.size is not None])
    for kept in tested:
        missing = kept.size is None
        if flaw := "it is missing" if missing else _flaw_of_outcomes(kept, next(contents)):
            yield Fault(kept.parquet, flaw, (kept.path, kept.parquet))


def _flaw_of_outcomes(kept: CellFile, content: bytes) -> str:
    if kept.outcomes is not None:
        return "" if kept.outcomes.sha256 == sha256(content) else UNLIKE
    try:
        keys = {*outcomes_in(kept, content, None)["key"].unique().to_pylist()}
    except DamagedError as problem:
        return _reason(problem)
    lacks = {*kept.keys} - keys
    return f"it lacks the outcomes of {len(lacks)} cells" if lacks else ""


def _of_adversarials(findings: Findings) -> Iterator[Fault]:
    for path in sorted((findings.store.folder / adversarials.FOLDER).glob("*.safetensors")):
        findings.files += 1
        if problem := adversarials.flaw(path):
            yield Fault(path, problem, (path,))


def _of_parts(findings: Findings) -> Iterator[Fault]:
    """Yield the problems of finished chunks of images."""
    for path in findings.store.parts.files():
        findings.files += 1
        findings.parts.append(path)
        try:
            parts.parse_part(path)
        except ValueError as problem:
            yield Fault(path, str(problem), (path,))


def _of_failures(findings: Findings) -> Iterator[Fault]:
    folder = findings.store.folder / failures.FOLDER
    paths = [folder / f"{key}.json" for key in sorted(failures.failed_keys(folder))]
    for path, text in zip(paths, read_all(paths), strict=True):
        findings.files += 1
        try:
            failures.parse_failure(path, text)
        except DamagedError as problem:
            yield Fault(path, _reason(problem), (path,))


def _of_tables(findings: Findings) -> Iterator[Fault]:
    """Yield the problems of the manifest, and of the table of measurements."""
    store, path = findings.store, findings.store.folder / MARK
    manifest: dict[str, Any] = {}
    if store.finished:
        findings.files += 1
        try:
            manifest = store.manifest()
        except DamagedError as problem:
            yield Fault(path, _reason(problem), (path,))
    table = find_tidy(store.folder)
    if table is None:
        if store.finished and ("measurements" in manifest or "state" not in manifest):
            yield Fault(store.folder / "measurements.csv", "it is missing")
        return
    findings.files += 1
    digest, undamaged = manifest.get("measurements"), not findings.faults
    current = store.begun and undamaged and manifest.get("cells") == store.state["cells"]
    if table.suffix == ".csv" and digest is not None and digest != sha256(table.read_bytes()):
        yield Fault(table, UNLIKE)
    elif not (current and digest) and (flaw := _flaw_of_table(store, table, digest, undamaged)):
        # Newer cells or another version's table: undamaged cells give a new one.
        yield Fault(table, flaw, harmless=store.begun and undamaged and not current)


def _flaw_of_table(store: StudyStore, table: Path, digest: str | None, comparable: bool) -> str:
    """Return what is wrong with the measurements; `digest` is the one in the manifest.

    `comparable`: compare them with the cells, which are undamaged.
    """
    try:
        packed = table.suffix != ".csv"  # a CSV file's digest was compared before
        rows = read_tidy(table, [*CELL, *MEASURED], digest if packed else None)
    except DamagedError as problem:
        return _reason(problem)
    if not (store.begun and comparable):
        return ""
    made = store.measurements()
    if rows.to_csv(index=False) == made.to_csv(index=False):
        return ""
    return "it differs from the cells; the same run updates it"


def _left_behind(findings: Findings, known: Collection[str]) -> Iterator[Fault]:
    """Yield leftovers of interrupted runs; no command reads or waits for them.

    `known`: names of the files of cells, without suffix.
    """
    store = findings.store
    temporary = [*store.folder.rglob(".*.tmp"), *store.root.glob(".selbench.json.*.tmp")]
    for path in sorted(temporary):
        yield Fault(path, "a run was interrupted while writing it", (path,), harmless=True)
    for path in sorted((store.folder / "cells").glob("*.parquet")):
        if path.stem not in known:
            yield Fault(
                path, "a run was interrupted before it wrote the cells", (path,), harmless=True
            )
    for path in parts.of(findings.parts, findings.served):
        yield Fault(path, "its work is finished", (path,), harmless=True)
    for path in sorted(store.locks.folder.glob("*.lock")):
        yield Fault(path, "the run that held it has ended", (path,), harmless=True)


def _reason(problem: DamagedError) -> str:
    return f"it is damaged ({problem.reason})"
