"""Read corrupted sets from disk, in either layout, and find their source."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.lib.format import open_memmap
from torch import Tensor

from selbench._kit.content import check_regular
from selbench._kit.errors import UNLIKE, SelbenchError, damaged, in_short
from selbench._kit.files import fingerprint, md5_of
from selbench._kit.types import Examples, Labels, Pixels
from selbench.datasets.dataset import Split
from selbench.datasets.download import RECEIPT
from selbench.datasets.tree import class_folders, composed, list_images
from selbench.sets.layout import LABELS, SEVERITIES, About, read_about
from selbench.sets.releases import GROUPS, PUBLISHED
from selbench.sets.stored import Stored, check_size, content_of_all, reader_of

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

# The published Tiny-ImageNet-C was made from pictures that differ from Tiny ImageNet's.
UNPAIRED = "other pictures than the clean ones"
# Official trees have no published md5s: they are recognised by classes and numbers of images.
TREES = {200: f"not checked, {UNPAIRED}", 1000: "not checked"}
EACH = 50


@dataclass(frozen=True)
class CorruptedSet:
    """A corrupted set in `folder`.

    Attributes:
        classes: the classes of its data set, in the order of their numbers.
        test: the data set's test images, from which the set should be made.
        strict: whether only the published files are accepted.
        names: the names of the test images' files without suffix; () if unknown.
    """

    folder: Path
    classes: tuple[str, ...]
    test: Split
    strict: bool = False
    names: tuple[str, ...] = ()

    @cached_property
    def about(self) -> About | None:
        """The description in the set."""
        return read_about(self.folder)

    @property
    def _named(self) -> tuple[str, ...]:
        """The classes, with accents in Unicode form NFC."""
        return tuple(map(composed, self.classes))

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.test.images.shape[2:]
        return height, width

    @property
    def severities(self) -> Sequence[int]:
        """The severities that the set should have, rising."""
        return SEVERITIES if self.about is None else self.about.severities

    @cached_property
    def places(self) -> dict[str, Path]:
        """The path of each corruption: a file, or a folder with severities.

        Raises `SelbenchError` for a corruption with two paths, and if there is no folder.
        """
        if not self.folder.is_dir():
            raise SelbenchError(f"there is no folder {self.folder} of corrupted images")
        found: dict[str, Path] = {}
        for name, path in _places(self.folder):
            if name in found:
                raise SelbenchError(f"{name} lies in both {found[name]} and {path}; remove one")
            found[name] = path
        return found

    def holds(self, name: str) -> bool:
        """Return whether the set has images of a corruption, or should have."""
        return name in self.places or (self.about is not None and name in self.about.parts)

    def find(self, name: str) -> dict[int, Stored]:
        """Return the images of a corruption by severity; warn about missing severities.

        Raises:
            SelbenchError: for files that are missing, cut off, of another shape or size, with
                labels outside of the data set's classes, or, if `strict`, not the published ones.
        """
        places = self.places
        if self.about is not None:
            self._check_account(self.about, name)
        if name not in places:
            raise SelbenchError(
                f"{self.folder} holds neither {name}.npy nor a folder {name} with severities; "
                "choose among its corruptions with --corruption, or use --source generated"
            )
        place = places[name]
        return self._in_arrays(place) if place.suffix == ".npy" else self._in_folders(place)

    def _in_folders(self, place: Path) -> dict[int, Stored]:
        there = [each for each in self.severities if (place / str(each)).is_dir()]
        missing = [each for each in self.severities if each not in there]
        if missing and (self.strict or self.about):
            raise SelbenchError(
                f"the folder {place / str(missing[0])} of severity {missing[0]} is missing; get "
                "the whole set"
            )
        if missing:
            warnings.warn(
                f"{place} lacks severity {', '.join(map(str, missing))}, which is left out",
                stacklevel=2,
            )
        found = {severity: self._in_folder(place / str(severity)) for severity in there}
        counts = {len(each) for each in found.values()}
        if len(counts) > 1:
            raise SelbenchError(
                f"the severities of {place} hold {min(counts)} to {max(counts)} images; get the "
                "whole set"
            )
        if self.about is None:
            self._tell_counts(found[there[0]].labels)
        return found

    def _check_account(self, about: About, name: str) -> None:
        if name not in about.parts or set(about.parts[name].finished) != set(about.severities):
            raise SelbenchError(
                f"{name} in {self.folder} is not finished; run the same `selbench corrupt` again"
            )
        if tuple(map(composed, about.classes)) != self._named:
            raise SelbenchError(
                f"the set in {self.folder} has the classes {_named(about.classes)}, the data set "
                f"{_named(self.classes)}; take the set that belongs to it"
            )

    def _in_arrays(self, path: Path) -> dict[int, Stored]:
        labels_path = path.parent / LABELS
        images, labels = open_array(path, 4), open_array(labels_path, 1)
        blocks = len(self.severities)
        if len(images) % blocks or images.shape[3] != 3 or images.dtype != np.uint8:
            raise SelbenchError(
                f"{path} holds {images.dtype} of shape {images.shape}; expected are uint8 of "
                f"shape (n, height, width, 3), n a multiple of the {blocks} severities"
            )
        if len(labels) != len(images):
            raise SelbenchError(
                f"{labels_path} holds {len(labels)} labels for the {len(images)} images of "
                f"{path.name}; get both from one set"
            )
        count = len(images) // blocks
        if self.about is None and len(images) == len(self.test):
            raise SelbenchError(
                f"{path} holds {len(images)} images, as many as there are test images; five "
                "severities of each are needed, one after the other: get the whole set"
            )
        self._check_labels(labels_path, labels)
        check_size(path, images.shape[1:3], self._size)
        sums = [md5_of(path), md5_of(labels_path)]
        if self.about is not None:
            md5s = (self.about.parts[path.stem].md5, self.about.labels)
            for each, md5, known in zip((path, labels_path), sums, md5s, strict=True):
                if known not in ("", md5):
                    raise damaged(each, UNLIKE, "run the same `selbench corrupt` again")
        source = self._source_of_array(path, sums)
        found = {}
        for number, severity in enumerate(self.severities):
            rows = slice(number * count, (number + 1) * count)
            numbers = torch.from_numpy(labels[rows].astype(np.int64))
            alike = torch.equal(numbers, self.test.labels)
            if not alike:
                self._tell_other(labels_path, count)
            paired = alike and self._same_images
            described = source if paired else _marked(source, UNPAIRED)
            checksum = fingerprint([*sums, severity])
            found[severity] = Stored(described, checksum, numbers, _Block(images[rows]), paired)
        return found

    def _tell_other(self, path: Path, count: int) -> None:
        warnings.warn(
            f"{path} does not hold the labels of the {len(self.test)} test images in their order "
            f"({count} images a severity), so clean and corrupted accuracy are of different images",
            stacklevel=2,
        )

    @property
    def _same_images(self) -> bool:
        return self.about is None or self.about.data == self.test.checksum

    def _source_of_array(self, path: Path, sums: list[str]) -> str:
        known = [[table.get(path.stem), table["labels"]] for table in PUBLISHED.values()]
        if sums in known:
            return "official"
        if self.strict:
            which = path if sums[0] not in [each[0] for each in known] else path.parent / LABELS
            raise SelbenchError(
                f"{which} is not the published file (its md5 does not match); download the set "
                "again, or name the folder with --source to use it as it is"
            )
        return _described(path.stem, self.about)

    def _in_folder(self, place: Path) -> Stored:
        found = class_folders(place)
        if found.keys() != set(self._named):
            lonely = min(found.keys() ^ set(self._named))
            raise SelbenchError(
                f"the class {lonely} is in only one of {place} and the data set; give both the "
                "same classes"
            )
        files = [list_images(found[each]) for each in self._named]
        flat = [path for paths in files for path in paths]
        labels = torch.tensor([label for label, paths in enumerate(files) for _ in paths])
        # Files are sorted by class, and within a class in the order of the test images.
        order = self.test.labels.argsort(stable=True)
        in_order = self.about is not None and torch.equal(self.test.labels[order], labels)
        in_order, paired = in_order and self._same_images, False
        if self.about is None and self.names:
            flat, labels, paired = self._by_name(flat, labels)
        checksum = fingerprint(content_of_all(flat))
        if in_order:
            places = order.argsort()
            flat, labels = [flat[each] for each in places.tolist()], labels[places]
        source = self._source_of_tree(place.parent.name, {len(paths) for paths in files})
        return Stored(
            source, checksum, labels, reader_of(flat, place, self._size), in_order or paired
        )

    def _by_name(
        self, files: list[Path], labels: Int64[Tensor, " files"]
    ) -> tuple[list[Path], Int64[Tensor, " images"], bool]:
        """Return the images named like test images, in their order; all if a name is missing."""
        places = {path.stem: place for place, path in enumerate(files)}
        order = [places[name] for name in self.names if name in places]
        if len(order) < len(self.names) or not torch.equal(labels[order], self.test.labels):
            return files, labels, False
        return [files[place] for place in order], labels[order], True

    def _tell_counts(self, labels: Labels) -> None:
        """Warn if the number of images per class shows that they are not the test images."""
        counts = [each.bincount(minlength=len(self.classes)) for each in (labels, self.test.labels)]
        if not torch.equal(*counts):
            number = len(labels)
            warnings.warn(
                f"{self.folder} holds {number} images at each severity, and not those of each "
                f"class that the {len(self.test)} test images have, so clean and corrupted "
                "accuracy are of different images",
                stacklevel=2,
            )

    def _source_of_tree(self, name: str, per_class: set[int]) -> str:
        if (self.folder / RECEIPT).is_file():
            return _marked("official", UNPAIRED)
        if self.strict:
            raise SelbenchError(
                f"{self.folder} was not unpacked by `selbench download`; run it, or name the "
                "folder with --source to use it as it is"
            )
        if self.about is None and per_class == {EACH} and len(self.classes) in TREES:
            return _marked("official", TREES[len(self.classes)])
        source = _described(name, self.about, "JPEG files")
        return source if self.about is None or self._same_images else _marked(source, UNPAIRED)

    def _check_labels(self, path: Path, labels: Array) -> None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise SelbenchError(
                f"{path} names class {low if low < 0 else high}, the data set has the classes 0 to "
                f"{len(self.classes) - 1}"
            )


@dataclass(frozen=True)
class _Block:
    """One severity of an array on disk."""

    images: Array

    def __call__(self, places: Examples) -> Pixels:
        return torch.from_numpy(self.images[places.numpy()]).permute(0, 3, 1, 2)


def _places(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield corruptions and their paths, in the folder or in the folders of the archives."""
    for top in (folder, *(folder / name for name in GROUPS)):
        for path in sorted(top.iterdir()) if top.is_dir() else ():
            if path.suffix == ".npy" and path.name != LABELS:
                yield path.stem, path
            elif any((path / str(severity)).is_dir() for severity in SEVERITIES):
                yield path.name, path


