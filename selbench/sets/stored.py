"""Images of one condition on disk, read when they are needed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.files import md5_of
from selbench._kit.progress import SILENT
from selbench._kit.types import Examples, Labels, Pixels
from selbench.datasets.dataset import Split, chosen
from selbench.datasets.frame import Frame
from selbench.datasets.images import decode_images

Reader = Callable[[Examples], Pixels]  # from indices of images


@dataclass(frozen=True, eq=False)
class Stored:
    """Images of one condition, on disk.

    Attributes:
        source: "official" for the published files, else what is known of them.
        checksum: of images, labels and their order.
        labels: class numbers.
        read: returns images at indices, in channels_last memory.
        paired: whether they are known to be the test images in the same order.
        among: the classes among which to predict; None for all.
        places: the indices of these images in the condition; None for all.
    """

    source: str
    checksum: str
    labels: Labels
    read: Reader
    paired: bool = False
    among: Int64[Tensor, " among"] | None = None
    places: Examples | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def examples(self) -> Examples:
        """The indices among all images of the condition."""
        return torch.arange(len(self)) if self.places is None else self.places

    def limited(self, limit: int | None) -> "Stored":
        """Return `limit` of the images, chosen as by `selbench.datasets.limited`."""
        if limit is None or limit >= len(self):
            return self
        kept = chosen(self.labels, limit)
        read = partial(_read_some, self.read, kept)
        return replace(self, labels=self.labels[kept], read=read, places=kept)

    def to(self, device: torch.device) -> "Stored":
        """Return a copy with images on `device`."""
        among = None if self.among is None else self.among.to(device)
        return replace(self, labels=self.labels.to(device), among=among)

    def split(self, rows: slice = slice(None)) -> Split:
        """Return the images at some indices, or all, in memory."""
        images = self.read(torch.arange(len(self))[rows])
        split = Split(images, self.labels[rows], self.examples[rows], self.checksum)
        return split.to(self.labels.device)

    def batches(self, size: int) -> Iterator[Split]:
        """Yield the images in batches; the next batch is read while one is in use."""
        rows = [slice(start, start + size) for start in range(0, len(self), size)]
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.split, rows[0])
            for following in [*rows[1:], None]:
                part = ahead.result()
                if following is not None:
                    ahead = reader.submit(self.split, following)
                yield part


def _read_some(read: Reader, kept: Int64[Tensor, " kept"], places: Examples) -> Pixels:
    return read(kept[places])


def reader_of(
    files: Sequence[Path], top: Path, size: tuple[int, int], frame: Frame | None = None
) -> Reader:
    """Return a function that decodes image files below `top`, which must have `size` after framing.

    Raises:
        SelbenchError: if the first file has another size (height, width); later files are checked
            when they are read.
    """
    # For millions of files: equal names at several severities share memory.
    start = len(str(top)) + 1
    names = [sys.intern(str(path)[start:]) for path in files]

    def read(places: Examples) -> Pixels:
        paths = [top / names[place] for place in places.tolist()]
        images = decode_images(paths, SILENT, "", frame)
        check_size(top, tuple(images.shape[2:]), size)
        return images

    read(torch.arange(1))
    return read


def check_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise `SelbenchError` for images of another size (height, width) than the data set's."""
    if found != size:
        raise SelbenchError(
            f"the images of {path} are {found[1]} x {found[0]} pixels, the data set's "
            f"{size[1]} x {size[0]}; take the set that belongs to it"
        )


def content_of_all(paths: Sequence[Path]) -> list[str]:
    """Identify files by their names, their folders' names and their content."""
    sizes = [f"{path.parent.name}/{path.name} {path.stat().st_size}" for path in paths]
    return [*sizes, md5_of(*paths)]
