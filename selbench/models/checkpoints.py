"""Read files of weights: safetensors or torch checkpoints, never a pickle that runs code."""

import argparse
import collections
import datetime
import pathlib
import re
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from selbench._kit.content import check_regular
from selbench._kit.errors import SelbenchError, in_short

State = dict[str, Tensor]
DEEPEST = 4  # levels of nesting that are searched for weights
BESIDE = ("optim", "sched", "scaler", "grad", "exp_avg", "momentum")  # tensors, but not weights
SNIFFED = 400  # first bytes that identify a file

# What training scripts save with weights: numbers of NumPy, arguments, plain containers. None of
# # these runs code from the file; torch's error message recommends to allow them.
_multiarray: Any = np._core.multiarray  # type: ignore[attr-defined]
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"},
    *(
        (function, f"numpy.{module}.multiarray.{function.__name__}")
        for function in (_multiarray.scalar, _multiarray._reconstruct)
        for module in ("core", "_core")  # of NumPy 1 and 2
    ),
    argparse.Namespace,
    types.SimpleNamespace,
    collections.defaultdict,
    pathlib.PosixPath,
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),  # its name in Python 3.13
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    datetime.datetime,
    datetime.date,
    datetime.timedelta,
    datetime.timezone,
    *(slice, range, list, dict, tuple, int, float, bool, str),
]


def states_in(path: Path) -> dict[str, State]:
    """Return every mapping from names to tensors in a checkpoint, by its path in it.

    Weights at the top have the path "", those of `{"ema": {"module": ...}}` "ema.module". Numbers,
    texts and the state of optimisers are left out.

    Raises:
        SelbenchError: for a missing file, a file without named tensors, and a pickle that needs
            types outside of `HARMLESS`.
    """
    if not path.is_dir():
        check_regular(path)
    if not path.is_file():
        kind = "a folder, not a checkpoint; name a file in it" if path.is_dir() else ""
        raise SelbenchError(f"{path} is {kind}" if kind else f"there is no checkpoint {path}")
    found = dict(_states(_content(path), ()))
    if not found:
        raise _not_weights(path, "it holds no tensors by name")
    return found


def _states(content: object, place: tuple[str, ...]) -> Iterator[tuple[str, State]]:
    """Collect the mappings of tensors in a checkpoint."""
    if not isinstance(content, Mapping) or len(place) > DEEPEST:
        return
    items = [(name, value) for name, value in content.items() if isinstance(name, str)]
    state = {name: tensor for name, value in items if (tensor := _tensor(value)) is not None}
    if any(tensor.ndim for tensor in state.values()):  # a single number is a loss or an accuracy
        yield ".".join(place), state
    for name, value in items:
        if not name.lower().startswith(BESIDE):
            yield from _states(value, (*place, name))


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(value.copy())
    return None


def _content(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(SNIFFED)
    _refuse_others(path, start)
    try:
        if path.suffix == ".safetensors" or _is_safetensors(start):
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as problem:
        raise _not_weights(path, in_short(problem)) from problem
    except Exception as problem:  # torch.load raises any exception on damaged bytes
        raise _unpickled(path, problem) from problem


def _unpickled(path: Path, problem: Exception) -> SelbenchError:
    """Return the error for a pickle that holds more than weights, or is damaged."""
    name = re.search(r"(?:GLOBAL|[Uu]nsupported class) (\S+)", str(problem))
    if name is None:
        detail = re.search(r"WeightsUnpickler error:\s*(\S.*)", str(problem))
        return _not_weights(path, detail[1].rstrip(".") if detail else type(problem).__name__)
    return SelbenchError(
        f"{path} is no safetensors file and no state dict that torch.load(weights_only=True) "
        f"accepts (it holds a {name[1]}, and loading that may run code); save model.state_dict() "
        "alone; if you trust the file, save that of torch.load(FILE, weights_only=False)"
    )


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**28


def _refuse_others(path: Path, start: bytes) -> None:
    """Refuse files whose first bytes show that they are no weights."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        raise SelbenchError(
            f"{path} is a web page, not a checkpoint; open its address in a browser, and download "
            "the file itself"
        )
    if text.startswith(b"version https://git-lfs"):
        raise SelbenchError(
            f"{path} is a pointer of git-lfs, not the checkpoint; fetch the file itself with "
            "`git lfs pull`"
        )
    kinds = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
    kinds |= {b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
    for mark, kind in kinds.items():
        if start.startswith(mark):
            raise SelbenchError(f"{path} is packed by {kind}; unpack it, and name the file inside")
    if not start:
        raise _not_weights(path, "it is empty")
    if start.startswith(b"PK"):
        _check_archive(path)
    elif _is_text(start):
        raise _not_weights(path, f"it is text: {start[:40].decode().splitlines()[0]!r}")
    elif start.startswith(b"\x89HDF"):
        raise _not_weights(path, "it is HDF5, as Keras saves it")


def _is_text(start: bytes) -> bool:
    try:
        return start.decode().isprintable() or bool(re.fullmatch(r"[^\x00-\x08]*", start.decode()))
    except UnicodeDecodeError:
        return False


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that is cut short or is not a state dict of torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as problem:
        raise _not_weights(path, "it is cut short; download or copy it again") from problem
    if "constants.pkl" in names:
        raise SelbenchError(
            f"{path} is a TorchScript archive, a whole network; load it with torch.jit.load, in a "
            "function that --model file.py:FUNCTION names, or for selbench.evaluate"
        )
    if "archive_format" in names or any(name.endswith("exported_program.json") for name in names):
        raise SelbenchError(
            f"{path} is a program of torch.export, a whole network; load it with "
            "torch.export.load(FILE).module(), in a function that --model file.py:FUNCTION names, "
            "or for selbench.evaluate"
        )
    if "data.pkl" not in names:
        raise SelbenchError(
            f"{path} is a zip archive without weights of torch; unpack it, and name the file inside"
        )


def _not_weights(path: Path, reason: str) -> SelbenchError:
    return SelbenchError(
        f"{path} is no safetensors file and no state dict that torch.load(weights_only=True) "
        f"accepts ({reason}); save model.state_dict()"
    )
