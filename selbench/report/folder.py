"""The folder that a report is written to: whole, and over nothing but an earlier report."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selbench.errors import SelbenchError
from selbench.files import cannot_write, read_json, write_json

MARKER = "selbench-report.json"  # in every report: what it consists of


@contextmanager
def replacing_report(output: Path) -> Iterator[Path]:
    """Yield an empty folder; it takes the place of `output` once the block succeeded.

    Raises:
        SelbenchError: where `output` is a file, holds what no report of selbench's wrote, or cannot
            be written.
    """
    final = output.expanduser().resolve()
    _check(final, output)
    fresh, old = (final.with_name(f".{final.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        entries = sorted(path.name for path in fresh.iterdir())
        write_json(fresh / MARKER, {"format": 1, "entries": [*entries, MARKER]})
        if final.exists():
            final.rename(old)
        fresh.rename(final)
    except OSError as problem:
        raise cannot_write(output, problem, "--output") from problem
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check(final: Path, named: Path) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise SelbenchError(f"{named} is a file; name a folder with --output")
    there = {path.name for path in final.iterdir()}
    marker = final / MARKER
    content = read_json(marker) if marker.is_file() else {}
    own = set(content.get("entries", ())) if isinstance(content, dict) else set()
    if others := sorted(there - own):
        raise SelbenchError(
            f"the folder {named} holds {others[0]!r}, which no report wrote; empty the folder, or "
            "choose another one with --output"
        )
