"""Tidy measurements as a table: the types of columns, writing and reading."""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from selbench._kit.errors import UNLIKE, damaged
from selbench._kit.places import read_all
from selbench._kit.printable import from_cell, no_formula

WHOLE = {
    **dict.fromkeys(("limit", "seed", "layer"), "Int64"),
    **dict.fromkeys(("version", "n"), "int64"),
}
REAL = dict.fromkeys(("level", "alpha", "error", "value"), "float64")
READ = dict.fromkeys(WHOLE, pa.int64()) | dict.fromkeys(REAL, pa.float64())
RESULT = ("value", "error", "n")  # the values of a measurement; the other columns identify it
REQUIRED = ("version", "n", "value")  # never missing
PARQUET = "measurements.parquet"
NAMES = ("measurements.csv", "measurements.csv.gz", PARQUET)
AGAIN = "restore it, or make the measurements again with `selbench run`"


def tidy(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a table of these columns, with typed numbers, sorted by all columns."""
    # With missing values, whole numbers would become floats, which round large seeds.
    lists: dict[str, Any] = {name: [row.get(name) for row in rows] for name in columns}
    kinds = {name: kind for name, kind in (WHOLE | REAL).items() if name in columns}
    lists |= {name: pd.array(lists[name], dtype=kind) for name, kind in kinds.items()}
    with plain_text():
        return _typed(pd.DataFrame(lists, columns=[*columns]), columns)


def plain_text() -> AbstractContextManager[None]:
    """Let pandas store texts as Python objects, which need less memory for few distinct texts.

    For tables of a few thousand rows, which most are, this is also faster than Arrow.
    """
    return pd.option_context("mode.string_storage", "python")


def csv_of(table: pd.DataFrame) -> str:
    """Return a table as CSV: numbers in full precision, and texts that are no formulas."""
    return _with_texts(table, no_formula).to_csv(index=False)


def parquet_of(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet, a third of the size of packed CSV; equal tables, equal bytes."""
    texts = {str(name): table[name].fillna("") for name in table if name not in READ}
    whole = pa.Table.from_pandas(table.assign(**texts), preserve_index=False)
    written = pa.BufferOutputStream()
    pq.write_table(whole.replace_schema_metadata(), written, compression="zstd")
    return bytes(written.getvalue())


def _with_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Apply a function to the texts in a table, once for each distinct text."""
    columns = {}
    for name, column in table.items():
        texts = [each for each in column.unique() if isinstance(each, str)]
        changed = {each: change(each) for each in texts if change(each) != each}
        if changed:
            columns[str(name)] = [changed.get(each, each) for each in column.tolist()]
    return table.assign(**columns)


def find_tidy(folder: Path) -> Path | None:
    """Return the file of measurements in a folder, None if there is none."""
    paths = (folder / name for name in NAMES)
    return next((path for path in paths if path.is_file()), None)


def read_tidy(path: Path, columns: Sequence[str], digest: str | None = None) -> pd.DataFrame:
    """Read measurements with exactly the values that were written.

    Args:
        path: a CSV file, which may be packed with gzip, or a Parquet file.
        columns: the required columns; others are left out.
        digest: the sha256 of the CSV or of the Parquet file, if known.

    Raises:
        DamagedError: if it is no such file, lacks a column, or has a text in a column of numbers.
    """
    (content,) = read_all([path])
    try:
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        with plain_text():
            read = _unpacked if path.suffix == ".parquet" else _parsed
            found = _typed(_checked(read(text, columns), columns), columns)
            if digest not in (None, hashlib.sha256(text).hexdigest()):
                raise ValueError(UNLIKE)
            return found.assign(**{name: _texts(found[name]) for name in columns})
    except (OSError, EOFError, zlib.error, ValueError, TypeError, OverflowError) as problem:
        raise damaged(path, problem, AGAIN) from problem


def _typed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    ordered = table[[*columns]]
    kinds = {name: kind for name, kind in (WHOLE | REAL).items() if name in columns}
    kinds = {name: kind for name, kind in kinds.items() if ordered[name].dtype != kind}
    ordered = ordered.astype(kinds) if kinds else ordered
    order = np.lexsort([_ranks(ordered[name]) for name in reversed(columns)])
    found: pd.DataFrame = ordered.iloc[order].reset_index(drop=True)
    return found


def _ranks(column: pd.Series) -> np.ndarray:
    """Return the ranks of the values in a column, missing values last.

    The order is that of `sort_values`, which is ten times as slow for few rows of many columns.
    """
    codes, values = pd.factorize(column)  # -1 for a missing value
    ranks = np.full(len(values) + 1, len(values))
    if pd.api.types.is_numeric_dtype(column.dtype):
        order = np.argsort(np.asarray(values))
    else:
        texts = values.tolist()
        order = np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.intp)
    ranks[order] = np.arange(len(values))
    found: np.ndarray = ranks[codes]
    return found


def _parsed(text: bytes, columns: Sequence[str]) -> pa.Table:
    """Read CSV: numbers, and texts as categories, which are fast to sort."""
    header = next(csv.reader([io.BytesIO(text).readline().decode("utf-8-sig")]), [])
    kinds = _kinds(header, columns)
    read = pa_csv.read_csv(
        pa.BufferReader(text),
        pa_csv.ReadOptions(use_threads=False),  # else errors do not name the row
        pa_csv.ParseOptions(newlines_in_values=True),
        pa_csv.ConvertOptions(column_types=kinds, include_columns=kinds, null_values=[""]),
    )
    return pa.table({name: _from_cells(read[name].combine_chunks()) for name in columns})


def _unpacked(content: bytes, columns: Sequence[str]) -> pa.Table:
    """Read Parquet, as `_parsed` does CSV."""
    source = pa.BufferReader(content)
    kinds = _kinds(pq.read_schema(source).names, columns)
    texts = [name for name in columns if name not in READ]
    read = pq.read_table(source, columns=[*columns], read_dictionary=texts)
    if lacking := [name for name in texts if read[name].null_count]:
        raise ValueError(f"it has no {lacking[0]} in some line")
    return read.select([*columns]).cast(pa.schema(kinds)).combine_chunks()


def _kinds(header: Sequence[str], columns: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the types of columns; raise ValueError if the header lacks one."""
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"it lacks the column {', '.join(missing)}")
    return {name: READ.get(name, pa.dictionary(pa.int32(), pa.string())) for name in columns}


