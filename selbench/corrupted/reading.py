"""Read corrupted sets from disk, in either layout, and tell where they come from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corruptions import CORRUPTIONS
from selbench.corrupted.layout import LABELS, PUBLISHED, SEVERITIES, About, read_about
from selbench.datasets.dataset import Split, make_split
from selbench.datasets.download import RECEIPT
from selbench.datasets.folder import list_images
from selbench.datasets.images import decode_images
from selbench.errors import SelbenchError
from selbench.files import fingerprint, home, write_text
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
    """

    source: str
    checksum: str
    images: int
    load: Callable[[], Split]


@dataclass(frozen=True)
class CorruptedSet:
    """A corrupted set in `folder`.

    Attributes:
        classes: of the data set it belongs to, in the order of their numbers.
        size: height and width that its images must have.
        strict: whether only the published files will do.
    """

    folder: Path
    classes: tuple[str, ...]
    size: tuple[int, int]
    strict: bool = False

    @property
    def severities(self) -> Sequence[int]:
        """Those that the set has, in rising order."""
        about = read_about(self.folder)
        return SEVERITIES if about is None else about.severities

    def find(self, name: str, severity: int) -> Stored:
        """Return the images of a corruption at a severity.

        Raises:
            SelbenchError: for what is missing, cut off, of another shape or size, labelled with
                classes the data set does not have, or, if `strict`, not the published file.
        """
        if not self.folder.is_dir():
            raise SelbenchError(f"there is no folder {self.folder} to take corrupted images from")
        about = read_about(self.folder)
        if (self.folder / name).is_dir():
            return self._in_folders(name, severity, about)
        if (self.folder / f"{name}.npy").is_file():
            return self._in_arrays(name, severity, about)
        raise SelbenchError(
            f"{self.folder} holds neither {name}.npy nor a folder {name}; choose among its "
            "corruptions with --corruption, or take --source generated"
        )

    def _in_arrays(self, name: str, severity: int, about: About | None) -> Stored:
        path, labels_path = self.folder / f"{name}.npy", self.folder / LABELS
        images, labels = open_array(path, 4), open_array(labels_path, 1)
        severities = self.severities
        if len(images) % len(severities) or images.shape[3] != 3 or images.dtype != np.uint8:
            raise SelbenchError(
                f"{path} holds {images.dtype} of shape {images.shape}; expected are uint8 of "
                f"shape (n, height, width, 3), n a multiple of the {len(severities)} severities"
            )
        if len(labels) != len(images):
            raise SelbenchError(
                f"{labels_path} holds {len(labels)} labels for the {len(images)} images of "
                f"{path.name}; get both from one set"
            )
        count = len(images) // len(severities)
        first = list(severities).index(severity) * count
        part = labels[first : first + count].astype(np.int64)
        if part.min() < 0 or part.max() >= len(self.classes):
            raise SelbenchError(
                f"{labels_path} names class {part.max()}, the data set has the classes 0 to "
                f"{len(self.classes) - 1}"
            )
        self._check_size(path, images.shape[1:3])

        def load() -> Split:
            block = torch.from_numpy(np.array(images[first : first + count]))
            return make_split(block.permute(0, 3, 1, 2), torch.from_numpy(part))

        sums = [md5_of(path), md5_of(labels_path)]
        return Stored(
            self._source_of_array(path, sums, about), fingerprint([*sums, severity]), count, load
        )

    def _source_of_array(self, path: Path, sums: list[str], about: About | None) -> str:
        published = [PUBLISHED[path.stem], PUBLISHED["labels"]]
        if sums == published:
            return "official"
        if self.strict:
            which = path if sums[0] != published[0] else self.folder / LABELS
            raise SelbenchError(
                f"{which} is not the published file (its md5 does not match); download the set "
                "again, or name the folder with --source to use it as it is"
            )
        return _described(path.stem, about, "")

    def _in_folders(self, name: str, severity: int, about: About | None) -> Stored:
        place = self.folder / name / str(severity)
        if not place.is_dir():
            raise SelbenchError(
                f"the folder {place} of severity {severity} is missing; get the whole set"
            )
        if about is not None and severity not in about.parts[name].finished:
            raise SelbenchError(f"{place} is not finished; run the same `selbench corrupt` again")
        found = {path.name for path in place.iterdir() if path.is_dir()}
        if found != set(self.classes):
            lonely = min(found ^ set(self.classes))
            raise SelbenchError(
                f"the class {lonely} is in only one of {place} and the data set; give both the "
                "same classes"
            )
        files = [list_images(place / each) for each in self.classes]
        flat = [path for paths in files for path in paths]
        labels = torch.tensor([label for label, paths in enumerate(files) for _ in paths])

        def load() -> Split:
            images = decode_images(flat, SILENT, "")
            self._check_size(place, tuple(images.shape[2:]))
            return make_split(images, labels)

        stamp = [(f"{path.parent.name}/{path.name}", path.stat().st_size) for path in flat]
        source = _described(name, about, ", JPEG files")
        if (self.folder / RECEIPT).is_file():
            source = f"official: {UNPAIRED}"
        elif about is None and {len(paths) for paths in files} == {50} and len(files) == 200:
            source = f"official, not checked: {UNPAIRED}"  # as Tiny-ImageNet-C, which has no md5s
        return Stored(source, fingerprint(stamp), len(flat), load)

    def _check_size(self, path: Path, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise SelbenchError(
                f"the images of {path} are {size[1]} x {size[0]} pixels, the data set's "
                f"{self.size[1]} x {self.size[0]}; take the set that belongs to it"
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
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as problem:
        raise SelbenchError(f"{path} is missing; get the whole set") from problem
    except (OSError, ValueError, EOFError) as problem:
        raise SelbenchError(
            f"{path} is cut off or damaged ({problem}); get or make it again"
        ) from problem
    if not isinstance(array, np.ndarray) or array.ndim != axes or array.dtype.kind not in "ui":
        raise SelbenchError(f"{path} holds no array of integers with {axes} axes")
    if not len(array):
        raise SelbenchError(f"{path} is empty; get or make it again")
    return array


def md5_of(path: Path) -> str:
    """Return a file's md5, from the cache folder where the file is unchanged since."""
    status = path.stat()
    stamp = [str(path.absolute()), status.st_size, status.st_mtime_ns]
    kept = home() / "md5" / fingerprint(stamp)
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    write_text(kept, digest)
    return digest


def _described(name: str, about: About | None, how: str) -> str:
    if about is None:
        return "files"
    variant = about.parts[name].variant if name in about.parts else ""
    return f"files, generated{how}" + (f" ({variant})" if variant else "")


def corruptions_in(folder: Path) -> list[str]:
    """Return the corruptions of which a set has files, in the benchmark's order."""
    return [n for n in CORRUPTIONS if (folder / f"{n}.npy").is_file() or (folder / n).is_dir()]
