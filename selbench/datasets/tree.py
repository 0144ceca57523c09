"""Find image files: in a folder for each class, listed in annotations, or without classes."""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError
from selbench._kit.types import Labels
from selbench.datasets.images import suffixes

TESTS = ("test", "val", "valid", "validation")
ANNOTATIONS = "val_annotations.txt"  # of the official Tiny ImageNet, next to a folder `images`
LITTER = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "@eadir",
}  # of other systems
NAMED = 3  # of the files that were left out


@dataclass(frozen=True)
class Tree:
    """Image files in order.

    Attributes:
        classes: in the order of their numbers; () if there are none.
        files: all image files.
        numbers: the class number of each file.
        left: the other files, which are no images.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    numbers: tuple[int, ...]
    left: tuple[Path, ...]

    def labels(self, classes: Sequence[str]) -> Labels:
        """Return each file's class number in `classes`, which must include the tree's classes."""
        places = [classes.index(name) for name in self.classes] or [0]
        return torch.tensor([places[number] for number in self.numbers], dtype=torch.int64)


def composed(name: str) -> str:
    """Return a name in Unicode form NFC: systems differ in how they store accents."""
    return unicodedata.normalize("NFC", name)


def find_parts(root: Path) -> tuple[Path | None, Path]:
    """Return the folder of the training images, or None, and the folder of the test images.

    Test images are in test/, in val/ if test/ has no classes, or in `root` itself. Raises
    `SelbenchError` if they are missing.
    """
    if not root.is_dir():
        raise SelbenchError(
            f"there is no folder {root}; put images there as train/<class>/* and test/<class>/*, "
            "or point dataset.root (or --data) elsewhere"
        )
    train, tests = root / "train", [root / name for name in TESTS if (root / name).is_dir()]
    parted = [part for part in tests if is_annotated(part)]
    parted += [part for part in tests if _holds_folders(part)]
    classes = [path for path in _visible(root) if path.is_dir() and path not in (train, *tests)]
    if train.is_dir() and (parted or (tests and not classes)):
        return train, (parted or tests)[0]
    if parted:
        _tell_beside(root, parted[0], classes)
        return None, parted[0]
    if train.is_dir() and _holds_folders(train):
        raise SelbenchError(
            f"{root} holds train, and {root / 'test'} is missing; put test images there as "
            "test/<class>/* (or val/<class>/*), or name another folder"
        )
    return None, root


def _tell_beside(root: Path, part: Path, folders: Sequence[Path]) -> None:
    """Warn about folders of images next to the one that is used."""
    known = suffixes()
    full = [f.name for f in folders if any(p.suffix.lower() in known for p in _visible(f))]
    if full:
        more = f" and {len(full) - NAMED} more" if len(full) > NAMED else ""
        warnings.warn(
            f"the test images are those of {part}; other folders of images are left out: "
            f"{', '.join(full[:NAMED])}{more}",
            stacklevel=3,
        )


def read_tree(top: Path, labelled: bool = False) -> Tree:
    """List the images of a folder; `labelled` if they must have classes.

    Raises:
        SelbenchError: if there are no images, for a class without images, two classes of one name,
            and, unless `labelled`, for images outside of class folders.
    """
    left: list[Path] = []
    if is_annotated(top):
        return _annotated_tree(top)
    folders = class_folders(top)
    images, others = _sorted_out(_visible(top), {*folders.values()})
    if labelled:
        left += sorted([*images, *others])
    else:
        left += others
        if folders and images:
            raise SelbenchError(
                f"{top} holds both class folders and images ({next(iter(folders.values())).name}, "
                f"{images[0].name}); move one of them elsewhere"
            )
        if not folders and not images:
            raise SelbenchError(f"{top} holds no images that Pillow reads and no folders")
        if images:
            return Tree((), tuple(images), (0,) * len(images), tuple(left))
    lists = [list_images(path, left) for path in folders.values()]
    numbers = [number for number, paths in enumerate(lists) for _ in paths]
    flat = [path for paths in lists for path in paths]
    return Tree(tuple(folders), tuple(flat), tuple(numbers), tuple(left))


def class_folders(top: Path) -> dict[str, Path]:
    """Return the folders in `top` by the names of their classes, in alphabetical order.

    Raises `SelbenchError` for two of one name.
    """
    folders: dict[str, Path] = {}
    for path in _visible(top):
        if path.is_dir():
            other = folders.setdefault(composed(path.name), path)
            if other is not path:
                raise SelbenchError(
                    f"two class folders in {top} are named {composed(path.name)}, their accents "
                    "written in two ways; merge them"
                )
    return folders


def list_images(folder: Path, left: list[Path] | None = None) -> list[Path]:
    """Return the image files of one class in order, and add all other files to `left`.

    If it holds no images but a folder `images`, as in Tiny ImageNet, those files are returned.
    Raises `SelbenchError` if there are no images.
    """
    inner = folder / "images"
    inside = inner.is_dir()
    files, others = _sorted_out(_visible(folder), {inner} if inside else set())
    if not files and inside:
        files = list_images(inner, left)
    if not files:
        found = f" (there is {others[0].name})" if others else ""
        raise SelbenchError(
            f"the class folder {folder} holds no images that Pillow reads{found}; add some or "
            "remove it"
        )
    if left is not None:
        left += others
    return files


def _sorted_out(paths: Iterable[Path], known: set[Path]) -> tuple[list[Path], list[Path]]:
    """Return the images among paths, and all others but the `known`."""
    endings = suffixes()
    images: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if path not in known:
            (images if path.suffix.lower() in endings else others).append(path)
    return images, others


def file_stamp(path: Path, root: Path) -> tuple[str, int, int]:
    """Identify a file below `root` without reading it."""
    try:
        status = path.stat()
    except OSError as problem:
        reason = f"{path} cannot be read ({problem.strerror}); delete or repair it"
        raise SelbenchError(reason) from problem
    return str(path.relative_to(root)), status.st_size, status.st_mtime_ns


def tell_left_out(root: Path, left: Iterable[Path]) -> None:
    """Warn about files that are no images, in one line."""
    paths = list(left)
    if not paths:
        return
    shown = [p.relative_to(root).as_posix() + "/" * p.is_dir() for p in paths[:NAMED]]
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    many = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    warnings.warn(
        f"{many} left out of {root}, as Pillow reads no images there: {', '.join(shown)}{more}",
        stacklevel=3,
    )


def is_annotated(top: Path) -> bool:
    """Return whether a file lists the classes of the images, as in the official Tiny ImageNet."""
    return (top / ANNOTATIONS).is_file() and (top / "images").is_dir()


def read_annotations(top: Path) -> list[tuple[Path, str]]:
    """Return the validation images of Tiny ImageNet with their classes, in the order of the file.

    Raises `SelbenchError` for a damaged file.
    """
    path = top / ANNOTATIONS
    text = content_of(path).decode(errors="replace")
    lines = [line.split("\t")[:2] for line in text.rstrip().splitlines()]
    if not lines:
        raise SelbenchError(f"{path} is empty; unpack the archive again")
    for number, words in enumerate(lines, 1):
        if len(words) < 2:
            raise SelbenchError(
                f"{path}, line {number} names no image and class; unpack the archive again"
            )
    if len({name for name, _ in lines}) < len(lines):
        raise SelbenchError(f"{path} names an image twice; unpack the archive again")
    return [(top / "images" / name, label) for name, label in lines]


def _annotated_tree(top: Path) -> Tree:
    pairs = read_annotations(top)
    classes = tuple(sorted({label for _, label in pairs}))
    files = tuple(path for path, _ in pairs)
    among = {*files, top / "images", top / ANNOTATIONS}
    left = [path for path in (*_visible(top), *_visible(top / "images")) if path not in among]
    return Tree(classes, files, tuple(classes.index(label) for _, label in pairs), tuple(left))


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in _visible(folder))


def _visible(folder: Path) -> Iterator[Path]:
    """Return the entries of a folder, sorted, without hidden files and files of other systems."""
    try:
        seen = sorted(folder.iterdir(), key=lambda path: path.name)  # faster than sorting paths
    except OSError as problem:
        raise SelbenchError(
            f"cannot read the folder {folder}: {problem.strerror}; give it permissions, or name "
            "another"
        ) from problem
    return (p for p in seen if p.name[0] != "." and p.name.lower() not in LITTER)
