"""Files of cells: the measurements as JSON, and their outcomes as parquet.

The JSON file is written last. It holds a digest of itself, and the length and sha256 of its
outcomes, so that damage is found and incomplete files are ignored. Files of earlier versions have
neither. The digest is in the first line; it is that of "{" and the bytes between that line and the
final newline, so that a reader can check it without serialising the content.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter

from selbench._kit.errors import UNLIKE, damaged
from selbench._kit.files import fingerprint, parse_json, replacing, write_text
from selbench._kit.places import file_names, read_all, sizes
from selbench.store.cells import Cell, Measurement, Result
from selbench.store.schema import Made, Text, Whole, checked, fields_of

FULL = 2**25  # bytes of files in memory at once
HEAD = re.compile(rb'\{"digest":"([0-9a-f]{64})",\n')  # key of the digest in a file of cells
Name = TypeVar("Name")
KEY = pa.dictionary(pa.int32(), pa.string())  # metadata of the outcomes' column of cell keys
OF_OUTCOMES = "delete it and the .json file beside it, and run the same command again"


@dataclass(frozen=True)
class Record:
    """A cell in a file; `writer` is the index of its writer in the file."""

    key: Text
    cell: Annotated[dict[str, Any], fields_of(Cell)]
    measurements: list[Annotated[dict[str, Any], fields_of(Measurement)]]
    writer: Whole | None = None


@dataclass(frozen=True)
class Writer:
    """A writer of cells: how they were made, and in how many files."""

    made: Made
    files: Whole = 1


@dataclass(frozen=True)
class Outcomes:
    """The length and the hash of a file of outcomes."""

    bytes: Whole
    sha256: Text


@dataclass(frozen=True, eq=False)
class CellFile:
    """The content of a file of cells.

    Attributes:
        cells: its cells.
        made: how its only writer made them.
        writers: its writers, several in a pack.
        outcomes: length and hash of the file of outcomes; None for no outcomes, and in files of
            earlier versions.
        digest: hash of the rest of the file; None in files of earlier versions.
        path: the file.
        size: bytes of the existing file of outcomes; None for none.
    """

    cells: list[Record]
    made: Made = field(default_factory=Made)
    writers: Annotated[list[Writer], Field(min_length=1)] = field(default_factory=list)
    outcomes: Outcomes | None = None
    digest: Text | None = None
    path: Path = Path()
    size: int | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of its cells."""
        return [record.key for record in self.cells]

    @property
    def parquet(self) -> Path:
        """The path of the outcomes, if there are any."""
        return self.path.with_suffix(".parquet")

    @property
    def has_outcomes(self) -> bool:
        """Whether it has outcomes."""
        return self.outcomes is not None or (self.digest is None and any(map(_tested, self.cells)))

    @property
    def complete(self) -> bool:
        """Whether its outcomes exist with the right length."""
        if not self.has_outcomes:
            return True
        known = self.size is not None
        return known and (self.outcomes is None or self.size == self.outcomes.bytes)


CELL_FILE = TypeAdapter(CellFile)


def write_cells(
    folder: Path, results: Sequence[Result], outcomes: pa.Table | None, made: Mapping[str, Any]
) -> Path:
    """Write cells that were evaluated together, and return their file.

    `outcomes` are their rows, if any.
    """
    records = [
        {
            "key": each.cell.key,
            "cell": vars(each.cell),
            # JSON has no infinity: metrics of a diverged network are left out.
            "measurements": [vars(m) for m in each.measurements if isfinite(m.value)],
        }
        for each in results
    ]
    path = folder / f"{fingerprint([record['key'] for record in records])}.json"
    content: dict[str, Any] = {"made": made, "cells": records}
    if outcomes is not None:
        with replacing(path.with_suffix(".parquet")) as temporary:
            pq.write_table(outcomes, temporary, compression="zstd")
            content["outcomes"] = facts_of(temporary)
    write_content(path, content)
    return path


