"""Decoded images are kept as arrays: decoding is done once, a damaged cache is made anew."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selbench.datasets.dataset import Dataset, make_split
from selbench.files import fingerprint, replacing

FORMAT = "1"
PARTS = ("train", "test")


@dataclass(frozen=True)
class Decoded:
    """Images and labels just decoded; classes in the order of their numbers."""

    classes: tuple[str, ...]
    train_images: UInt8[Tensor, "train 3 height width"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test 3 height width"]
    test_labels: Int64[Tensor, " test"]


def cached(name: str, path: Path, stamp: str, decode: Callable[[], Decoded]) -> Dataset:
    """Return the data set kept at `path`, or decode it and keep it there.

    Args:
        name: of the data set.
        path: of the cache file, in safetensors format.
        stamp: what the cache was made from; another stamp makes it anew.
        decode: makes the arrays.
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
    """Say what is wrong with a file of the cache, "" for nothing; it may be outdated."""
    return "" if _read("", path, None) is not None else f"it is damaged, or not of format {FORMAT}"


def _read(name: str, path: Path, stamp: str | None) -> Dataset | None:
    """Return what lies at `path`, or None where it is absent, outdated or damaged.

    Without a `stamp` of any.
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
        return None  # another's file may hold anything
    return dataset if _checksums(dataset) == about.get("checksums") else None


def _write(path: Path, stamp: str, dataset: Dataset) -> None:
    tensors: dict[str, Tensor] = {}
    for part, split in zip(PARTS, (dataset.train, dataset.test), strict=True):
        tensors[f"{part}_images"] = split.images.permute(0, 2, 3, 1).contiguous()
        tensors[f"{part}_labels"] = split.labels.to(torch.int64)
    about = {
        "format": FORMAT,
        "stamp": stamp,
        "classes": json.dumps(dataset.classes),
        "checksums": _checksums(dataset),
    }
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, about)


def _checksums(dataset: Dataset) -> str:
    return f"{dataset.train.checksum} {dataset.test.checksum} {fingerprint(dataset.classes)}"
