"""The images to corrupt: a data set's test images or those of a folder, read in parts."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby, repeat
from pathlib import Path

import torch
from pydantic import TypeAdapter

from selbench._kit.errors import DamagedError, SelbenchError, unknown
from selbench._kit.files import DIGEST, fingerprint, home, read_json, sealed, unsealed, write_json
from selbench._kit.progress import SILENT, Progress
from selbench._kit.types import Labels, Pixels
from selbench.datasets import DATASETS, Dataset
from selbench.datasets.dataset import decoded
from selbench.datasets.frame import Frame
from selbench.datasets.images import DECODING, Picture, decode_image, decode_images
from selbench.datasets.tree import Tree, find_parts, read_tree, tell_left_out

VALUES = {"cpu": 2**21, "cuda": 2**24}  # values that are read at once; bounds the memory
SURVEYED = 32  # files of unknown size that are decoded at once
KEPT = 2**28  # values of decoded images that are kept, since each is read for every level


@dataclass(frozen=True)
class Survey:
    """Facts that need all images to be read: their sizes (height, width) and their checksum.

    If all images have one size, the checksum is that of `selbench.datasets.Split`.
    """

    sizes: tuple[tuple[int, int], ...]
    checksum: str


@dataclass(frozen=True)
class Source:
    """Images in order.

    Attributes:
        name: the name of the data set, or the folder's path.
        root: the folder of the images; None if they come with a library.
        classes: in the order of their numbers; () for none.
        labels: the class number of every image; None without classes.
        names: the file name of every image, unique in its class.
        read: returns the images at consecutive positions, which must have one size.
        survey: returns the facts on all images; reads them unless the facts are cached.
    """

    name: str
    root: Path | None
    classes: tuple[str, ...]
    labels: Labels | None
    names: tuple[str, ...]
    read: Callable[[range], Pixels]
    survey: Callable[[], Survey]

    def __len__(self) -> int:
        return len(self.names)

    def size(self) -> tuple[int, int]:
        """Return the height and width of all images; raise `SelbenchError` if they differ."""
        sizes = self.survey().sizes
        height, width = sizes[0]
        for name, size in zip(self.names, sizes, strict=True):
            if size != sizes[0]:
                raise SelbenchError(
                    f"the image {name} is {size[1]} x {size[0]} pixels, {self.names[0]} is "
                    f"{width} x {height}; a .npy file holds images of one size; use --format "
                    "folder for any sizes"
                )
        return height, width

    def batches(self, device: torch.device) -> list[range]:
        """Split the positions into ranges of one image size, small enough to be read at once."""
        parts, start = [], 0
        for (height, width), run in groupby(self.survey().sizes):
            stop = start + sum(1 for _ in run)
            rows = max(1, VALUES[device.type] // (3 * height * width))
            parts += [range(s, min(s + rows, stop)) for s in range(start, stop, rows)]
            start = stop
        return parts


def open_source(
    name: str, data: Path | None, progress: Progress, frame: Frame | None = None
) -> Source:
    """Return the images of `name`: a data set, with its folder `data`, or a folder.

    A name of a data set means its folder of that name only with a slash. A `frame` scales and crops
    image files.

    Raises:
        SelbenchError: if `name` is neither, and for missing images.
    """
    if name in DATASETS:
        return _open_dataset(name, data, progress, frame)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        hint = str(unknown("data set", name, DATASETS)).partition("; ")[2]
        raise SelbenchError(f"there is neither a folder nor a data set {name!r}; {hint}")
    if data is not None:
        raise a_folder(name)
    return _open_folder(folder, progress, frame)


def a_folder(name: str) -> SelbenchError:
    """Return the error for a folder that is given together with --data."""
    return SelbenchError(f"--data belongs to a data set's name; leave it out, {name} is a folder")


def _open_dataset(name: str, data: Path | None, progress: Progress, frame: Frame | None) -> Source:
    root = None if data is None else data.expanduser()
    return source_of(name, decoded(name, root, progress, frame), root)


def source_of(name: str, dataset: Dataset, root: Path | None) -> Source:
    """Return the test images of the data set `name`, which is in `root`."""
    split = dataset.test
    height, width = split.images.shape[2:]
    return Source(
        name,
        root,
        dataset.classes,
        split.labels,
        _numbered(len(split)),
        lambda rows: split.images[rows.start : rows.stop],
        lambda: Survey(((height, width),) * len(split), split.checksum),
    )


def _numbered(count: int) -> tuple[str, ...]:
    digits = len(str(count - 1))
    return tuple(f"{position:0{digits}}" for position in range(count))


def _open_folder(folder: Path, progress: Progress, frame: Frame | None) -> Source:
    place = find_parts(folder)[1]
    tree = read_tree(place)
    for name in tree.classes:
        _check_name(place, name)
    tell_left_out(folder, tree.left)
    labels = tree.labels(tree.classes) if tree.classes else None
    return Source(
        str(folder),
        folder,
        tree.classes,
        labels,
        _names(tree),
        _reader(tree.files, frame),
        cache(lambda: _survey(tree.files, labels, progress, frame)),
    )


def _reader(paths: Sequence[Path], frame: Frame | None) -> Callable[[range], Pixels]:
    kept: dict[range, Pixels] = {}

    def read(rows: range) -> Pixels:
        if rows in kept:
            return kept[rows]
        images = decode_images(paths[rows.start : rows.stop], SILENT, "", frame)
        if sum(each.numel() for each in list(kept.values())) + images.numel() <= KEPT:
            kept[rows] = images
        return images

    return read


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SelbenchError(f"cannot read {problem.filename}: {problem.strerror}") from problem


def _check_name(folder: Path, name: str) -> None:
    """Raise `SelbenchError` for a class name that a set's description cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError as problem:
        raise SelbenchError(
            f"the class folder {str(folder / name)!r} has a name that is not UTF-8; rename it"
        ) from problem