def facts_of(outcomes: Path) -> dict[str, Any]:
    """Return the facts on a file of outcomes, for its file of cells; it must be local."""
    with outcomes.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": outcomes.stat().st_size, "sha256": digest}


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of cells, with its digest in the first line."""
    text = _canonical(content, allow_nan=False)
    write_text(path, f'{{"digest":"{sha256(text.encode())}",\n{text[1:]}\n')


def without_doubles(files: Sequence[CellFile]) -> Iterator[tuple[CellFile, list[Record]]]:
    """Yield every file of cells with its content; a repeated cell only once."""
    keys = [key for kept in files for key in kept.keys]
    if len(set(keys)) < len(keys):
        files = sorted(files, key=lambda kept: not kept.complete)
    seen: set[str] = set()
    for kept in files:
        yield kept, [record for record in kept.cells if record.key not in seen]
        seen.update(kept.keys)


def cell_files(folder: Path) -> list[Path]:
    """Return the files of cells in a folder, sorted by name."""
    return [folder / name for name in sorted(file_names(folder)) if name.endswith(".json")]


def read_files(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes, int | None]]:
    """Yield files of cells in a folder: path, content, and the size of their outcomes."""
    lengths = sizes([path.with_suffix(".parquet") for path in paths])
    return zip(paths, read_all(paths), lengths, strict=True)


def read_outcomes(files: Sequence[CellFile]) -> Iterator[bytes]:
    """Yield the content of existing files of outcomes, with few in memory."""
    for group in bundles([kept.parquet for kept in files], [kept.size or 0 for kept in files]):
        yield from read_all(group)


def bundles(names: Sequence[Name], weights: Sequence[int]) -> list[list[Name]]:
    """Return names of files in groups, in order, of one file or at most `FULL` bytes."""
    groups: list[list[Name]] = []
    room = 0
    for name, weight in zip(names, weights, strict=True):
        if not groups or weight > room:
            groups.append([])
            room = FULL
        groups[-1].append(name)
        room -= weight
    return groups


def parse_cells(path: Path, text: bytes, size: int | None) -> CellFile:
    """Return the content of a file of cells.

    Raises:
        DamagedError: if it holds no cells or is damaged.
    """
    try:
        kept = checked(CELL_FILE.validate_json, text)
        kept = replace(kept, path=path, size=size, writers=kept.writers or [Writer(kept.made)])
        _check(kept)
    except ValueError as problem:
        raise damaged(path, problem) from problem
    if not (is_current(text) or kept.digest in (None, digest_of(parse_json(path, text)))):
        raise damaged(path, UNLIKE)
    return kept


def is_current(text: bytes) -> bool:
    """Return whether a file has the layout of this version and is undamaged."""
    head = HEAD.match(text)
    if head is None or text[-1:] != b"\n":
        return False
    digest = hashlib.sha256(b"{")
    digest.update(memoryview(text)[head.end() : -1])
    return digest.hexdigest().encode() == head[1]


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the sha256 of the content of a file of cells, without its "digest"."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return sha256(_canonical(rest).encode())


def sha256(content: bytes) -> str:
    """Return the sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _canonical(content: Mapping[str, Any], allow_nan: bool = True) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan)


def outcomes_in(kept: CellFile, content: bytes, wanted: Iterable[str] | None) -> pa.Table:
    """Return the outcomes of a file of cells with wanted keys; None for all.

    Raises:
        DamagedError: if they are damaged.
    """
    if kept.outcomes is not None and sha256(content) != kept.outcomes.sha256:
        raise damaged(kept.parquet, UNLIKE, OF_OUTCOMES)
    return parse_outcomes(kept.parquet, content, wanted)


def parse_outcomes(path: Path, content: bytes, wanted: Iterable[str] | None) -> pa.Table:
    """Return the rows of a file of outcomes with wanted keys; None for all."""
    filters = None if wanted is None else [("key", "in", set(wanted))]
    try:
        table = pq.read_table(pa.BufferReader(content), filters=filters, partitioning=None)
        _check_outcomes(table)
        return table.set_column(table.column_names.index("key"), "key", coded(table["key"]))
    except (pa.ArrowException, OSError, KeyError, TypeError) as problem:
        raise damaged(path, problem, OF_OUTCOMES) from problem


def coded(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys as a dictionary-encoded column, from any encoding of a file."""
    if keys.type != KEY:
        keys = keys.cast(pa.string()).dictionary_encode().cast(KEY)
    return keys


def _check_outcomes(table: pa.Table) -> None:
    """Raise KeyError or TypeError for rows without cell and example."""
    key, example = table["key"].type, table["example"].type
    words = key.value_type if pa.types.is_dictionary(key) else key
    if not (pa.types.is_string(words) and pa.types.is_integer(example)):
        raise TypeError(f"its keys are {key}, its examples {example}")


def _check(kept: CellFile) -> None:
    """Raise ValueError for a cell without a writer, and for a repeated measurement."""
    for record in kept.cells:
        if not 0 <= (record.writer or 0) < len(kept.writers):
            raise ValueError("a cell has no writer")
        found = {(each["metric"], each.get("layer")) for each in record.measurements}
        if len(found) < len(record.measurements):
            raise ValueError("a measurement is there twice")


def _tested(record: Record) -> bool:
    """Return whether a cell of an earlier version has outcomes."""
    metrics = {measurement["metric"] for measurement in record.measurements}
    return "accuracy" in metrics or record.cell["suite"] == "validation"
