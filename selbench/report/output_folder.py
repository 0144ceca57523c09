"""The folder that a report is written to: whole, and over nothing but an earlier report."""

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selbench._kit.errors import SelbenchError
from selbench._kit.files import cannot_write, has_ended, read_json, write_json

MARKER = "selbench-report.json"  # in every report: what it consists of
FORMAT = 2  # format 1 named what lies at the top alone
HERE = -100  # AT_FDCWD: paths are as for any other call
EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
UNFINISHED = re.compile(r"\.(?P<name>.+)\.selbench-(?P<process>\d+)\.(new|old)")


@contextmanager
def replacing_report(output: Path) -> Iterator[Path]:
    """Yield an empty folder; it takes the place of `output` once the block succeeded.

    That is one rename: whenever the process is killed, the old report is there or the new one.
    Where a file system cannot exchange two folders, it is two; an old report that is missing
    between them is put back by whoever writes to `output` next.

    Raises:
        SelbenchError: where `output` is a file, holds what no report of selbench's wrote, or cannot
            be written.
    """
    final = output.expanduser().resolve()
    fresh, old = (
        final.with_name(f".{final.name}.selbench-{os.getpid()}.{end}") for end in ("new", "old")
    )
    try:
        for path in [*left_behind(final.parent, final.name), old, fresh]:
            clear(path)
        _check(final, output)
        fresh.mkdir(parents=True)
        yield fresh
        write_json(fresh / MARKER, {"format": FORMAT, "entries": [*_entries(fresh), MARKER]})
        if not final.exists():
            fresh.rename(final)
        elif not _exchange(fresh, final):
            final.rename(old)
            fresh.rename(final)
    except OSError as problem:
        raise cannot_write(output, problem, "--output") from problem
    finally:
        for path in (old, fresh):
            clear(path)


def left_behind(folder: Path, name: str | None = None) -> list[Path]:
    """Return what killed commands left of the reports in a folder; of one name, if it is given."""
    found = [(path, UNFINISHED.fullmatch(path.name)) for path in sorted(folder.glob(".*"))]
    return [
        path
        for path, match in found
        if match and name in (None, match["name"]) and has_ended(int(match["process"]))
    ]


def clear(path: Path) -> None:
    """Remove an unfinished report; an old one takes its place again if that is empty."""
    match = UNFINISHED.fullmatch(path.name)
    final = path.with_name(match["name"]) if match else path
    if path.suffix == ".old" and path.exists() and not final.exists():
        with suppress(OSError):
            path.rename(final)
    shutil.rmtree(path, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one rename; return False where this system has none of that kind."""
    names = (HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE)
    try:
        library = ctypes.CDLL(None)
        rename = library.renameatx_np if sys.platform == "darwin" else library.renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(rename(*names) == 0)


def _entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _check(final: Path, named: Path) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise SelbenchError(f"{named} is a file; name a folder with --output")
    marker = final / MARKER
    content = read_json(marker) if marker.is_file() else {}
    is_report = isinstance(content, dict) and content.get("format") == FORMAT
    there = _entries(final) if is_report else [path.name for path in final.iterdir()]
    entries = set(content.get("entries", ())) if isinstance(content, dict) else set()
    if others := sorted(set(there) - entries):
        raise SelbenchError(
            f"the folder {named} holds {others[0]!r}, which no report wrote; empty the folder, or "
            "choose another one with --output"
        )
