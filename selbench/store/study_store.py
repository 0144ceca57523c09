"""The results of one study: what is kept of its cells, and the tables made of them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from torch import Tensor

from selbench.errors import MissingOutcomesError, SelbenchError
from selbench.files import fingerprint, read_json, write_json, write_text
from selbench.locks import Locks
from selbench.store import adversarials, failures
from selbench.store.cells import CELL, MEASURED, Cell, Failure, Result
from selbench.store.manifest import read_manifest
from selbench.store.records import (
    LARGE,
    Kept,
    cell_files,
    parse_cells,
    parse_outcomes,
    read_files,
    sha256,
    write_cells,
)
from selbench.tidy import find_tidy, read_tidy, tidy
from selbench.urls import read_all

FORMAT = 2
MARK = "manifest.json"  # a folder that has it holds the results of a study


class StudyStore:
    """The results of one study.

    Args:
        root: the store's folder, at a URL maybe.
        study: the study's name.
        made: how results come about (device, versions, command), kept beside those written.
    """

    def __init__(self, root: Path, study: str, made: dict[str, Any] | None = None) -> None:
        self.study = study
        self._made = made or {}
        self.folder = root / study
        self._cells = self.folder / "cells"
        self._failed = self.folder / failures.FOLDER
        self._adversarials = self.folder / adversarials.FOLDER
        self._whole: dict[str, tuple[frozenset[str], str]] = {}  # keys and digests, by file
        self.root = root

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here."""
        return (self.folder / MARK).is_file()

    @property
    def begun(self) -> bool:
        """Whether there are cells here that a run goes on with, not tables to be shown alone."""
        return bool(cell_files(self._cells))

    @property
    def locks(self) -> Locks:
        """What keeps two runs from the same work."""
        return Locks(self.folder / "locks")

    def prepare(self) -> None:
        """Mark the folder as a store; one that cannot be written or read is a `SelbenchError`."""
        check_format(self.root)
        marker = self.root / "selbench.json"
        if not marker.is_file():  # so that a store that lacks nothing may be read-only
            write_json(marker, {"format": FORMAT})

    def keys(self) -> set[str]:
        """Return the keys of all cells that were evaluated; those of half files are not among them.

        Asked again, it reads only what was written since.
        """
        paths = cell_files(self._cells)
        fresh = [path for path in paths if path.name not in self._whole]
        for each in read_files(fresh):
            if (kept := parse_cells(*each)).whole:
                keys = frozenset(record["key"] for record in kept.cells)
                self._whole[kept.path.name] = (keys, kept.digest or "")
        names = {path.name for path in paths}
        self._whole = {name: each for name, each in self._whole.items() if name in names}
        return set().union(*(keys for keys, _ in self._whole.values()))

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None:
        """Keep cells that were evaluated together; `outcomes` are the rows behind them, if any."""
        path = write_cells(self._cells, results, outcomes, self._made)
        self._whole.pop(path.name, None)
        self.forget(result.cell.key for result in results)

    def fail(self, failed: Sequence[Failure]) -> None:
        """Keep which cells could not be evaluated, and why."""
        failures.write_failures(self._failed, failed, self._made)

    def failed(self) -> set[str]:
        """Return the keys of the cells that failed, and were not evaluated since."""
        return failures.failed_keys(self._failed)

    def failures(self, keys: Collection[str]) -> list[Failure]:
        """Return why cells failed, of those with these keys that did."""
        return failures.read_failures(self._failed, keys)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is known of cells that failed, so that they are evaluated again."""
        failures.forget(self._failed, keys)

    def saved(self, cell: Cell) -> int:
        """Return of how many images adversarials are kept, told by a cell of the attack."""
        return adversarials.count(adversarials.path_of(self._adversarials, cell))

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None:
        """Keep adversarials of an attack, told by a cell of it."""
        path = adversarials.path_of(self._adversarials, cell)
        adversarials.write_adversarials(path, cell, tensors)

    def measurements(self) -> pd.DataFrame:
        """Return every measurement, one row each: the cell's columns, and those of `MEASURED`.

        Where there are no cells, they are read from `measurements.csv` (or `.csv.gz`), if it is
        there: such a folder holds results to be shown, and none to go on with.
        """
        columns = [*CELL, *MEASURED]
        kept = find_tidy(self.folder)
        if kept is not None and not self.begun:
            return read_tidy(kept, columns)
        rows = [
            {**record["cell"], **measurement}
            for _, records in self._contents()
            for record in records
            for measurement in record["measurements"]
        ]
        return tidy(rows, columns)

    def cells(self) -> pd.DataFrame:
        """Return what was evaluated, one row each: its `key`, and the cell's columns."""
        rows = [
            {"key": record["key"], **record["cell"]}
            for _, records in self._contents()
            for record in records
        ]
        return tidy(rows, ["key", *CELL])

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table:
        """Return the outcomes of the cells with these keys, of all without; a row per example.

        Columns: key (of the cell), example (position in the test set), label, prediction,
        confidence (its probability), margin (logit of the label minus the largest other logit),
        loss (cross-entropy) and brier (score, summed over classes), which is missing where an
        earlier version evaluated the cell.

        Raises:
            SelbenchError: where outcomes of one of `keys` are not there.
        """
        chosen: dict[Path, set[str] | None] = {}  # keys in each file; None for all that it has
        for kept, records in self._contents():
            own = {record["key"] for record in records}
            wanted = own if keys is None else own.intersection(keys)
            if wanted and kept.size is not None:
                chosen[kept.parquet] = None if len(wanted) == len(kept.cells) else wanted
        contents = zip(chosen, read_all([*chosen], LARGE), strict=True)
        tables = [parse_outcomes(path, content, chosen[path]) for path, content in contents]
        table = pa.concat_tables(tables or [pa.table({"key": []})], promote_options="default")
        if keys is not None:
            lacking = set(keys) - set(table["key"].unique().to_pylist())
            if lacking:
                raise MissingOutcomesError(
                    f"{self._cells} lacks the outcomes of {len(lacking)} of the {len(set(keys))} "
                    "cells asked for; run the same command again, with --retry-failed where it "
                    "says that cells failed"
                )
        return table

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write `measurements.csv` and then the manifest, which says what they were made of."""
        content, table = self.state, self.measurements().to_csv(index=False)
        write_text(self.folder / "measurements.csv", table)
        said = {"measurements": sha256(table.encode())}
        write_json(self.folder / MARK, manifest | content | said)

    @property
    def state(self) -> dict[str, str]:
        """What the manifest says of the cells: it changes with every cell that is written."""
        self.keys()
        return {"cells": fingerprint({name: digest for name, (_, digest) in self._whole.items()})}

    def written(self) -> Iterator[dict[str, Any]]:
        """Yield how each file of cells came about: what its writer said on opening the store."""
        for kept in self._files():
            yield kept.content.get("made", {})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the latest run; a damaged one raises `SelbenchError`."""
        return read_manifest(self.folder / MARK)

    def _contents(self) -> Iterator[tuple[Kept, list[dict[str, Any]]]]:
        """Yield every file of cells with what it holds; a cell that is in two, in one of them."""
        files = self._files()
        keys = [record["key"] for kept in files for record in kept.cells]
        if len(set(keys)) < len(keys):
            files.sort(key=lambda kept: not kept.whole)
        seen: set[str] = set()
        for kept in files:
            yield kept, [record for record in kept.cells if record["key"] not in seen]
            seen.update(record["key"] for record in kept.cells)

    def _files(self) -> list[Kept]:
        return [parse_cells(*each) for each in read_files(cell_files(self._cells))]


def check_format(root: Path) -> None:
    """Raise `SelbenchError` where another version made the store."""
    marker = root / "selbench.json"
    if not marker.exists():
        return
    content = read_json(marker)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise SelbenchError(
            f"the store {root} has format {found}, this version of selbench reads format {FORMAT}; "
            "use the version that wrote it, or another folder with --store"
        )
