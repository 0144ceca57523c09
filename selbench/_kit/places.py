"""Places that a URL names, such as s3://bucket/runs: what stores need of a path, by fsspec.

Nothing on a server is renamed or written in parts: a file is put there whole. What a driver raises
is told in one sentence.
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
LARGEST = 2**34  # bytes of a file of a store
AT_ONCE = 256  # files whose bytes are fetched and held together


class UrlPath(PosixPath):
    """A file or folder at a URL; a `Path`, so that stores need not know where they lie.

    It has the methods below and those that only compute with names. Whatever else would ask this
    machine's disk is a TypeError.

    Raises:
        SelbenchError: from every method that asks the server, where that cannot be done.
    """

    def __str__(self) -> str:
        # Paths keep no empty parts, and so one slash of the two.
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
        """Yield what matches, in the order of names; with one listing for each folder looked at."""
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
        """Return the bytes of each file in this folder, by its name; with one listing."""
        files = {n: each for n, each in self._entries().items() if each["type"] == "file"}
        return {name: int(each["size"]) for name, each in files.items()}

    def read_bytes(self) -> bytes:
        with self._asked() as (server, path):
            content: bytes = server.cat_file(path)
        return content

    def read_text(self, encoding: str | None = None, *args: Any, **options: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def read_with(self, paths: Sequence[Path]) -> list[bytes]:
        """Return the bytes of files on the server of this one, side by side if its driver can."""
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
        """Remove files on the server of this one, all with one request if its driver can."""
        with self._asked() as (server, _), suppress(FileNotFoundError):
            server.rm([server._strip_protocol(str(path)) for path in paths])

    def put(self, file: Path) -> None:
        """Take the content of a file of this machine, whole or not at all."""
        with self._asked(all_there=True) as (server, path):
            server.put_file(str(file), path)

    def put_json(self, value: Any, new: bool = False) -> bool:
        """Write a small file; return False where it must be new and is not.

        Servers that cannot tell whether a file is new let two writers both believe that theirs is.
        """
        mode = {"mode": "create"} if new else {}
        try:
            with self._asked() as (server, path):
                server.pipe_file(path, json.dumps(value).encode(), **mode)
        except FileExistsError:
            return False
        except SelbenchError:
            if new and self.is_file():  # drivers do not agree on how they tell that
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
        """Return what the folder holds by name, in the names' order; nothing where it is not."""
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
        """Yield the server, and what this path is there; tell what the driver raises.

        With `all_there`, files and buckets that are missing are to be told, too.
        """
        server, path = _server(str(self))
        server.invalidate_cache()  # others write there too
        try:
            yield server, path
        except Exception as problem:  # each driver has its own
            if isinstance(problem, FileNotFoundError | FileExistsError) and not all_there:
                raise
            raise _unusable(str(self), problem) from problem


def place(text: str | Path) -> Path:
    """Return the path that a word of the command line names: of this machine, or at a URL."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text).expanduser()
    for local in LOCAL:
        if text.startswith(local):
            return Path(text.removeprefix(local))
    _server(text)
    return UrlPath(text)


def read_all(paths: Sequence[Path], at_once: int = AT_ONCE) -> Iterator[bytes]:
    """Yield the bytes of files that lie all here or all on one server, `at_once` of them together.

    Drivers that can, fetch them side by side, so that many small files take few times as long as
    one. Whoever asks for large files says fewer at once: they are held in memory.

    Raises:
        SelbenchError: where one of them cannot be read, or is not there.
    """
    for first in range(0, len(paths), at_once):
        batch = paths[first : first + at_once]
        if isinstance(batch[0], UrlPath):
            yield from batch[0].read_with(batch)
        else:
            yield from map(_content, batch)


def remove_all(paths: Sequence[Path]) -> None:
    """Remove files of one folder, those that are there."""
    if paths and isinstance(paths[0], UrlPath):
        known = paths[0].parent.sizes()
        there = [path for path in paths if path.name in known]
        if there:
            paths[0].unlink_with(there)
        return
    for path in paths:
        path.unlink(missing_ok=True)


def file_names(folder: Path) -> list[str]:
    """Return the names of the files in a folder, in any order; none where there is no folder."""
    if isinstance(folder, UrlPath):
        return [*folder.sizes()]
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [each.name for each in entries if each.is_file()]


def sizes(paths: Sequence[Path]) -> list[int | None]:
    """Return the bytes of files of one folder, None where there is no such file."""
    if paths and isinstance(paths[0], UrlPath):
        known = paths[0].parent.sizes()
        return [known.get(path.name) for path in paths]
    return [_size(path) for path in paths]


def _content(path: Path) -> bytes:
    try:
        return content_of(path, LARGEST)
    except FileNotFoundError as problem:
        raise SelbenchError(
            f"cannot read {path}: {problem.strerror}; look at its permissions and the disk"
        ) from problem


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _server(url: str) -> tuple[Any, str]:
    """Return the driver that reaches a URL, and the name it gives to it."""
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
    except Exception as problem:  # some drivers connect already
        raise _unusable(url, problem) from problem
    return server, path


def _unusable(url: str, problem: Exception) -> SelbenchError:
    told = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    return SelbenchError(
        f"cannot use {url}: {told}; look at its spelling, your credentials and the network"
    )
