"""The results of one study: its cells, and the tables made from them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from torch import Tensor

from selbench._kit.errors import DamagedError, MissingOutcomesError, SelbenchError
from selbench._kit.files import fingerprint, read_json, write_json, write_text
from selbench._kit.locks import Locks
from selbench._kit.outputs import check_folder
from selbench.store import adversarials, failures, packs, parts
from selbench.store.cells import CELL, MEASURED, Cell, Failure, Result
from selbench.store.manifest import COMPLETE, INCOMPLETE, RUNNING, read_manifest, write_manifest
from selbench.store.parts import Parts
from selbench.store.records import (
    CellFile,
    Record,
    cell_files,
    outcomes_in,
    parse_cells,
    read_files,
    read_outcomes,
    sha256,
    without_doubles,
    write_cells,
)
from selbench.store.schema import Made
from selbench.store.tidy import AGAIN, csv_of, find_tidy, read_tidy, tidy

FORMAT = 3
READ = (2, FORMAT)  # formats that can be read
FINISH = "finish"  # the lock for writing tables
T = TypeVar("T")
MEASUREMENTS = "measurements.csv"
MARK = "manifest.json"  # marks a folder with the results of a study


class StudyStore:
    """The results of one study.

    Args:
        root: the store's folder or URL.
        study: the study's name.
        made: how results are made (device, versions, command), stored with them.

    Attributes:
        tolerant: whether damaged files are left out instead of raising an error.
        left_out: why files were left out, by path.
        only: the networks to read; None for all.
    """

    def __init__(self, root: Path, study: str, made: dict[str, Any] | None = None) -> None:
        self.study = study
        self._made = made or {}
        self.folder = root / study
        self._cells = self.folder / "cells"
        self._failed = self.folder / failures.FOLDER
        self._complete: dict[str, tuple[frozenset[str], str]] = {}  # keys and digests, by file
        self._leave: Callable[[], None] | None = None  # while this run is working: ends its lock
        self.root = root
        self.tolerant = False
        self.left_out: dict[Path, DamagedError] = {}
        self.only: frozenset[str] | None = None

    @property
    def finished(self) -> bool:
        """Whether there is a manifest: a run ended or started here."""
        return (self.folder / MARK).is_file()

    @property
    def format(self) -> int:
        """The format of the results, by the facts in the manifest."""
        return FORMAT if "state" in self.manifest() else READ[0]

    @property
    def begun(self) -> bool:
        """Whether there are cells that a run can resume from, not only tables."""
        return bool(cell_files(self._cells))

    @property
    def locks(self) -> Locks:
        """The locks that keep two runs from the same work."""
        return Locks(self.folder / "locks")

    def prepare(self) -> None:
        """Mark the folder as a store.

        Raises:
            SelbenchError: if it cannot be written or read, and if a user's files have the names of
                the study's files.
        """
        check_place(self.root)
        if self.finished:
            self.manifest()
        elif (self.folder / MEASUREMENTS).is_file():
            read_tidy(self.folder / MEASUREMENTS, [*CELL, *MEASURED])
        if not (self.root / "selbench.json").is_file():  # a complete store is not changed
            write_mark(self.root)

    def keys(self) -> set[str]:
        """Return the keys of all evaluated cells, except those in incomplete files.

        Later calls only read new files.
        """
        paths = cell_files(self._cells)
        names, known = {path.name for path in paths}, {*self._complete}
        if known and names > known:
            try:
                self._look(paths)
            except SelbenchError:
                self.steadily(self._look)
        elif names != known:  # files were packed, perhaps during the listing
            self.steadily(self._look, paths)
        return set().union(*(keys for keys, _ in self._complete.values()))

    def _look(self, paths: Sequence[Path]) -> None:
        """Read the keys of the cells in new files."""
        for each in read_files([path for path in paths if path.name not in self._complete]):
            if (kept := parse_cells(*each)).complete:
                self._complete[kept.path.name] = (frozenset(kept.keys), kept.digest or "")
        names = {path.name for path in paths}
        self._complete = {name: each for name, each in self._complete.items() if name in names}

    def steadily(
        self, read: Callable[[Sequence[Path]], T], listed: Sequence[Path] | None = None
    ) -> T:
        """Return the result of `read` for the files of cells, `listed` or all.

        It starts again if another run packs files in the meantime.
        """
        paths = cell_files(self._cells) if listed is None else listed
        while True:
            problem = None
            try:
                found = read(paths)
            except SelbenchError as error:
                problem = error
            before, paths = paths, cell_files(self._cells)
            if problem is None and packs.packs_in(before) == packs.packs_in(paths):
                return found
            if problem is not None and {*paths}.issuperset(before):
                raise problem

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None:
        """Write cells that were evaluated together; `outcomes` are their rows, if any."""
        path = write_cells(self._cells, results, outcomes, self._made)
        self._complete.pop(path.name, None)
        self.forget(result.cell.key for result in results)

    def fail(self, failed: Sequence[Failure]) -> None:
        """Write which cells could not be evaluated, and why."""
        failures.write_failures(self._failed, failed, self._made)

    def failed(self) -> set[str]:
        """Return the keys of cells that failed and were not evaluated later."""
        return failures.failed_keys(self._failed)

    def failures(self, keys: Collection[str]) -> list[Failure]:
        """Return the failures among the cells with these keys."""
        return failures.read_failures(self._failed, keys)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the failures of cells, so that they are evaluated again."""
        failures.forget(self._failed, keys)

    @property
    def parts(self) -> Parts:
        """The finished chunks of unfinished work."""
        return Parts(self.folder / parts.FOLDER)

    def saved(self, cell: Cell) -> int:
        """Return the number of images with stored adversarials, by a cell of the attack."""
        return adversarials.count(adversarials.path_of(self.folder, cell))

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None:
        """Write adversarials of an attack, named by one of its cells."""
        adversarials.write_adversarials(self.folder, cell, tensors)

    def measurements(self) -> pd.DataFrame:
        """Return every measurement, one row each: the cell's columns, and those of `MEASURED`.

        Without cells, they are read from `measurements.csv` (or `.csv.gz`, `.parquet`), if it
        exists: such a folder holds results to show, which no run can resume.

        Raises:
            SelbenchError: if a file is damaged, or the one that the manifest names is missing.
        """
        columns = [*CELL, *MEASURED]
        if not self.begun:
            digest = self.manifest().get("measurements") if self.finished else None
            if (kept := find_tidy(self.folder)) is not None:
                return read_tidy(kept, columns, digest)
            if digest is not None:
                raise SelbenchError(f"{self.folder / MEASUREMENTS} is missing; {AGAIN}")
        rows = [
            record.cell | measurement
            for record in self._records()
            for measurement in record.measurements
        ]
        if self.left_out and not rows:
            raise next(iter(self.left_out.values()))
        return tidy(rows, columns)

    def cells(self) -> pd.DataFrame:
        """Return all evaluated cells, one row each: the `key`, and the cell's columns."""
        return tidy([{"key": each.key} | each.cell for each in self._records()], ["key", *CELL])

    def keys_of_cells(self) -> dict[tuple[Any, ...], str]:
        """Return the keys of all evaluated cells, by the values of the cells' columns."""
        return {tuple(map(each.cell.get, CELL)): each.key for each in self._records()}

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table:
        """Return the outcomes of the cells with these keys, or of all; a row per example.

        Columns: key (of the cell), example (position in the test set), label, prediction,
        confidence (its probability), margin (logit of the label minus the largest other logit),
        loss (cross-entropy) and brier (score, summed over classes), which is missing if an earlier
        version evaluated the cell.

        Raises:
            SelbenchError: if outcomes of one of `keys` are missing.
        """
        table = self.steadily(lambda paths: self._outcomes(paths, keys))
        if keys is not None:
            lacking = set(keys) - set(table["key"].unique().to_pylist())
            if lacking:
                raise MissingOutcomesError(
                    f"{self._cells} lacks the outcomes of {len(lacking)} of the {len(set(keys))} "
                    "requested cells; run the same command again, with --retry-failed if it "
                    "reports failed cells"
                )
        return table

    @contextmanager
    def begin(self, facts: dict[str, Any]) -> Iterator[None]:
        """Mark the manifest as running, until `finish` or the end of the block.

        `facts` are those for `finish`; those on tables and cells are left out until then.
        """
        locks, name = self.locks, f"run-{token_hex(4)}"
        locks.take(name)
        self._leave = partial(locks.release, name)
        try:
            self._running(facts)
            yield
        finally:
            self._left()

    @property
    def shared(self) -> bool:
        """Whether other runs are working here."""
        return bool({*self.locks.held_by_others()} - {FINISH})

    @property
    def cut_off(self) -> bool:
        """Whether the latest run was interrupted, and none is working."""
        return self.manifest().get("state") == RUNNING and not self.shared

    def finish(self, manifest: dict[str, Any], complete: bool = True) -> None:
        """Pack the cells, and write `measurements.csv` and then the manifest.

        The caller must hold the lock `FINISH`. While other runs work, the state stays theirs.

        Args:
            manifest: the facts that the tables need.
            complete: whether all requested cells exist.
        """
        self._left()  # before another run can check who is working
        shared = self.shared
        self.pack()
        if not shared:
            packs.remove_lone_outcomes(self._cells)
        content, table = self.state, csv_of(self.measurements()).encode()
        content["measurements"] = sha256(table)
        content["state"] = RUNNING if shared else COMPLETE if complete else INCOMPLETE
        path = self.folder / MEASUREMENTS
        if not (path.is_file() and path.read_bytes() == table):
            if self.finished:  # so a kill in between leaves no table that differs from the manifest
                self._running(manifest)
            write_text(path, table.decode())
        write_manifest(self.folder / MARK, manifest | content)

    def _running(self, facts: dict[str, Any]) -> None:
        known = {name: facts[name] for name in facts if name not in ("cells", "measurements")}
        write_manifest(self.folder / MARK, known | {"state": RUNNING})

    def lacks(self) -> None:
        """Mark the manifest, if there is one, as lacking cells; tables do not change."""
        if self.finished:
            write_manifest(self.folder / MARK, self.manifest() | {"state": INCOMPLETE})

    def _left(self) -> None:
        """End the lock of this run, if it has one."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def pack(self, chosen: Collection[str] = ()) -> None:
        """Pack small files of cells, and in any case those with names in `chosen`."""
        self.keys()
        keys = {name: file_keys for name, (file_keys, _) in self._complete.items()}
        waste = packs.needless(keys)
        known = set().union(*keys.values())
        waste += [each.path.name for each in self._files(but=keys) if known.issuperset(each.keys)]
        packs.remove([self._cells / name for name in waste])
        paths = [self._cells / name for name in keys if name not in waste]
        for group in packs.due(packs.weights_of(paths), chosen):
            found = self._parsed([self._cells / name for name in group])
            packs.remove(packs.write_pack(self._cells, found))

    @property
    def state(self) -> dict[str, str]:
        """A hash of the cells in the store: it changes with every cell that is written."""
        self.keys()
        return {
            "cells": fingerprint({name: digest for name, (_, digest) in self._complete.items()})
        }

    def written(self) -> Iterator[tuple[Made, int]]:
        """Yield how each writer made its cells, and in how many files."""
        for kept in self._files():
            yield from ((writer.made, writer.files) for writer in kept.writers)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the latest run; raise `SelbenchError` if it is damaged."""
        content = read_manifest(self.folder / MARK)
        if self.only is not None:
            subjects = {n: f for n, f in content["subjects"].items() if n in self.only}
            content["subjects"] = subjects
        return content

    def _outcomes(self, paths: Sequence[Path], keys: Collection[str] | None) -> pa.Table:
        """Return the outcomes of the cells with these keys; None for all."""
        chosen: dict[CellFile, set[str] | None] = {}  # keys in each file; None for all of it
        for kept, records in without_doubles(self._parsed(paths)):
            file_keys = {record.key for record in records}
            wanted = file_keys if keys is None else file_keys.intersection(keys)
            if wanted and kept.size is not None:
                chosen[kept] = None if len(wanted) == len(kept.cells) else wanted
        contents = zip(chosen.items(), read_outcomes([*chosen]), strict=True)
        tables = []
        for (kept, some), content in contents:
            with self._leaving_out(kept.parquet):
                tables.append(outcomes_in(kept, content, some))
        return pa.concat_tables(tables or [pa.table({"key": []})], promote_options="default")

    def _records(self) -> Iterator[Record]:
        """Yield the content of all files of cells; repeated cells only once."""
        return (record for _, records in without_doubles(self._files()) for record in records)

    def _files(self, but: Collection[str] = ()) -> list[CellFile]:
        """Return the content of the files of cells, except those of some names."""
        return self.steadily(lambda paths: self._parsed([p for p in paths if p.name not in but]))

    def _parsed(self, paths: Sequence[Path]) -> list[CellFile]:
        found = []
        for path, text, size in read_files(paths):
            with self._leaving_out(path):
                found.append(parse_cells(path, text, size))
        return found

    @contextmanager
    def _leaving_out(self, path: Path) -> Iterator[None]:
        try:
            yield
        except DamagedError as problem:
            if not self.tolerant:
                raise
            self.left_out[path] = problem


def check_place(root: Path) -> None:
    """Raise `SelbenchError` unless a folder is a store for runs, or can become one."""
    if not (root / "selbench.json").is_file():
        check_folder(root, "--store")
    check_format(root, FORMAT)


def write_mark(root: Path) -> None:
    """Mark a folder as a store with its format."""
    write_json(root / "selbench.json", {"format": FORMAT})


def check_format(root: Path, *wanted: int) -> None:
    """Raise `SelbenchError` if a store has another format than the accepted ones."""
    marker = root / "selbench.json"
    if not marker.exists():
        return
    content = read_json(marker)
    found = content.get("format") if isinstance(content, dict) else None
    if found in READ and found not in (wanted or READ):
        raise SelbenchError(
            f"the store {root} has format {found}, which tables are made of but runs do not go on "
            f"with; give it format {FORMAT} with `selbench verify {root} --migrate`"
        )
    if found not in READ:
        raise SelbenchError(
            f"the store {root} has format {found!s:.40}, this version of selbench reads format "
            f"{READ[0]} and {FORMAT}; use the version that wrote it, or another folder with --store"
        )
