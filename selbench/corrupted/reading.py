"""Read corrupted sets from disk, in either layout, and tell where they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from selbench.content import check_regular
from selbench.corrupted.layout import LABELS, PUBLISHED, SEVERITIES, About, read_about
from selbench.datasets.dataset import Split, make_split
from selbench.datasets.download import RECEIPT
from selbench.datasets.images import decode_images
from selbench.datasets.tree import class_folders, composed, list_images
from selbench.errors import UNLIKE, SelbenchError, damaged
from selbench.files import fingerprint, home, md5_of
from selbench.progress import SILENT

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

# The published Tiny-ImageNet-C was made from other pictures than Tiny ImageNet's own.
UNPAIRED = "other pictures than the clean ones"


@dataclass(frozen=True)
class Stored:
    """One corruption at one severity, on disk.

    Attributes:
        source: "official" where the files are the published ones, else what is known of them.
        checksum: identifies images, labels and their order.
        images: how many they are.
        load: reads them.
        paired: whether they are known to be the test images, in the order of these.
    """

    source: str
    checksum: str
    images: int
    load: Callable[[], Split]
    paired: bool


@dataclass(frozen=True)
class CorruptedSet:
    """A corrupted set in `folder`.

    Attributes:
        classes: of the data set it belongs to, in the order of their numbers.
        test: the data set's test images, of which the set should be made.
        strict: whether only the published files will do.
    """

    folder: Path
    classes: tuple[str, ...]
    test: Split
    strict: bool = False

    @cached_property
    def about(self) -> About | None:
        """What the set says of itself."""
        return read_about(self.folder)

    @property
    def _named(self) -> tuple[str, ...]:
        """The classes, whatever way of writing accents they came with."""
        return tuple(map(composed, self.classes))

    @property
    def severities(self) -> Sequence[int]:
        """Those that the set has, in rising order."""
        return SEVERITIES if self.about is None else self.about.severities

    def holds(self, name: str) -> bool:
        """Say whether there are images of a corruption."""
        return (self.folder / f"{name}.npy").is_file() or (self.folder / name).is_dir()

    def find(self, name: str) -> list[Stored]:
        """Return the images of a corruption, severity by severity.

        Raises:
            SelbenchError: for what is missing, cut off, of another shape or size, labelled with
                classes the data set does not have, or, if `strict`, not what was published.
        """
        if not self.folder.is_dir():
            raise SelbenchError(f"there is no folder {self.folder} to take corrupted images from")
        if self.about is not None:
            self._check_account(self.about, name)
        if (self.folder / f"{name}.npy").is_file():
            return self._in_arrays(name)
        if (self.folder / name).is_dir():
            found = [self._in_folder(name, severity) for severity in self.severities]
            counts = {each.images for each in found}
            if len(counts) > 1:
                raise SelbenchError(
                    f"the severities of {self.folder / name} hold {min(counts)} to {max(counts)} "
                    "images; get the whole set"
                )
            return found
        raise SelbenchError(
            f"{self.folder} holds neither {name}.npy nor a folder {name}; choose among its "
            "corruptions with --corruption, or take --source generated"
        )

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

    def _in_arrays(self, name: str) -> list[Stored]:
        path, labels_path = self.folder / f"{name}.npy", self.folder / LABELS
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
        self._check_labels(labels_path, labels)
        self._check_size(path, images.shape[1:3])
        sums = [md5_of(path), md5_of(labels_path)]
        if self.about is not None:
            said = (self.about.parts[name].md5, self.about.labels)
            for each, own, known in zip((path, labels_path), sums, said, strict=True):
                if known not in ("", own):
                    raise damaged(each, UNLIKE, "run the same `selbench corrupt` again")
        source = self._source_of_array(path, sums)
        count = len(images) // blocks

        def stored(number: int, severity: int) -> Stored:
            rows = slice(number * count, (number + 1) * count)
            numbers = torch.from_numpy(labels[rows].astype(np.int64))

            def load() -> Split:
                block = torch.from_numpy(np.array(images[rows]))
                return make_split(block.permute(0, 3, 1, 2), numbers)

            paired = torch.equal(numbers, self.test.labels) and self._same_images
            described = source if paired else _marked(source, UNPAIRED)
            return Stored(described, fingerprint([*sums, severity]), count, load, paired)

        return [stored(number, severity) for number, severity in enumerate(self.severities)]

    @property
    def _same_images(self) -> bool:
        return self.about is None or self.about.data == self.test.checksum

    def _source_of_array(self, path: Path, sums: list[str]) -> str:
        published = [PUBLISHED.get(path.stem), PUBLISHED["labels"]]
        if sums == published:
            return "official"
        if self.strict:
            which = path if sums[0] != published[0] else self.folder / LABELS
            raise SelbenchError(
                f"{which} is not the published file (its md5 does not match); download the set "
                "again, or name the folder with --source to use it as it is"
            )
        return _described(path.stem, self.about)

    def _in_folder(self, name: str, severity: int) -> Stored:
        place = self.folder / name / str(severity)
        if not place.is_dir():
            raise SelbenchError(
                f"the folder {place} of severity {severity} is missing; get the whole set"
            )
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
        # The files lie class by class, and within a class in the order of the test images.
        order = self.test.labels.argsort(stable=True)
        paired = self.about is not None and torch.equal(self.test.labels[order], labels)
        paired = paired and self._same_images

        def load() -> Split:
            images = decode_images(flat, SILENT, "")
            self._check_size(place, tuple(images.shape[2:]))
            split = make_split(images, labels)
            return (
                replace(split.take(order.argsort()), examples=split.examples) if paired else split
            )

        source = self._source_of_tree(name, {len(paths) for paths in files})
        checksum = fingerprint([_stamp(path) for path in flat])
        return Stored(source, checksum, len(flat), load, paired)

    def _source_of_tree(self, name: str, per_class: set[int]) -> str:
        if (self.folder / RECEIPT).is_file():
            return _marked("official", UNPAIRED)
        if self.strict:
            raise SelbenchError(
                f"{self.folder} was not unpacked by `selbench download`; run it, or name the "
                "folder with --source to use it as it is"
            )
        if self.about is None and per_class == {50} and len(self.classes) == 200:
            return _marked("official", f"not checked, {UNPAIRED}")  # there are no published md5s
        source = _described(name, self.about, "JPEG files")
        return source if self.about is None or self._same_images else _marked(source, UNPAIRED)

    def _check_labels(self, path: Path, labels: Array) -> None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise SelbenchError(
                f"{path} names class {low if low < 0 else high}, the data set has the classes 0 to "
                f"{len(self.classes) - 1}"
            )

    def _check_size(self, path: Path, size: tuple[int, ...]) -> None:
        height, width = self.test.images.shape[2:]
        if size != (height, width):
            raise SelbenchError(
                f"the images of {path} are {size[1]} x {size[0]} pixels, the data set's "
                f"{width} x {height}; take the set that belongs to it"
            )


OFFICIAL = {"cifar10": "CIFAR-10-C", "tiny-imagenet": "Tiny-ImageNet-C"}  # by data set


def official_folder(dataset: str) -> Path:
    """Return where the official corrupted set of a data set lies, or is to be downloaded to.

    Raises `SelbenchError` for a data set without one, and where it is not there.
    """
    if dataset not in OFFICIAL:
        raise SelbenchError(
            f"no official corrupted set belongs to the data set {dataset}, only to "
            f"{' and '.join(OFFICIAL)}; name a folder with --source, or take --source generated"
        )
    folder = home() / "datasets" / OFFICIAL[dataset]
    if not folder.is_dir():
        raise SelbenchError(
            f"{folder} is missing; run `selbench download {dataset}-c`, or name "
            "the folder where it lies with --source"
        )
    return folder


def open_array(path: Path, axes: int) -> Array:
    """Map a .npy file of integers into memory; `axes` is how many it must have.

    Raises `SelbenchError` for a file that is missing, cut off, or holds something else.
    """
    check_regular(path)
    try:
        array: Array = open_memmap(path, mode="r")  # not np.load, which opens archives too
    except FileNotFoundError as problem:
        raise SelbenchError(f"{path} is missing; get the whole set") from problem
    except Exception as problem:  # NumPy's parser of headers raises whatever the bytes provoke
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise SelbenchError(
            f"{path} is cut off or damaged ({reason:.200}); get or make it again"
        ) from problem
    if array.ndim != axes or array.dtype.kind not in "ui":
        raise SelbenchError(f"{path} holds no array of integers with {axes} axes")
    if not len(array):
        raise SelbenchError(f"{path} is empty; get or make it again")
    return array


def _stamp(path: Path) -> tuple[str, int, int]:
    """Identify a file without reading it."""
    status = path.stat()
    return f"{path.parent.name}/{path.name}", status.st_size, status.st_mtime_ns


def _described(name: str, about: About | None, *marks: str) -> str:
    """Say what is known of files that are not the published ones."""
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
