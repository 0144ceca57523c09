"""Files of cells: what was measured as JSON, and the outcomes behind it as parquet.

The JSON file is written last. It says of itself (`digest`) and of its outcomes (their length and
sha256) what they must be, so that damage is found, and what is half is taken for nothing. Files
of earlier versions say neither.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from selbench.errors import damaged
from selbench.files import fingerprint, parse_json, replacing, write_json
from selbench.store.cells import CELL, Cell, Result
from selbench.store.kinds import check_record
from selbench.urls import file_names, read_all, sizes

TEXT = ("suite", "condition", "group", "source", "data", "subject", "training", "architecture")
CELL_KINDS = {
    **dict.fromkeys((*TEXT, "weights", "helper"), "text"),
    **dict.fromkeys(("level", "alpha"), "number?"),
    **dict.fromkeys(("limit", "seed"), "whole?"),
    "version": "whole",
}
MEASURED_KINDS = {
    "metric": "text",
    "value": "number",
    "n": "whole",
    "layer": "whole?",
    "layer_name": "text?",
    "error": "number?",
}
LARGE = 16  # files of outcomes that are held in memory together


@dataclass(frozen=True)
class Kept:
    """A file of cells as it was read.

    Attributes:
        path: of the file.
        content: what it says, which was found to be cells.
        size: bytes of the file of outcomes beside it; None where there is none.
    """

    path: Path
    content: Mapping[str, Any]
    size: int | None

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells, each with its "key", its "cell" and its "measurements"."""
        cells: list[dict[str, Any]] = self.content["cells"]
        return cells

    @property
    def outcomes(self) -> Mapping[str, Any] | None:
        """What the outcomes' file is: "bytes" and "sha256".

        None where there is none, or where an earlier version did not say.
        """
        return self.content.get("outcomes")

    @property
    def digest(self) -> str | None:
        """Of everything else in the file; None where an earlier version wrote it."""
        return self.content.get("digest")

    @property
    def parquet(self) -> Path:
        """Where the outcomes lie, if there are any."""
        return self.path.with_suffix(".parquet")

    @property
    def has_outcomes(self) -> bool:
        """Whether outcomes belong to it."""
        return self.outcomes is not None or (self.digest is None and any(map(_tested, self.cells)))

    @property
    def whole(self) -> bool:
        """Whether the outcomes that belong to it are there, as long as they must be."""
        if not self.has_outcomes:
            return True
        known = self.size is not None
        return known and (self.outcomes is None or self.size == self.outcomes["bytes"])


def write_cells(
    folder: Path, results: Sequence[Result], outcomes: pa.Table | None, made: Mapping[str, Any]
) -> Path:
    """Write cells that were evaluated together, and return their file.

    `outcomes` are the rows behind them, if any.
    """
    records = [
        {
            "key": result.cell.key,
            "cell": asdict(result.cell),
            # JSON has no infinity: what a diverged network makes of a metric is left out.
            "measurements": [asdict(m) for m in result.measurements if isfinite(m.value)],
        }
        for result in results
    ]
    path = folder / f"{fingerprint([record['key'] for record in records])}.json"
    content: dict[str, Any] = {"made": made, "cells": records}
    if outcomes is not None:
        with replacing(path.with_suffix(".parquet")) as temporary:
            pq.write_table(outcomes, temporary, compression="zstd")
            written = temporary.read_bytes()
            content["outcomes"] = {"bytes": len(written), "sha256": sha256(written)}
    write_json(path, content | {"digest": digest_of(content)})
    return path


def cell_files(folder: Path) -> list[Path]:
    """Return the files of cells in a folder, in the order of their names."""
    return [folder / name for name in sorted(file_names(folder)) if name.endswith(".json")]


def read_files(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes, int | None]]:
    """Yield files of cells of one folder: path, content, and the size of the outcomes beside it."""
    lengths = sizes([path.with_suffix(".parquet") for path in paths])
    return zip(paths, read_all(paths), lengths, strict=True)


def parse_cells(path: Path, text: bytes, size: int | None) -> Kept:
    """Return what a file of cells holds; one that holds no cells raises `DamagedError`."""
    content = parse_json(path, text)
    try:
        _check_content(content)
    except (KeyError, TypeError, ValueError) as problem:
        raise damaged(path, problem) from problem
    return Kept(path, content, size)


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the sha256 of what a file of cells holds, its "digest" apart."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(content: bytes) -> str:
    """Return the sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def parse_outcomes(path: Path, content: bytes, wanted: Iterable[str] | None) -> pa.Table:
    """Return the rows of a file of outcomes whose key is wanted; all of them with None."""
    filters = None if wanted is None else [("key", "in", set(wanted))]
    try:
        table = pq.read_table(pa.BufferReader(content), filters=filters, partitioning=None)
        _check_outcomes(table)
    except (pa.ArrowException, OSError, KeyError, TypeError) as problem:
        advice = "delete it and the .json file beside it, and run the same command again"
        raise damaged(path, problem, advice) from problem
    return table


def _check_outcomes(table: pa.Table) -> None:
    """Raise KeyError or TypeError for rows that do not say of which cell and example they are."""
    key, example = table["key"].type, table["example"].type
    words = key.value_type if pa.types.is_dictionary(key) else key
    if not (pa.types.is_string(words) and pa.types.is_integer(example)):
        raise TypeError(f"its keys are {key}, its examples {example}")


def cell_in(record: Mapping[str, Any]) -> Cell:
    """Return the cell that a record tells of; KeyError, TypeError or ValueError for no such one."""
    cell = record["cell"]
    check_record(cell, CELL_KINDS, "a cell")
    for name in ("suite", "condition"):  # they become parts of the names of files
        if set(cell[name]) & set("/\\\0"):
            raise ValueError(f"{name} of a cell is {cell[name]!r:.40}")
    return Cell(**{name: cell[name] for name in CELL})


def _check_content(content: Any) -> None:
    """Raise KeyError, TypeError or ValueError unless `content` is that of a file of cells."""
    check_record(content, {"digest": "text?"}, "it")
    if not isinstance(content["cells"], list):
        raise TypeError("its cells are no list")
    for record in content["cells"]:
        check_record(record, {"key": "text"}, "a cell")
        cell_in(record)
        for measurement in record["measurements"]:
            check_record(measurement, MEASURED_KINDS, "a measurement")
        found = {(each["metric"], each.get("layer")) for each in record["measurements"]}
        if len(found) < len(record["measurements"]):
            raise ValueError("a measurement is there twice")
    if content.get("outcomes") is not None:
        check_record(
            content["outcomes"], {"bytes": "whole", "sha256": "text"}, "what it says of outcomes"
        )


def _tested(record: Mapping[str, Any]) -> bool:
    """Say whether outcomes stand behind a cell that an earlier version wrote."""
    metrics = {measurement["metric"] for measurement in record["measurements"]}
    return "accuracy" in metrics or record["cell"]["suite"] == "validation"
