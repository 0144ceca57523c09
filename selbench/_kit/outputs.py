"""Protects a user's files: outputs replace only files of the same kind.

A file is recognised by what selbench writes into it. Paths are checked before any work begins.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selbench._kit.errors import SelbenchError
from selbench._kit.files import cannot_write, refuse_special, writable
from selbench._kit.places import UrlPath

LONGEST = 230  # most bytes of a name; the temporary file's name is longer
READ = 2**16  # bytes at the beginning and the end of a file that identify its kind


@dataclass(frozen=True)
class Kind:
    """A kind of file that selbench writes.

    Attributes:
        name: its name, with an article.
        mark: pattern that the beginning and end of every such file match.
    """

    name: str
    mark: re.Pattern[bytes]


BASELINE = Kind(
    "a baseline",
    re.compile(rb'\{(?=.*"checksum": ?"[0-9a-f]{16}")(?=.*"conditions": ?\{)', re.DOTALL),
)
STUDY = Kind("a study of `selbench init`", re.compile(rb"# A study for selbench: "))
JUNIT = Kind(
    "a report of `selbench check`", re.compile(rb'<\?xml [^>]*>\s*<testsuite name="selbench check"')
)
PICTURE = Kind(
    "a picture drawn by selbench",
    re.compile(
        rb"\x89PNG\r\n.{1,99}tEXtSoftware\0selbench"
        rb"|<\?xml .{1,2000}<dc:title>selbench<"
        rb"|%PDF-.*/Creator \(selbench\)",
        re.DOTALL,
    ),
)
WEIGHTS = Kind(
    "weights of `selbench train`", re.compile(rb'.{8}\{"__metadata__":\{"selbench":', re.DOTALL)
)
# Only fields that selbench writes: a file with fields of the user is not replaced.
MODEL_INFO = Kind(
    "selbench's part of a model_info",
    re.compile(
        rb'\{\s*("(architecture|autoattack_acc|clean_acc|corruptions_acc|dataset|eps|footnote)"'
        rb": [^\n]*\n\s*)+\}\s*\Z"
    ),
)


def check_file(path: Path, kind: Kind, option: str, force: bool = False) -> None:
    """Check whether a file may be written to `path`, without touching it.

    Args:
        path: where to write.
        kind: the kind of file to write.
        option: how the user chooses another path.
        force: replace a file of any kind.

    Raises:
        SelbenchError: if the path cannot be written, or holds a file of another kind.
    """
    refuse_special(path)
    with _write_errors(path, option):
        _check_place(path, path.is_dir())
    if force or not path.is_file():
        return
    try:
        content = _ends(path)
    except OSError as problem:
        raise SelbenchError(
            f"cannot read {path}, which would be replaced: {problem.strerror}; name another file "
            f"({option})"
        ) from problem
    if content and not kind.mark.match(content):
        raise SelbenchError(
            f"{path} exists and is not {kind.name}; name another file ({option}), or replace this "
            "one with --force"
        )


def check_folder(path: Path, option: str) -> None:
    """Raise `SelbenchError` unless `path` is a writable folder or one can be created there."""
    if isinstance(path, UrlPath):
        return
    with _write_errors(path, option):
        if path.exists() and not path.is_dir():
            raise SelbenchError(f"{path} is a file; name a folder ({option})")
        _check_place(path / "file")


@contextmanager
def _write_errors(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise cannot_write(path, problem, option) from problem


def _check_place(path: Path, is_folder: bool = False) -> None:
    """Raise the OSError that writing a file would raise; `is_folder` says if a folder is there."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    obstacles = {
        errno.EISDIR: is_folder,
        errno.ENOTDIR: not above.is_dir(),
        errno.EACCES: not writable(above),
        errno.ENAMETOOLONG: max(len(os.fsencode(part)) for part in path.parts) > LONGEST,
    }
    for number, found in obstacles.items():
        if found:
            raise OSError(number, os.strerror(number))


def _ends(path: Path) -> bytes:
    """Return the beginning and the end of a file."""
    with path.open("rb") as file:
        head = file.read(READ)
        file.seek(max(READ, path.stat().st_size - READ))
        return head + file.read(READ)
