"""Convert a user's data in Python (tensors, arrays, loaders) to a data set of selbench."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Pixels
from selbench.datasets.dataset import Dataset, Split, make_split
from selbench.datasets.levels import CURE, labels_of, levels, numbered, pixels_first, tensor_of

CHUNK = 256  # images converted at once
TWICE = 8  # images read twice, to detect random transforms
IMAGES = ("images", "image", "img", "pixel_values", "x", "data")  # their keys in mappings
LABELS = ("labels", "label", "targets", "target", "fine_label", "y")
Outputs = Callable[[Pixels], int | None]


def dataset_of(given: object, outputs: Outputs) -> Dataset:
    """Return a data set of selbench from images and labels in one of the usual forms.

    Args:
        given: a `Dataset` or `Split`, a pair of arrays or tensors, a mapping of two, a data set or
            loader of torch, or any sequence of pairs.
        outputs: returns the number of the network's outputs, for data without known classes; None
            if unknown.

    Raises:
        SelbenchError: for data that is not certain to be images and labels, with what to do.
    """
    if isinstance(given, Dataset):
        return _of_ours(given, outputs)
    names = _names(given)
    split, texts = _split(given, names)
    classes = names or _numbers(split, outputs)
    (test,) = _numbered([split], classes, texts)
    return Dataset("data", classes, test, test)


def _of_ours(given: Dataset, outputs: Outputs) -> Dataset:
    """Return the data set with uint8 images and labels from 0; unchanged if it has them."""
    names = tuple(str(name) for name in given.classes)
    pairs = [_split(split, names) for split in (given.train, given.test)]
    classes = names or _numbers(pairs[1][0], outputs)
    texts = any(each for _, each in pairs)
    train, test = _numbered([split for split, _ in pairs], classes, texts)
    if train is given.train and test is given.test and classes == given.classes:
        return given
    return replace(given, classes=classes, train=train, test=test)


def _split(given: object, names: Sequence[str]) -> tuple[Split, bool]:
    """Return the split, and whether its labels were texts, whose numbers are certain."""
    if isinstance(given, Split) and _is_ours(given):
        return _summed(given), False
    chunks = list(_chunks(given))
    if not chunks:
        raise SelbenchError("there are no images; give at least one")
    images = torch.cat([each for each, _ in chunks])
    found = [labels_of(labels, len(each), names) for each, labels in chunks]
    labels, texts = torch.cat([each for each, _ in found]), any(texts for _, texts in found)
    split = make_split(images, labels)
    if isinstance(given, Split):
        split = replace(split, examples=tensor_of(given.examples, "examples").long())
    return split, texts


def _is_ours(split: Split) -> bool:
    images, labels = split.images, split.labels
    return (
        isinstance(images, Tensor)
        and isinstance(labels, Tensor)
        and (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        and images.ndim == 4
        and images.shape[1] == 3
        and labels.shape == images.shape[:1]
        and images.device == labels.device == torch.device("cpu")
    )


def _summed(split: Split) -> Split:
    """Return a split with the checksum of its images and labels, by which results are found."""
    levels(split.images, True)
    checksum = make_split(split.images, split.labels).checksum
    return split if checksum == split.checksum else replace(split, checksum=checksum)


def _numbers(split: Split, outputs: Outputs) -> tuple[str, ...]:
    """Return the class numbers as names."""
    number = outputs(split.images[:2]) or int(split.labels.max()) + 1
    return tuple(str(each) for each in range(max(number, 2)))


def _numbered(splits: list[Split], classes: Sequence[str], texts: bool) -> list[Split]:
    """Return the splits with labels numbered from 0."""
    labels = numbered([split.labels for split in splits], classes, texts)
    return [
        split
        if new is split.labels
        else replace(split, labels=new, checksum=make_split(split.images, new).checksum)
        for split, new in zip(splits, labels, strict=True)
    ]


def _names(given: object) -> tuple[str, ...]:
    """Return the class names of a data set of torch; () if it has none."""
    for _ in range(TWICE):
        names = getattr(given, "classes", None)
        if isinstance(names, list | tuple) and len(names) > 1:
            return tuple(str(name) for name in names)
        given = getattr(given, "dataset", None)
    return ()


def _chunks(given: object) -> Iterator[tuple[Pixels, Any]]:
    """Yield images and labels in batches."""
    unit: bool | None = None
    for images, labels in _batches(given):
        converted, unit = levels(pixels_first(images, _length(labels)), unit)
        yield converted, labels


def _batches(given: object) -> Iterator[tuple[Any, Any]]:
    if isinstance(given, Split):
        yield given.images, given.labels
    elif isinstance(given, Mapping):
        yield _of_mapping(given)
    elif isinstance(given, DataLoader):
        yield from _of_loader(given)
    elif _is_pair(given):
        pair: Any = given
        images, labels = pair
        if isinstance(images, list | tuple):
            _check_lengths(len(images), _length(labels))
            yield from _stacked(zip(images, labels, strict=True))
        else:
            yield images, labels
    elif isinstance(given, IterableDataset):
        yield from _stacked(map(_pair_of, given))
    elif _is_sequence(given):
        items: Any = given
        _check_transforms(items)
        yield from _stacked(_pair_of(items[place]) for place in range(len(items)))
    else:
        raise SelbenchError(
            "data is a pair of tensors, images and labels, or of arrays, a data set or loader of "
            "torch, or what selbench.datasets.load_dataset returns, got a "
            f"{type(given).__name__}"
        )


def _is_pair(given: object) -> bool:
    pair = isinstance(given, tuple | list) and len(given) == 2
    return pair and isinstance(given[0], list | Tensor | np.ndarray)  # type: ignore[index]


def _is_sequence(given: object) -> bool:
    if isinstance(given, str | bytes | tuple | Tensor | np.ndarray):
        return False
    return isinstance(given, TorchDataset | Sized) and hasattr(given, "__getitem__")


def _of_loader(loader: "DataLoader[Any]") -> Iterator[tuple[Any, Any]]:
    """Yield the batches of a loader, with each image once and in the data set's order."""
    if isinstance(loader.dataset, IterableDataset):
        yield from map(_pair_of, loader)
        return
    _check_transforms(loader.dataset)
    order = sorted(loader.sampler)
    if len(set(order)) < len(order):
        raise SelbenchError(
            f"{type(loader.sampler).__name__} of the loader draws images more than once; give the "
            "loader's dataset"
        )
    ordered = DataLoader(loader.dataset, CHUNK, sampler=order, collate_fn=loader.collate_fn)
    yield from map(_pair_of, ordered)