def _checked(read: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with typed numbers, if it is one of measurements."""
    for name in REAL.keys() & {*columns}:
        if wrong := read[name].filter(pc.invert(pc.is_finite(read[name]))).to_pylist():
            raise ValueError(f"{wrong[0]} is no number")
    table: pd.DataFrame = read.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    twice = table.duplicated([name for name in columns if name not in RESULT])
    if twice.any():
        raise ValueError(f"its line {int(twice.argmax()) + 2} repeats another")
    for name in REQUIRED:
        if name in columns and table[name].isna().any():
            raise ValueError(f"it has no {name} in line {int(table[name].isna().argmax()) + 2}")
    return table


def _from_cells(column: pa.Array) -> pa.Array:
    """Return the texts behind cells, once for each distinct text; numbers as they are."""
    if not pa.types.is_dictionary(column.type):
        return column
    texts = pa.array(map(from_cell, column.dictionary.to_pylist()), pa.string())
    if texts.equals(column.dictionary):
        return column
    changed = pa.DictionaryArray.from_arrays(column.indices, texts)
    return changed.cast(pa.string()).dictionary_encode()  # two cells may have one text


def _texts(column: pd.Series) -> pd.Series:
    """Return categories as plain texts; no `layer_name` is a missing one."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = column.cat.categories.to_numpy(object)[column.cat.codes.to_numpy()]
        column = pd.Series(texts, column.index, "str", column.name)
    return column.where(column != "", None) if column.name == "layer_name" else column
