"""Pack finished cells: replace many small files of cells by a few large ones.

A pack is a file of cells like any other, with its outcomes next to it. It is written before the
packed files are removed, so that no cell is ever lost. In between, cells exist twice, and readers
count them once; the next packing removes repeated files.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selbench._kit.errors import DamagedError
from selbench._kit.files import cannot_write, fingerprint, replacing
from selbench._kit.places import file_names, remove_all, sizes
from selbench.store.records import (
    FULL,
    KEY,
    CellFile,
    Record,
    Writer,
    bundles,
    coded,
    facts_of,
    outcomes_in,
    read_outcomes,
    sha256,
    without_doubles,
    write_content,
)

PREFIX = "pack-"
SMALL = 2**20  # bytes of files that are packed again in any case
ROWS = 2**17  # outcomes that are written together


def needless(keys: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of files whose cells are all in other files, given the keys in each.

    Larger files are kept: the small ones are those that a pack replaced.
    """
    seen: set[str] = set()
    found = []
    for name, file_keys in sorted(keys.items(), key=lambda item: (-len([*item[1]]), item[0])):
        if seen.issuperset(file_keys):
            found.append(name)
        seen.update(file_keys)
    return found


def due(weights: Mapping[str, int], chosen: Collection[str] = ()) -> list[list[str]]:
    """Return groups of files to pack, given the bytes of all files.

    A file is packed again once other files together are as large, so that results are rewritten
    only a few times, however many runs add to them. Files in `chosen` are always packed.
    """
    names = [name for name in chosen if name in weights]
    total = 0
    for name, weight in sorted(weights.items(), key=lambda item: (item[1], item[0])):
        if weight > min(max(total, SMALL), FULL // 2):
            break
        names.append(name)
        total += weight
    names = sorted({*names})
    groups = bundles(names, [weights[name] for name in names])
    return [group for group in groups if len(group) > 1 or group[0] in chosen]


def weights_of(paths: Sequence[Path]) -> dict[str, int]:
    """Return the bytes of files of cells, with their outcomes, by name."""
    both = zip(sizes(paths), sizes([path.with_suffix(".parquet") for path in paths]), strict=True)
    found = [sum(size or 0 for size in pair) for pair in both]
    return {path.name: size for path, size in zip(paths, found, strict=True)}


def packs_in(paths: Sequence[Path]) -> set[str]:
    """Return the names of packs."""
    return {path.name for path in paths if path.name.startswith(PREFIX)}


def remove_lone_outcomes(folder: Path) -> None:
    """Remove outcomes without cells, left by interrupted runs, unless a run is working."""
    names = {*file_names(folder)}
    lone = [name for name in names if name.endswith(".parquet")]
    remove_all(
        [folder / name for name in lone if f"{name.removesuffix('.parquet')}.json" not in names]
    )


def write_pack(folder: Path, files: Sequence[CellFile]) -> list[Path]:
    """Write one pack of files of cells, and return the files that it includes.

    Files with damaged outcomes are left out, for `selbench verify` to find.
    """
    contents = _outcomes_of(files)
    files = [kept for kept in files if kept in contents or not kept.has_outcomes]
    if not files:
        return []
    fresh = [*without_doubles(files)]
    keys = sorted(record.key for _, records in fresh for record in records)
    path = folder / f"{PREFIX}{fingerprint(keys)}.json"
    content = _merged(fresh)
    tables = [
        (contents[kept], _wanted(kept, records)) for kept, records in fresh if kept in contents
    ]
    if tables:
        with replacing(path.with_suffix(".parquet")) as temporary:
            _write_tables(temporary, tables)
            content["outcomes"] = facts_of(temporary)
    write_content(path, content)
    return [kept.path for kept in files]


def _wanted(kept: CellFile, records: Sequence[Record]) -> set[str] | None:
    """Return the selected keys of a file's cells; None for all."""
    return None if len(records) == len(kept.cells) else {record.key for record in records}


def remove(paths: Sequence[Path]) -> None:
    """Remove files of cells, and then their outcomes, which readers ignore without cells."""
    try:
        remove_all(paths)
        remove_all([path.with_suffix(".parquet") for path in paths])
    except OSError as problem:
        raise cannot_write(paths[0].parent, problem) from problem


def _outcomes_of(files: Sequence[CellFile]) -> dict[CellFile, bytes]:
    """Return the content of the files of outcomes that are undamaged."""
    there = [kept for kept in files if kept.has_outcomes and kept.complete]
    found = {}
    for kept, content in zip(there, read_outcomes(there), strict=True):
        with suppress(DamagedError):
            if kept.outcomes is None:
                table = outcomes_in(kept, content, None)
                undamaged = {*kept.keys} <= {*table["key"].unique().to_pylist()}
            else:
                undamaged = kept.outcomes.sha256 == sha256(content)
            if undamaged:
                found[kept] = content
    return found


def _merged(fresh: Sequence[tuple[CellFile, Sequence[Record]]]) -> dict[str, Any]:
    """Return the content of a pack: the cells of files, and their writers, without repeats."""
    writers: dict[str, Writer] = {}
    cells = []
    for kept, records in fresh:
        indices = []  # the indices of this file's writers in the pack
        for writer in kept.writers:
            key = fingerprint(writer.made)
            files = writers[key].files if key in writers else 0
            writers[key] = replace(writer, files=files + writer.files)
            indices.append([*writers].index(key))
        cells += [vars(each) | {"writer": indices[each.writer or 0]} for each in records]
    return {"cells": cells, "writers": [vars(writer) for writer in writers.values()]}


def _write_tables(path: Path, tables: Sequence[tuple[bytes, set[str] | None]]) -> None:
    """Write outcomes file by file, with few in memory; of some files only selected keys."""
    schema = _schema([pq.read_schema(pa.BufferReader(content)) for content, _ in tables])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        held: list[pa.Table] = []
        for table in _pieces(tables, schema):
            held.append(table)
            if sum(map(len, held)) >= ROWS:
                writer.write_table(pa.concat_tables(held).unify_dictionaries())
                held = []
        if held:
            writer.write_table(pa.concat_tables(held).unify_dictionaries())


def _pieces(tables: Sequence[tuple[bytes, set[str] | None]], schema: pa.Schema) -> Iterator[Any]:
    for content, keys in tables:
        file = pq.ParquetFile(pa.BufferReader(content))
        for batch in file.iter_batches(ROWS, use_threads=False):
            table = pa.Table.from_batches([batch])
            if keys is not None:
                table = table.filter(pc.is_in(table["key"].cast(pa.string()), pa.array([*keys])))
            lacking = [name for name in schema.names if name not in table.column_names]
            for name in lacking:
                table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            table = table.select(schema.names)
            yield table.set_column(0, "key", coded(table["key"])).cast(schema)


def _schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all outcomes, the key first."""
    fields = [[each for each in schema if each.name != "key"] for schema in schemas]
    others = pa.unify_schemas([pa.schema(each) for each in fields], promote_options="permissive")
    return pa.schema([pa.field("key", KEY), *others])
