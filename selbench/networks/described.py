"""A user's description of a network."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from selbench._kit.errors import SelbenchError, unknown
from selbench.study import Channels


@dataclass(frozen=True)
class NetworkSpec:
    """A user's description of a network.

    Attributes:
        weights: the file of its weights; None if `spec` has weights.
        mean, std: normalisation per channel on [0, 1]; None for that of the source.
        spec: its source, such as "torchvision:resnet18"; "" for the study's architecture.
        pretrained: whether to use the published weights of the source.
        threat_model: that of a RobustBench network; None for Linf.
        input_size: side of its input images in pixels; None for that of the source.
        entry: which of several weights in the file to load; None for the usual.
        class_map: a file that maps outputs to classes of the data set.
        logits: which of several outputs are the logits: a key, or a number from 0.
        time_limit: seconds until it must answer; None for no limit.
    """

    weights: Path | None = None
    mean: Channels | None = None
    std: Channels | None = None
    spec: str = ""
    pretrained: bool = False
    threat_model: str | None = None
    input_size: int | None = None
    class_map: Path | None = None
    time_limit: float | None = None
    entry: str | None = None
    logits: str | None = None


def pair(specs: Sequence[str], weights: Sequence[Path], common: NetworkSpec) -> list[NetworkSpec]:
    """Return one description for each network of a command; other options are shared.

    Several files of weights belong to one spec, or each to the spec of the same position.

    Raises:
        SelbenchError: for an empty spec, and if the numbers of specs and files do not match.
    """
    if "" in specs:
        raise SelbenchError(
            "--model is empty; name a network, such as torchvision:resnet18, or leave --model out"
        )
    files: Sequence[Path | None] = weights or [None] * len(specs)
    if len(specs) == 1:
        specs = [*specs] * len(files)
    if len(specs) != len(files):
        raise SelbenchError(
            f"there are {len(specs)} --model and {len(files)} --weights; give one --weights for "
            "each, in the same order, or use one command per network: one store can hold "
            "them all"
        )
    return [
        replace(common, spec=spec, weights=file) for spec, file in zip(specs, files, strict=True)
    ]


def check_source(spec: str, kinds: Collection[str]) -> None:
    """Raise `SelbenchError` if the source of a network is missing; nothing is imported.

    Args:
        spec: KIND:NAME.
        kinds: the known kinds; others are files or modules with the user's code.
    """
    kind, _, name = spec.partition(":")
    if not name:
        raise SelbenchError(
            f"--model {spec!r} names no network; say KIND:NAME, where KIND is "
            f"{', '.join(sorted(kinds))}, the path of a .py file, or a Python module"
        )
    if kind in kinds:
        return
    where = spec.rpartition(":")[0]
    path = Path(where).expanduser()
    if path.suffix == ".py":
        if not path.is_file():
            raise SelbenchError(f"there is no file {path} for {spec}")
    elif not _is_module(where):
        raise unresolved(where, kinds)


def unresolved(where: str, kinds: Collection[str]) -> SelbenchError:
    """Return the error for a source that is neither a known kind nor a module."""
    problem = unknown("kind of model", where, [*sorted(kinds), "path/to/file.py", "package.module"])
    return SelbenchError(f"{problem}, as in torchvision:NAME (no module has that name either)")


def _is_module(where: str) -> bool:
    parts = where.split(".")
    if not all(map(str.isidentifier, parts)):
        return False
    with importable(Path.cwd()):
        return parts[0] in sys.modules or find_spec(parts[0]) is not None


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Look for modules in a folder first."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
