"""Paths at URLs, such as s3://bucket/runs: the methods of `Path` that stores need, by fsspec.

A server's files are not renamed or written in parts, but uploaded as a whole. Errors of drivers
become one sentence.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath
from typing import Any

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError, unknown

LOCAL = ("file://", "local://")  # these URLs name paths of this machine
LARGEST = 2**34  # most bytes of a file of a store
AT_ONCE = 256  # files that are fetched and held in memory together


class UrlPath(PosixPath):
    """A file or folder at a URL; it is a `Path`, so that stores work the same for both.

    It supports the methods below and those that only compute with names. Any other method that
    would read this machine's disk raises TypeError.

    Raises:
        SelbenchError: from every method that contacts the server, if that fails.
    """

    def __str__(self) -> str:
        # A path joins the two slashes of a URL into one.
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no file of this machine")

    def expanduser(self) -> "UrlPath":
        return self

    def resolve(self, strict: bool = False) -> "UrlPath":
        return self

    def is_file(self, **options: Any) -> bool:
        return self._kind() == "file"

    def is_dir(self, **options: Any) -> bool:
        return self._kind() == "directory"

    def exists(self, **options: Any) -> bool:
        return self._kind() != ""

    def glob(self, pattern: str, **options: Any) -> Iterator["UrlPath"]:  # type: ignore[override]
        """Yield matches in the order of names, with one listing per folder."""
        head, _, rest = pattern.partition("/")
        for name, entry in self._entries().items():
            if fnmatchcase(name, head):
                if not rest:
                    yield self / name
                elif entry["type"] == "directory":
                    yield from (self / name).glob(rest)

    def rglob(self, pattern: str, **options: Any) -> Iterator["UrlPath"]:  # type: ignore[override]
        for name, entry in self._entries().items():
            if fnmatchcase(name, pattern):
                yield self / name
            if entry["type"] == "directory":
                yield from (self / name).rglob(pattern)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in this folder by name, with one listing."""
        files = {n: each for n, each in self._entries().items() if each["type"] == "file"}
        return {name: int(each["size"]) for name, each in files.items()}

    def read_bytes(self) -> bytes:
        with self._asked() as (server, path):
            content: bytes = server.cat_file(path)
        return content

    def read_text(self, encoding: str | None = None, *args: Any, **options: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def read_with(self, paths: Sequence[Path]) -> list[bytes]:
        """Return the bytes of files on this file's server, in parallel if the driver can."""
        with self._asked(all_there=True) as (server, _):
            names = [server._strip_protocol(str(path)) for path in paths]
            found = server.cat(names)
        return [found[name] for name in names]

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._asked() as (server, path):
                server.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def unlink_with(self, paths: Sequence[Path]) -> None:
        """Remove files on this file's server, in one request if the driver can."""
        with self._asked() as (server, _), suppress(FileNotFoundError):
            server.rm([server._strip_protocol(str(path)) for path in paths])

    def put(self, file: Path) -> None:
        """Upload a file of this machine, completely or not at all."""
        with self._asked(all_there=True) as (server, path):
            server.put_file(str(file), path)

    def put_json(self, value: Any, new: bool = False) -> bool:
        """Write a small file; return False if it must be new but exists.

        On servers that cannot check this, two writers may both believe that their file is new.
        """
        mode = {"mode": "create"} if new else {}
        try:
            with self._asked() as (server, path):
                server.pipe_file(path, json.dumps(value).encode(), **mode)
        except FileExistsError:
            return False
        except SelbenchError:
            if new and self.is_file():  # drivers report an existing file differently
                return False
            raise
        return True

    def _kind(self) -> str:
        try:
            with self._asked() as (server, path):
                return str(server.info(path)["type"])
        except FileNotFoundError:
            return ""

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the entries of the folder by name, in order; empty if it does not exist."""
        try:
            with self._asked() as (server, path):
                found = server.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        folder = path.rstrip("/") + "/"
        inside = [each for each in found if each["name"].startswith(folder)]
        named = {each["name"].removeprefix(folder).rstrip("/"): each for each in inside}
        return {name: named[name] for name in sorted(named) if name}

    @contextmanager
    def _asked(self, all_there: bool = False) -> Iterator[tuple[Any, str]]:
        """Yield the server and this path on it; turn errors of the driver into sentences.

        `all_there`: report missing files and buckets too, instead of raising FileNotFoundError.
        """
        server, path = _server(str(self))
        server.invalidate_cache()  # others write there too
        try:
            yield server, path
        except Exception as problem:  # each driver has its own errors
            if isinstance(problem, FileNotFoundError | FileExistsError) and not all_there:
                raise
            raise _unusable(str(self), problem) from problem


def place(text: str | Path) -> Path:
    """Return the path that a command-line word names: on this machine or at a URL."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text).expanduser()
    for local in LOCAL:
        if text.startswith(local):
            return Path(text.removeprefix(local))
    _server(text)
    return UrlPath(text)


def read_all(paths: Sequence[Path], at_once: int = AT_ONCE) -> Iterator[bytes]:
    """Yield the bytes of files that are all here or all on one server, in groups of `at_once`.

    Some drivers fetch a group in parallel, so that many small files take little longer than one.
    Use small groups for large files: a group is held in memory.

    Raises:
        SelbenchError: if a file is missing or cannot be read.
    """
    for first in range(0, len(paths), at_once):
        batch = paths[first : first + at_once]
        if isinstance(batch[0], UrlPath):
            yield from batch[0].read_with(batch)
        else:
            yield from map(_content, batch)


def remove_all(paths: Sequence[Path]) -> None:
    """Remove files of one folder, if they exist."""
    if paths and isinstance(paths[0], UrlPath):
        known = paths[0].parent.sizes()
        there = [path for path in paths if path.name in known]
        if there:
            paths[0].unlink_with(there)
        return
    for path in paths:
        path.unlink(missing_ok=True)


def file_names(folder: Path) -> list[str]:
    """Return the names of the files in a folder, in any order; empty if there is no folder."""
    if isinstance(folder, UrlPath):
        return [*folder.sizes()]
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [each.name for each in entries if each.is_file()]


def sizes(paths: Sequence[Path]) -> list[int | None]:
    """Return the sizes in bytes of files of one folder; None if a file does not exist."""
    if paths and isinstance(paths[0], UrlPath):
        known = paths[0].parent.sizes()
        return [known.get(path.name) for path in paths]
    return [_size(path) for path in paths]


def _content(path: Path) -> bytes:
    try:
        return content_of(path, LARGEST)
    except FileNotFoundError as problem:
        raise SelbenchError(
            f"cannot read {path}: {problem.strerror}; check its permissions and the disk"
        ) from problem


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _server(url: str) -> tuple[Any, str]:
    """Return the driver for a URL, and the driver's name for the path."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations, registry

    protocol = url.partition("://")[0]
    protocols = sorted({*known_implementations, *registry})
    if protocol not in protocols:
        raise unknown("protocol", protocol, protocols)
    try:
        server, path = url_to_fs(url)
    except ImportError as problem:
        package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        advice = f"pip install {package}" if package not in ("", "fsspec") else str(problem)
        raise SelbenchError(
            f"{url} needs a package that is not installed; install it first ({advice})"
        ) from problem
    except Exception as problem:  # some drivers connect at once
        raise _unusable(url, problem) from problem
    return server, path


def _unusable(url: str, problem: Exception) -> SelbenchError:
    reason = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    return SelbenchError(
        f"cannot use {url}: {reason}; check its spelling, your credentials and the network"
    )
