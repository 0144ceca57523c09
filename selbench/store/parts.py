"""Files of unfinished work: the outcomes of every finished chunk of images.

The name of a file identifies its cells, apart from their limit, and its images. So runs with any
limit that has this chunk can use it. The chunk of a damaged file is made again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selbench._kit.errors import in_short
from selbench._kit.files import at_hand, fingerprint, replacing
from selbench._kit.places import file_names, remove_all
from selbench._kit.types import Examples
from selbench.store.adversarials import DIGEST, digest_of
from selbench.store.cells import Cell

FOLDER = "parts"
SUFFIX = ".safetensors"
Part = dict[str, Tensor]


def key_of(cells: Sequence[Cell]) -> str:
    """Return the key of the work of cells: a hash of all facts in their keys except the limit."""
    common = asdict(replace(cells[0], level=None, limit=None))
    return fingerprint([common, [cell.level for cell in cells]])


def served(cells: Iterable[Cell]) -> set[str]:
    """Return the keys of the work of cells on all images; cells may have any order."""
    works: dict[Cell, list[Cell]] = {}
    for cell in cells:
        if cell.limit is None and cell.level is not None:
            works.setdefault(replace(cell, level=None), []).append(cell)
    return {key_of(sorted(levels, key=lambda cell: cell.level or 0)) for levels in works.values()}


def name_of(cells: Sequence[Cell], examples: Examples) -> str:
    """Return the name of a chunk of images in the work of cells."""
    return f"{key_of(cells)}-{fingerprint(examples.tolist())}"


@dataclass(frozen=True)
class Parts:
    """The finished chunks of a study; without a `folder`, none are stored."""

    folder: Path | None = None

    def read(self, name: str) -> Part | None:
        """Return the chunk with a name; None if it is missing or damaged."""
        if self.folder is None or not (path := self.folder / f"{name}{SUFFIX}").is_file():
            return None
        try:
            return parse_part(path)
        except ValueError:
            return None

    def write(self, name: str, part: Part) -> None:
        """Write a finished chunk."""
        if self.folder is None:
            return
        with replacing(self.folder / f"{name}{SUFFIX}") as temporary:
            safetensors.torch.save_file(part, temporary, {"name": name, DIGEST: digest_of(part)})

    def remove(self, cells: Sequence[Cell]) -> None:
        """Remove all chunks of the work of cells."""
        if self.folder is not None:
            remove_all(of(self.files(), {key_of(cells)}))

    def files(self) -> list[Path]:
        """Return the files of all chunks."""
        if self.folder is None:
            return []
        names = sorted(name for name in file_names(self.folder) if name.endswith(SUFFIX))
        return [self.folder / name for name in names]


def of(files: Iterable[Path], keys: Collection[str]) -> list[Path]:
    """Return the files of the chunks of work with these keys."""
    return [path for path in files if path.name.partition("-")[0] in keys]


def parse_part(path: Path) -> Part:
    """Return the content of a chunk's file; raise ValueError if it is damaged."""
    try:
        with at_hand(path) as near, safe_open(near, framework="pt") as file:
            part = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts: dict[str, Any] = file.metadata() or {}
    except (SafetensorError, OSError) as problem:
        raise ValueError(f"it is damaged ({in_short(problem)})") from problem
    if (facts.get("name"), facts.get(DIGEST)) != (path.stem, digest_of(part)):
        raise ValueError("its content is not what was written")
    return part
