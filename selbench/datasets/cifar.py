"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): pickles with the published md5, or binary files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint, home
from selbench._kit.progress import Progress
from selbench._kit.types import Labels, Pixels
from selbench.datasets.cache import Decoded, cached
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.tree import file_stamp

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

BINARY = "cifar-100-binary"  # folder of the binary version; torchvision names that of the pickles
PARTS = {"train": 50_000, "test": 10_000}
ROW = 2 + 3 * 32 * 32  # bytes: coarse label, fine label, three colour planes


@DATASETS
def cifar10(root: Path | None, progress: Progress) -> Dataset:
    """60,000 images of 32 x 32 pixels in 10 classes, 10,000 of them for testing.

    `root` holds `cifar-10-batches-py`; the default is the folder of `selbench download cifar10`.
    """
    from torchvision.datasets import CIFAR10

    return _checked("cifar10", CIFAR10, root)


@DATASETS
def cifar100(root: Path | None, progress: Progress) -> Dataset:
    """60,000 images of 32 x 32 pixels in 100 classes, 10,000 of them for testing.

    Classes are the fine labels. `root` holds `cifar-100-python` or `cifar-100-binary`; the default
    is the folder of `selbench download cifar100`.
    """
    from torchvision.datasets import CIFAR100

    folder = (root or home() / "datasets" / "cifar100") / BINARY
    if not folder.is_dir() or (folder.parent / CIFAR100.base_folder).is_dir():
        return _checked("cifar100", CIFAR100, root)
    path = home() / "datasets" / "cifar100.safetensors"
    # Unlike the pickles, these files have no published md5, so their content may differ.
    files = [file_stamp(each, folder) for each in sorted(folder.iterdir())]
    stamp = fingerprint([str(folder.absolute()), files])
    return cached("cifar100", path, stamp, lambda: _decode_binary(folder))


def _checked(name: str, kind: "type[CIFAR10]", root: Path | None) -> Dataset:
    """Return torchvision's data set, which unpickles only files with the published md5."""
    folder = root or home() / "datasets" / name
    if not (folder / kind.base_folder).is_dir():
        raise _missing(name, folder / kind.base_folder)
    path = home() / "datasets" / f"{name}.safetensors"
    return cached(name, path, str(folder.absolute()), lambda: _decode(name, kind, folder))


def _decode(name: str, kind: "type[CIFAR10]", folder: Path) -> Decoded:
    try:
        train, test = (kind(str(folder), train=part) for part in (True, False))
    except RuntimeError as problem:
        raise _missing(name, folder / kind.base_folder) from problem
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2) for part in (train, test)]
    labels = [torch.tensor(part.targets) for part in (train, test)]
    return Decoded(tuple(train.classes), images[0], labels[0], images[1], labels[1])


def _decode_binary(folder: Path) -> Decoded:
    names = _read(folder / "fine_label_names.txt").decode(errors="replace").split()
    (train, train_labels), (test, test_labels) = (
        _read_part(folder / f"{part}.bin", count, len(names)) for part, count in PARTS.items()
    )
    return Decoded(tuple(names), train, train_labels, test, test_labels)


def _read_part(path: Path, count: int, classes: int) -> tuple[Pixels, Labels]:
    content = _read(path)
    if len(content) != count * ROW:
        raise _damaged(path, f"it has {len(content)} bytes, not {count * ROW}")
    rows = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(count, ROW).copy())
    labels = rows[:, 1].long()
    if int(labels.max()) >= classes:
        raise _damaged(path, f"it names the class {int(labels.max())} of {classes}")
    return rows[:, 2:].reshape(count, 3, 32, 32), labels


def _read(path: Path) -> bytes:
    try:
        return content_of(path)
    except FileNotFoundError as problem:
        raise _damaged(path, "there is no such file") from problem


def _damaged(path: Path, reason: str) -> SelbenchError:
    return SelbenchError(f"{path} is not CIFAR-100's ({reason}); unpack the archive again")


def _missing(name: str, folder: Path) -> SelbenchError:
    also = f" or {BINARY}" if name == "cifar100" else ""
    return SelbenchError(
        f"{folder} is missing or damaged; run `selbench download {name}`, or set dataset.root (or "
        f"--data) to the folder that holds {folder.name}{also}"
    )
