"""Folders on disk, hashes of files and values, and writing files completely or not at all."""

import hashlib
import json
import os
import re
import secrets
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError

from selbench._kit.content import check_regular, content_of
from selbench._kit.errors import UNLIKE, SelbenchError, damaged, in_short
from selbench._kit.places import UrlPath

TOML = 2**24  # the largest TOML file, in bytes
BLOCK = 2**20  # bytes read at once
_MARK = secrets.token_hex(4)  # processes on different machines may have the same number
DIGEST = "digest"  # hash of all other keys of a record
# How a user can choose another folder.
ELSEWHERE = "--store for results, SELBENCH_HOME for data and weights, its own option for any other"


def home() -> Path:
    """Return the folder for data sets, trained weights and caches.

    It is the environment variable SELBENCH_HOME, or else the user's cache folder.
    """
    named = os.environ.get("SELBENCH_HOME")
    return Path(named or platformdirs.user_cache_path("selbench")).expanduser()


def fingerprint(value: Any) -> str:
    """Hash a JSON value to 16 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a record with a digest of its content, for `unsealed`."""
    return {**content, DIGEST: fingerprint(content)}


def unsealed(content: Any) -> dict[str, Any]:
    """Return the content of a sealed record; raises `ValueError` if it has changed since.

    A record without a digest is returned as it is: an earlier version may have written it.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no record")
    rest = {name: value for name, value in content.items() if name != DIGEST}
    if DIGEST in content and content[DIGEST] != fingerprint(rest):
        raise ValueError(UNLIKE)
    return rest


def md5_of(*paths: Path) -> str:
    """Return the md5 of a file, or of several files in sequence.

    If the files are unchanged, it comes from the cache folder.
    """
    stamp: list[str | int] = []
    for path in paths:
        check_regular(path)
        status = path.stat()
        stamp += [str(path.absolute()), status.st_size, status.st_mtime_ns]
    kept = home() / "md5" / fingerprint(stamp)
    if is_md5(kept):
        return kept.read_text()[:32]
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    write_text(kept, _with_digest(digest.hexdigest()))
    return digest.hexdigest()


def is_md5(path: Path) -> bool:
    """Return whether a file of the cache holds an undamaged md5."""
    content = path.read_text("ascii", "replace") if path.is_file() else ""
    return content == _with_digest(content[:32])


def has_ended(process: int) -> bool:
    """Return whether no process of this machine has this number."""
    if sys.platform == "win32":  # there the signal would end the process
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def _with_digest(md5: str) -> str:
    return f"{md5} {fingerprint(md5)}"


@contextmanager
def replacing(path: Path, elsewhere: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which replaces `path` if the block succeeds.

    A reader sees the old file or the new one, never a part. If writing fails (no space, no
    permission), a `SelbenchError` is raised, in which `elsewhere` says how to choose another
    folder. Paths without a name, such as "" or ".", and devices or pipes, such as /dev/stdout, are
    refused. A file keeps its permissions; a link is replaced, not its target. A file for a URL is
    written on this machine and uploaded when complete.
    """
    if isinstance(path, UrlPath):
        with tempfile.TemporaryDirectory() as folder:
            near = Path(folder) / path.name
            with replacing(near, "TMPDIR for temporary files") as temporary:
                yield temporary
            path.put(near)
        return
    refuse_special(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_MARK}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        kept = path if path.is_file() and not path.is_symlink() else temporary
        mode = stat.S_IMODE(kept.stat().st_mode)
        yield temporary
        force(temporary)
        temporary.chmod(mode)  # safetensors writes files that nobody else can read
        temporary.replace(path)
    except (OSError, SafetensorError) as problem:  # SafetensorError wraps errors of the disk
        raise cannot_write(path, problem, elsewhere) from problem
    finally:
        with suppress(OSError):  # already gone after success
            temporary.unlink()


def force(path: Path) -> None:
    """Wait until the file's content is on the disk, so that it survives a power cut."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def refuse_special(path: Path) -> None:
    """Raise `SelbenchError` for a path without a name, and for a device or a pipe."""
    if not path.name:
        raise SelbenchError(f"cannot write {path}: it is a folder, or empty; name a file")
    if _is_special(path):
        raise SelbenchError(
            f"cannot write {path}: a file would take the place of a device or a pipe; name another"
        )


def _is_special(path: Path) -> bool:
    """Return whether a path belongs to the system, or is neither a file nor a folder."""
    try:
        folder = path.parent.resolve()
        system = folder == Path("/dev") or folder.is_relative_to("/proc")
        return system or (path.exists() and not (path.is_file() or path.is_dir()))
    except (OSError, ValueError, RuntimeError):  # writing will report the problem
        return False


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """Yield a local file with the content of `path`: itself, or a temporary copy of a URL's.

    If there is no file at the URL, the copy does not exist either.
    """
    if not isinstance(path, UrlPath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with suppress(FileNotFoundError):
            copy.write_bytes(path.read_bytes())
        yield copy


def writable(folder: Path) -> bool:
    """Return whether this process may create files in `folder`."""
    return os.access(folder, os.W_OK | os.X_OK)


def cannot_write(
    path: Path, problem: OSError | SafetensorError, elsewhere: str = ELSEWHERE
) -> SelbenchError:
    """Build the error that says why `path` cannot be written, and where else to write."""
    reason = getattr(problem, "strerror", None) or problem
    return SelbenchError(
        f"cannot write {path}: {reason}; make room or permission there, or "
        f"choose another folder ({elsewhere})"
    )


def write_text(path: Path, text: str, elsewhere: str = ELSEWHERE) -> None:
    """Write `text` to `path` completely or not at all; for `elsewhere` see `replacing`."""
    with replacing(path, elsewhere) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")  # the same bytes on every system


def write_json(path: Path, value: Any, elsewhere: str = ELSEWHERE) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text, elsewhere)


def read_json(path: Path) -> Any:
    """Read a JSON file; if it is damaged, raise `SelbenchError` with its name."""
    return parse_json(path, path.read_bytes() if isinstance(path, UrlPath) else content_of(path))


def parse_json(path: Path, content: bytes) -> Any:
    """Parse the content of a JSON file; if it is damaged, raise `SelbenchError` with its name."""
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as problem:  # not UTF-8, not JSON, or too long or too deep
        raise damaged(path, problem) from problem


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of a user; raise `SelbenchError` if that fails."""
    try:
        text = content_of(path, TOML).decode("utf-8-sig")  # some editors write a byte order mark
        content = tomllib.loads(text)
        _check_64_bits(path, "", content)
    except FileNotFoundError as problem:
        raise SelbenchError(f"cannot read {path}: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SelbenchError(f"{path} is not valid TOML: {in_short(problem)}") from problem
    except ValueError as problem:  # a number with thousands of digits
        lines = [line.strip() for line in text.splitlines() if re.search(r"[\d_]{4300}", line)]
        raise _large(path, f"{(lines or [''])[0]:.40}...") from problem
    except RecursionError as problem:
        raise SelbenchError(f"{path} is not valid TOML: it is nested too deep") from problem
    return content


def _check_64_bits(path: Path, key: str, value: Any) -> None:
    """Raise `SelbenchError` for integers of more than 64 bits, which TOML does not allow."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_64_bits(path, f"{key}.{name}".removeprefix("."), each)
    elif isinstance(value, list):
        for each in value:
            _check_64_bits(path, key, each)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _large(path, key)


def _large(path: Path, what: str) -> SelbenchError:
    return SelbenchError(
        f"{path}: {what:.60} has a whole number of more than 64 bits; write a smaller one"
    )
