"""What is corrupted: a data set's test images, or the images of a folder, read a part at a time."""

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

VALUES = {"cpu": 2**21, "cuda": 2**24}  # read at once: what bounds the memory
SURVEYED = 32  # files decoded at once, of sizes not known yet
KEPT = 2**28  # values of a folder's images kept after decoding, as each is read for every level


@dataclass(frozen=True)
class Survey:
    """What only reading all images tells: their sizes (height, width), and their checksum.

    The checksum is that of `selbench.datasets.Split` where all images have one size.
    """

    sizes: tuple[tuple[int, int], ...]
    checksum: str


@dataclass(frozen=True)
class Source:
    """Images in order.

    Attributes:
        name: of the data set, or the folder's path.
        root: the folder the images were found in; None where they came with a library.
        classes: in the order of their numbers; () where there are none.
        labels: class number of every image; None where there are no classes.
        names: what to call every image; none is twice in a class.
        read: returns the images at positions that follow each other, which must be of one size.
        survey: reads all of them, unless it is known from before how they are.
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
        """Return height and width of all images; raises `SelbenchError` where they differ."""
        sizes = self.survey().sizes
        height, width = sizes[0]
        for name, size in zip(self.names, sizes, strict=True):
            if size != sizes[0]:
                raise SelbenchError(
                    f"the image {name} is {size[1]} x {size[0]} pixels, {self.names[0]} is "
                    f"{width} x {height}; a .npy file holds images of one size, --format folder "
                    "takes any"
                )
        return height, width

    def batches(self, device: torch.device) -> list[range]:
        """Part the positions into neighbours of one size, few enough to be read at once."""
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
    """Return the images called `name`: a data set, whose images lie in `data`, or a folder.

    A folder of a data set's name is meant only where `name` contains a slash. A `frame` scales and
    cuts image files.

    Raises:
        SelbenchError: for what is neither, and for images that are not there.
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
    """Return what is wrong with a folder in which --data names another."""
    return SelbenchError(f"--data belongs to a data set's name; leave it out, {name} is a folder")


def _open_dataset(name: str, data: Path | None, progress: Progress, frame: Frame | None) -> Source:
    root = None if data is None else data.expanduser()
    return source_of(name, decoded(name, root, progress, frame), root)


def source_of(name: str, dataset: Dataset, root: Path | None) -> Source:
    """Return the test images of a data set called `name`, which was found in `root`."""
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
    """Raise `SelbenchError` where a set's description could not hold the name of a class."""
    try:
        name.encode()
    except UnicodeEncodeError as problem:
        raise SelbenchError(
            f"the class folder {str(folder / name)!r} has a name that is not UTF-8; rename it"
        ) from problem


def _names(tree: Tree) -> tuple[str, ...]:
    """Name the files, those of each class so that their copies sort as they do."""
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
    """Name files, so that a copy NAME.JPEG of each is another one and they sort as `files` do.

    Without their suffixes where that serves, on any file system; else with them, or numbered.
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
    """Look at every file once; what was seen is kept until a file changes."""
    with _reading():
        status = [(str(path.absolute()), path.stat()) for path in paths]
    files = [(name, each.st_size, each.st_mtime_ns) for name, each in status]
    numbers = None if labels is None else labels.tolist()
    stamp = fingerprint([DECODING, numbers, files, *([str(frame)] if frame else [])])
    kept = home() / "surveys" / f"{stamp}.json"
    if kept.is_file():
        with suppress(ValueError, DamagedError):  # a damaged one is made again
            return survey_in(kept)
    survey = _look(paths, labels, progress, frame)
    write_json(kept, sealed({"sizes": survey.sizes, "checksum": survey.checksum}))
    return survey


def survey_in(path: Path) -> Survey:
    """Read what a survey saw; ValueError or DamagedError where it is not what was written."""
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
