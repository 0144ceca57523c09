"""Reads files that a user names; anything but a regular file of reasonable size is an error."""

import os
import stat
from pathlib import Path

from selbench._kit.errors import SelbenchError

LARGEST = 2**30  # most bytes that are read into memory at once
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def content_of(path: Path, largest: int = LARGEST, noun: str = "") -> bytes:
    """Return the bytes of a file; refuse anything that could hang or never end.

    Args:
        path: the file.
        largest: the most bytes that it may have.
        noun: what the file should be, for messages.

    Raises:
        FileNotFoundError: if there is no file.
        SelbenchError: if it is not a regular file, is larger than `largest`, or cannot be read.
    """
    try:
        # Opening a pipe would otherwise wait for its writer.
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with open(number, "rb") as file:  # noqa: PTH123  # of a number, not of a path
            status = os.fstat(number)
            _check(path, status, noun, largest)
            content = file.read(largest + 1)  # files in /proc report a size of 0
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as problem:
        raise _unreadable(path, problem, noun) from problem
    if len(content) > largest:
        raise _too_large(path, largest, noun)
    return content


def check_regular(path: Path) -> None:
    """Raise `SelbenchError` if the path exists but is no regular file; libraries may hang on it."""
    try:
        _check(path, path.stat())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        raise _unreadable(path, problem) from problem


def _check(path: Path, status: os.stat_result, noun: str = "", largest: int | None = None) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        what = KINDS.get(kind, "no file")
        raise SelbenchError(f"cannot read {_named(noun, path)}: it is {what}; name a regular file")
    if largest is not None and status.st_size > largest:
        raise _too_large(path, largest, noun)


def _named(noun: str, path: Path) -> str:
    return f"the {noun} {path}" if noun else str(path)


def _too_large(path: Path, largest: int, noun: str) -> SelbenchError:
    size = f"{largest / 2**20:.0f} MB"
    return SelbenchError(
        f"cannot read {_named(noun, path)}: it is larger than the {size} allowed; check that it is "
        "the right file"
    )


def _unreadable(path: Path, problem: OSError | ValueError, noun: str = "") -> SelbenchError:
    reason = getattr(problem, "strerror", None) or problem  # ValueError: a zero byte in the name
    return SelbenchError(
        f"cannot read {_named(noun, path)}: {reason}; check its name and permissions"
    )
