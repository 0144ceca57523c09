"""A cache of decoded images, as arrays; a damaged file is written again."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint, replacing
from selbench._kit.progress import Progress
from selbench.datasets.dataset import Checksum, Dataset, make_split
from selbench.datasets.frame import Frame, cure
from selbench.datasets.images import decode_image, each_decoded

FORMAT = "1"
PARTS = ("train", "test")
UNKNOWN = "0" * 16  # placeholder of a checksum until all images are decoded


@dataclass(frozen=True)
class Decoded:
    """Decoded images and labels; classes in the order of their numbers."""

    classes: tuple[str, ...]
    train_images: UInt8[Tensor, "train 3 height width"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test 3 height width"]
    test_labels: Int64[Tensor, " test"]


@dataclass(frozen=True)
class Files:
    """Image files to decode, with their class numbers; the training files may be empty.

    Attributes:
        classes: in the order of their numbers.
        frame: scales and crops the images; None to keep them.
    """

    classes: tuple[str, ...]
    train: Sequence[Path]
    train_labels: Int64[Tensor, " train"]
    test: Sequence[Path]
    test_labels: Int64[Tensor, " test"]
    frame: Frame | None = None


def cached_files(
    name: str, path: Path, stamp: str, files: Callable[[], Files], progress: Progress
) -> Dataset:
    """Return the data set cached at `path`, or decode its files into it; arguments as `cached`.

    Images are written to the cache one by one and mapped from it, so few are in memory at once.
    """
    dataset = _read(name, path, stamp)
    if dataset is None:
        _decode_to(path, stamp, files(), progress)
        dataset = _read(name, path, stamp)
    if dataset is None:
        raise SelbenchError(f"{path} changed while it was written; try again")
    return dataset


def _decode_to(path: Path, stamp: str, files: Files, progress: Progress) -> None:
    """Write the file that `_read` reads, one image at a time."""
    parts = (
        ("training", files.train, files.train_labels),
        ("test", files.test, files.test_labels),
    )
    first = files.test[0]
    shape = decode_image(first, files.frame).shape
    tensors = {f"{part}_labels": labels for part, (_, _, labels) in zip(PARTS, parts, strict=True)}
    shapes = {
        f"{part}_images": (len(labels), *shape)
        for part, (_, _, labels) in zip(PARTS, parts, strict=True)
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(stamp, files.classes, tensors, shapes, [UNKNOWN] * 2))
        for labels in tensors.values():
            file.write(labels.numpy().data)
        sums = []
        for kind, paths, labels in parts:
            digest = Checksum((len(paths), shape[2], *shape[:2]))
            images = each_decoded(
                paths, progress, f"decode {kind} images", files.frame, first, cure
            )
            for image in images if paths else ():
                file.write(image.data)
                digest.update(image.data)
            sums.append(digest.of(labels))
        file.seek(0)
        file.write(_header(stamp, files.classes, tensors, shapes, sums))


def _header(
    stamp: str,
    classes: tuple[str, ...],
    labels: Mapping[str, Tensor],
    images: Mapping[str, tuple[int, ...]],
    sums: Sequence[str],
) -> bytes:
    """Return the header of a safetensors file; its length does not depend on the checksums."""
    content: dict[str, Any] = {"__metadata__": _about(stamp, classes, sums)}
    start = 0
    for name, kind, shape, size in (
        *((name, "I64", tuple(tensor.shape), 8) for name, tensor in labels.items()),
        *((name, "U8", shape, 1) for name, shape in images.items()),
    ):
        end = start + size * prod(shape)
        content[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def cached(name: str, path: Path, stamp: str, decode: Callable[[], Decoded]) -> Dataset:
    """Return the data set cached at `path`, or decode it and cache it there.

    Args:
        name: the name of the data set.
        path: the cache file, in safetensors format.
        stamp: identifies the source files; a cache with another stamp is replaced.
        decode: returns the arrays.
    """
    dataset = _read(name, path, stamp)
    if dataset is None:
        dataset = _dataset(name, decode())
        _write(path, stamp, dataset)
    return dataset


def _dataset(name: str, arrays: Decoded) -> Dataset:
    train = make_split(arrays.train_images, arrays.train_labels)
    test = make_split(arrays.test_images, arrays.test_labels)
    return Dataset(name, arrays.classes, train, test)


def flaw(path: Path) -> str:
    """Return what is wrong with a cache file, "" if nothing; it may still be outdated."""
    return "" if _read("", path, None) is not None else f"it is damaged, or not of format {FORMAT}"


def _read(name: str, path: Path, stamp: str | None) -> Dataset | None:
    """Return the data set at `path`, or None if it is missing, outdated or damaged.

    Without a `stamp`, no file is outdated.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        if stamp not in (None, about.get("stamp")) or about.get("format") != FORMAT:
            return None
        tensors = safetensors.torch.load_file(path)
        classes = tuple(json.loads(about["classes"]))
        images, labels = ([tensors[f"{part}_{n}"] for part in PARTS] for n in ("images", "labels"))
        if {t.dtype for t in images} != {torch.uint8} or {t.dtype for t in labels} != {torch.int64}:
            return None
        pairs = zip(images, labels, strict=True)
        if any(i.shape[3:] != (3,) or i.shape[:1] != n.shape for i, n in pairs):
            return None
        train, test = (tensor.permute(0, 3, 1, 2) for tensor in images)
        dataset = _dataset(name, Decoded(classes, train, labels[0], test, labels[1]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError):
        return None  # a file of another program may hold anything
    sums = (dataset.train.checksum, dataset.test.checksum)
    return dataset if _about("", classes, sums)["checksums"] == about.get("checksums") else None


def _write(path: Path, stamp: str, dataset: Dataset) -> None:
    tensors: dict[str, Tensor] = {}
    for part, split in zip(PARTS, (dataset.train, dataset.test), strict=True):
        tensors[f"{part}_images"] = split.images.permute(0, 2, 3, 1).contiguous()
        tensors[f"{part}_labels"] = split.labels.to(torch.int64)
    about = _about(stamp, dataset.classes, (dataset.train.checksum, dataset.test.checksum))
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, about)


def _about(stamp: str, classes: tuple[str, ...], sums: Sequence[str]) -> dict[str, str]:
    return {
        "format": FORMAT,
        "stamp": stamp,
        "classes": json.dumps(classes),
        "checksums": " ".join([*sums, fingerprint(classes)]),
    }