def _check_transforms(given: Any) -> None:
    """Refuse transforms that normalise or are random."""
    if _normalises(given, TWICE):
        raise SelbenchError(
            f"the transforms of the {type(given).__name__} normalise, and selbench corrupts and "
            f"attacks images in [0, 1]; {CURE}"
        )
    for place in range(min(TWICE, len(given))):
        one, other = (tensor_of(_pair_of(given[place])[0], "images") for _ in range(2))
        if one.shape != other.shape or not one.equal(other):
            raise SelbenchError(
                f"the transforms of the {type(given).__name__} are random: image {place} "
                "differs each time; use the transforms of evaluation"
            )


def _normalises(given: object, deep: int) -> bool:
    """Return whether a data set, or one that it wraps, has a Normalize among its transforms."""
    if given is None or deep == 0:
        return False
    if type(given).__name__ == "Normalize":
        return True
    inner = [getattr(given, n, None) for n in ("transform", "transforms", "dataset", "datasets")]
    parts = [p for each in inner for p in (each if isinstance(each, list | tuple) else [each])]
    return any(_normalises(part, deep - 1) for part in parts if part is not given)


def _of_mapping(given: Mapping[Any, Any]) -> tuple[Any, Any]:
    found = [[n for n in names if n in given] for names in (IMAGES, LABELS)]
    if not all(len(names) == 1 for names in found):
        raise SelbenchError(
            "a mapping of data has images and labels by these names, got "
            f"{', '.join(map(str, given))}"
        )
    return given[found[0][0]], given[found[1][0]]


def _pair_of(item: Any) -> tuple[Any, Any]:
    """Return the image and label of an item, or the images and labels of a batch."""
    if isinstance(item, Mapping):
        return _of_mapping(item)
    if not isinstance(item, tuple | list) or len(item) != 2:
        number = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise SelbenchError(
            f"data gives pairs of an image and its label, got a {type(item).__name__}{number}; "
            "wrap it so that it does"
        )
    return item[0], item[1]


def _stacked(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Tensor, list[Any]]]:
    """Stack single images; all must have one shape."""
    items, shape = iter(pairs), None
    while some := list(islice(items, CHUNK)):
        images = [tensor_of(image, "images") for image, _ in some]
        shape = images[0].shape if shape is None else shape
        for each in images:
            if each.shape != shape:
                raise SelbenchError(
                    f"images have several shapes, {tuple(shape)} and {tuple(each.shape)}; resize "
                    "and crop them to one"
                )
        yield torch.stack(images), [label for _, label in some]


def _length(labels: Any) -> int:
    try:
        return len(labels)
    except TypeError:
        raise SelbenchError(
            f"labels are class numbers, one for each image, got a {type(labels).__name__}"
        ) from None


def _check_lengths(images: int, labels: int) -> None:
    if images != labels:
        raise SelbenchError(f"there are {images} images and {labels} labels; give one for each")