def _names(tree: Tree) -> tuple[str, ...]:
    """Return unique names of files such that, within each class, their copies sort like them."""
    names = [""] * len(tree.files)
    members = defaultdict[int, list[int]](list)
    for place, number in enumerate(tree.numbers):
        members[number].append(place)
    for places in members.values():
        distinct = _distinct([tree.files[place] for place in places])
        for place, name in zip(places, distinct, strict=True):
            names[place] = name
    return tuple(names)


def _distinct(files: list[Path]) -> list[str]:
    """Return names of files such that the copies NAME.JPEG are distinct and sort like `files`.

    Names have no suffix if that is enough on any file system; else a suffix, or a number.
    """
    width = len(str(len(files)))
    numbered = [f"{number:0{width}}-{path.name}" for number, path in enumerate(files)]
    for names in ([path.stem for path in files], [path.name for path in files]):
        copies = [f"{name}.JPEG" for name in names]
        if len({name.casefold() for name in names}) == len(names) and copies == sorted(copies):
            return names
    return numbered


def _survey(
    paths: Sequence[Path], labels: Labels | None, progress: Progress, frame: Frame | None
) -> Survey:
    """Read every file once, and cache the facts until a file changes."""
    with _reading():
        status = [(str(path.absolute()), path.stat()) for path in paths]
    files = [(name, each.st_size, each.st_mtime_ns) for name, each in status]
    numbers = None if labels is None else labels.tolist()
    stamp = fingerprint([DECODING, numbers, files, *([str(frame)] if frame else [])])
    kept = home() / "surveys" / f"{stamp}.json"
    if kept.is_file():
        with suppress(ValueError, DamagedError):  # a damaged survey is repeated
            return survey_in(kept)
    survey = _look(paths, labels, progress, frame)
    write_json(kept, sealed({"sizes": survey.sizes, "checksum": survey.checksum}))
    return survey


def survey_in(path: Path) -> Survey:
    """Read a cached survey; raise ValueError or DamagedError if it is damaged."""
    content = read_json(path)
    survey = TypeAdapter(Survey).validate_python(unsealed(content))
    if DIGEST not in content:
        raise ValueError("it is of an earlier version")
    return survey


def _look(
    paths: Sequence[Path], labels: Labels | None, progress: Progress, frame: Frame | None
) -> Survey:
    sizes: list[tuple[int, int]] = []
    digest = hashlib.sha256()
    with progress.track("read images", len(paths)) as step:
        for image in _decoded(paths, frame):
            if not sizes:
                digest.update(repr((len(paths), 3, *image.shape[:2])).encode())
            sizes.append((image.shape[0], image.shape[1]))
            digest.update(image.data)
            step()
    if len(set(sizes)) > 1:
        digest.update(repr(sizes).encode())
    if labels is not None:
        digest.update(labels.numpy().data)
    return Survey(tuple(sizes), digest.hexdigest()[:16])


def _decoded(paths: Sequence[Path], frame: Frame | None) -> Iterator[Picture]:
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), SURVEYED):
            yield from pool.map(decode_image, paths[start : start + SURVEYED], repeat(frame))
