"""Where things live on disk, what identifies them, and how they are written whole or not at all."""

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
BLOCK = 2**20  # bytes that are read at once
_MARK = secrets.token_hex(4)  # processes of several machines may have one number
DIGEST = "digest"  # of everything else in a file
# How to choose a folder.
ELSEWHERE = "--store for results, SELBENCH_HOME for data and weights, its own option for any other"


def home() -> Path:
    """Return the folder of data sets, trained weights and caches.

    It is the user's cache folder, or what the environment variable SELBENCH_HOME says.
    """
    named = os.environ.get("SELBENCH_HOME")
    return Path(named or platformdirs.user_cache_path("selbench")).expanduser()


def fingerprint(value: Any) -> str:
    """Hash anything that JSON can hold to 16 hexadecimal digits; the order of keys is no matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold with a digest of it, for `unsealed`."""
    return {**content, DIGEST: fingerprint(content)}


def unsealed(content: Any) -> dict[str, Any]:
    """Return what was sealed; raises `ValueError` where that has changed since.

    What says no digest is returned as it is: an earlier version may have written it.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no record")
    rest = {name: value for name, value in content.items() if name != DIGEST}
    if DIGEST in content and content[DIGEST] != fingerprint(rest):
        raise ValueError(UNLIKE)
    return rest


def md5_of(*paths: Path) -> str:
    """Return the md5 of a file, or of several in a row.

    It comes from the cache folder where the files are unchanged since.
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
    write_text(kept, _vouched(digest.hexdigest()))
    return digest.hexdigest()


def is_md5(path: Path) -> bool:
    """Say whether a file of the cache holds an md5 as it was written."""
    content = path.read_text("ascii", "replace") if path.is_file() else ""
    return content == _vouched(content[:32])


def has_ended(process: int) -> bool:
    """Say whether no process of this machine has a number; not of other machines'."""
    if sys.platform == "win32":  # a signal would end it
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def _vouched(md5: str) -> str:
    return f"{md5} {fingerprint(md5)}"


@contextmanager
def replacing(path: Path, elsewhere: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` once the block succeeded.

    A reader sees the old file or the new one, never a part. What stops a write (no space, no
    permission) is raised as `SelbenchError`; `elsewhere` says how another folder is chosen.
    So is a path without a name, such as "" or ".", and one whose place no file must take: a device,
    a pipe, /dev/stdout. Permissions of a file stay; a link is replaced, not what it points to. What
    goes to a URL is written on this machine, and put there whole.
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
        temporary.chmod(mode)  # safetensors leaves files that nobody else can read
        temporary.replace(path)
    except (OSError, SafetensorError) as problem:  # the latter wraps what the disk says
        raise cannot_write(path, problem, elsewhere) from problem
    finally:
        with suppress(OSError):  # after success it is gone already
            temporary.unlink()


def force(path: Path) -> None:
    """Return once the disk holds what a file holds: a power cut then leaves it whole."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def refuse_special(path: Path) -> None:
    """Raise `SelbenchError` for a path whose place no file must take, or without a name."""
    if not path.name:
        raise SelbenchError(f"cannot write {path}: it is a folder, or empty; name a file")
    if _is_special(path):
        raise SelbenchError(
            f"cannot write {path}: a file would take the place of a device or a pipe; name another"
        )


def _is_special(path: Path) -> bool:
    """Say whether the system keeps this place, or something there is neither file nor folder."""
    try:
        folder = path.parent.resolve()
        system = folder == Path("/dev") or folder.is_relative_to("/proc")
        return system or (path.exists() and not (path.is_file() or path.is_dir()))
    except (OSError, ValueError, RuntimeError):  # writing will say what is wrong
        return False


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """Yield a file of this machine with the content of `path`: itself, or a copy of what a URL has.

    Where there is none, neither is there one to be read.
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
    """Say whether this process may create files in `folder`."""
    return os.access(folder, os.W_OK | os.X_OK)


def cannot_write(
    path: Path, problem: OSError | SafetensorError, elsewhere: str = ELSEWHERE
) -> SelbenchError:
    """Say that `path` cannot be written, why, and where else things can go."""
    reason = getattr(problem, "strerror", None) or problem
    return SelbenchError(
        f"cannot write {path}: {reason}; make room or permission there, or "
        f"choose another folder ({elsewhere})"
    )


def write_text(path: Path, text: str, elsewhere: str = ELSEWHERE) -> None:
    """Write `text` to `path`, whole or not at all; `elsewhere` as of `replacing`."""
    with replacing(path, elsewhere) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")  # equal bytes everywhere


def write_json(path: Path, value: Any, elsewhere: str = ELSEWHERE) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values are equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text, elsewhere)


def read_json(path: Path) -> Any:
    """Read a JSON file; a damaged one raises `SelbenchError` with its name."""
    return parse_json(path, path.read_bytes() if isinstance(path, UrlPath) else content_of(path))


def parse_json(path: Path, content: bytes) -> Any:
    """Return what the content of a JSON file says; damage raises `SelbenchError` with its name."""
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as problem:  # no UTF-8, no JSON, endless numbers or nests
        raise damaged(path, problem) from problem


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that a user wrote; one that cannot be read raises `SelbenchError`."""
    try:
        text = content_of(path, TOML).decode("utf-8-sig")  # editors write a mark
        content = tomllib.loads(text)
        _check_64_bits(path, "", content)
    except FileNotFoundError as problem:
        raise SelbenchError(f"cannot read {path}: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SelbenchError(f"{path} is not valid TOML: {in_short(problem)}") from problem
    except ValueError as problem:  # of a number of thousands of digits
        lines = [line.strip() for line in text.splitlines() if re.search(r"[\d_]{4300}", line)]
        raise _large(path, f"{(lines or [''])[0]:.40}...") from problem
    except RecursionError as problem:
        raise SelbenchError(f"{path} is not valid TOML: it is nested too deep") from problem
    return content


def _check_64_bits(path: Path, key: str, value: Any) -> None:
    """Raise `SelbenchError` for whole numbers of more than 64 bits, which TOML has none of."""
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
