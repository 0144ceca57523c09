"""Failed cells: one small file each, named by the cell's key, until the cell is evaluated."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from selbench._kit.errors import damaged
from selbench._kit.files import cannot_write, parse_json, write_json
from selbench._kit.places import read_all
from selbench.store.cells import Failure
from selbench.store.schema import checked

FOLDER = "failed"
FAILURE = TypeAdapter(Failure)


def failed_keys(folder: Path) -> set[str]:
    """Return the keys of failed cells; `folder` holds the failures."""
    stems = (path.stem for path in folder.glob("*.json"))
    return {stem for stem in stems if re.fullmatch("[0-9a-f]{16}", stem)}


def write_failures(folder: Path, failures: Iterable[Failure], made: Mapping[str, Any]) -> None:
    """Store why cells failed, and how they were made."""
    for each in failures:
        write_json(folder / f"{each.cell.key}.json", asdict(each) | {"made": made})


def read_failures(folder: Path, keys: Collection[str]) -> list[Failure]:
    """Return the failures of the cells with these keys, sorted by network."""
    paths = [folder / f"{key}.json" for key in sorted(failed_keys(folder).intersection(keys))]
    found = zip(paths, read_all(paths), strict=True)
    return sorted((parse_failure(path, text) for path, text in found), key=_order)


def parse_failure(path: Path, text: bytes) -> Failure:
    """Return the failure in a file; raise `DamagedError` if it holds none."""
    content = parse_json(path, text)
    try:
        failure = checked(FAILURE.validate_python, content)
    except ValueError as problem:
        raise damaged(path, problem) from problem
    if failure.cell.key != path.stem:
        raise damaged(path, "its cell is not the one that its key says")
    return failure


def _order(failure: Failure) -> tuple[str, str, str, float]:
    cell = failure.cell
    return cell.subject, cell.suite, cell.condition, cell.level or 0.0


def forget(folder: Path, keys: Iterable[str]) -> None:
    """Remove the failures of cells, so that they are evaluated again."""
    for key in failed_keys(folder).intersection(keys):
        path = folder / f"{key}.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise cannot_write(path, problem) from problem