def open_array(path: Path, axes: int) -> Array:
    """Map a .npy file of integers with `axes` axes into memory.

    Raises `SelbenchError` for a file that is missing, cut off, or holds something else.
    """
    check_regular(path)
    try:
        array: Array = open_memmap(path, mode="r")  # not np.load, which also opens archives
    except FileNotFoundError as problem:
        raise SelbenchError(f"{path} is missing; get the whole set") from problem
    except Exception as problem:  # NumPy's parser of headers raises any exception on damaged bytes
        raise SelbenchError(
            f"{path} is cut off or damaged ({in_short(problem)}); get or make it again"
        ) from problem
    if array.ndim != axes or array.dtype.kind not in "ui":
        raise SelbenchError(f"{path} holds no array of integers with {axes} axes")
    if not len(array):
        raise SelbenchError(f"{path} is empty; get or make it again")
    return array


def _described(name: str, about: About | None, *marks: str) -> str:
    """Return the source of files that are not the published ones."""
    if about is None:
        return "files"
    variant = about.parts[name].variant
    return _marked("files", "generated", *marks, *([variant] if variant else []))


def _marked(source: str, *marks: str) -> str:
    """Add marks: "files (generated)" and "procedural" make "files (generated, procedural)"."""
    head, _, inner = source.removesuffix(")").partition(" (")
    return f"{head} ({', '.join([*([inner] if inner else []), *marks])})"


def _named(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "") if classes else "none"
