"""Where image files lie: in a folder for each class, named in annotations, or without classes."""

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
ANNOTATIONS = "val_annotations.txt"  # of the official Tiny ImageNet, beside a folder `images`
LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}  # of other systems
NAMED = 3  # of what was left out


@dataclass(frozen=True)
class Tree:
    """Image files in order.

    Attributes:
        classes: in the order of their numbers; () where there are none.
        files: all of them.
        numbers: of each file's class.
        left: what lies among them and is no image.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    numbers: tuple[int, ...]
    left: tuple[Path, ...]

    def labels(self, classes: Sequence[str]) -> Labels:
        """Return each file's class as its number among `classes`, which hold all of these."""
        places = [classes.index(name) for name in self.classes] or [0]
        return torch.tensor([places[number] for number in self.numbers], dtype=torch.int64)


def composed(name: str) -> str:
    """Return a name with accents as one character each: systems differ in how they write them."""
    return unicodedata.normalize("NFC", name)


def find_parts(root: Path) -> tuple[Path | None, Path]:
    """Return the folders of the training images, None where there are none, and of the test images.

    The latter are in test/, in val/ where test/ has no classes, or in `root` itself. Raises
    `SelbenchError` where they are missing.
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
    """Warn of folders of images beside the one whose images are taken."""
    known = suffixes()
    full = [f.name for f in folders if any(p.suffix.lower() in known for p in _visible(f))]
    if full:
        more = f" and {len(full) - NAMED} more" if len(full) > NAMED else ""
        warnings.warn(
            f"the test images are those of {part}; folders of images beside it are left out: "
            f"{', '.join(full[:NAMED])}{more}",
            stacklevel=3,
        )


def read_tree(top: Path, labelled: bool = False) -> Tree:
    """List the images of a folder; `labelled` if they must have classes.

    Raises:
        SelbenchError: where there are none, for a class without any, two classes of one name, and
            for images beside classes unless `labelled`, which leaves them out.
    """
    left: list[Path] = []
    if is_annotated(top):
        return _annotated_tree(top)
    folders = class_folders(top)
    files = [path for path in _visible(top) if path not in folders.values()]
    images = [path for path in files if path.suffix.lower() in suffixes()]
    if labelled:
        left += files
    else:
        left += [path for path in files if path not in set(images)]
        if folders and images:
            raise SelbenchError(
                f"{top} holds both class folders and images ({next(iter(folders.values())).name}, "
                f"{images[0].name}); move the one or the other elsewhere"
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
    """Return the image files of one class in order, and add what else there is to `left`.

    Where there are none but a folder `images`, as in Tiny ImageNet, its files are meant. Raises
    `SelbenchError` where there are none at all.
    """
    seen, known = list(_visible(folder)), suffixes()
    files = [path for path in seen if path.suffix.lower() in known]
    inner = folder / "images"
    if not files and inner.is_dir():
        files = list_images(inner, left)
    if not files:
        found = f" (there is {seen[0].name})" if seen else ""
        raise SelbenchError(
            f"the class folder {folder} holds no images that Pillow reads{found}; add some or "
            "remove it"
        )
    if left is not None:
        left += [path for path in seen if path not in {*files, inner}]
    return files


def file_stamp(path: Path, root: Path) -> tuple[str, int, int]:
    """Identify a file below `root` without reading it."""
    try:
        status = path.stat()
    except OSError as problem:
        reason = f"{path} cannot be read ({problem.strerror}); delete or mend it"
        raise SelbenchError(reason) from problem
    return str(path.relative_to(root)), status.st_size, status.st_mtime_ns


def tell_left_out(root: Path, left: Iterable[Path]) -> None:
    """Warn of what is no image, in one line."""
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
    """Say whether a file names the classes of the images, as in the official Tiny ImageNet."""
    return (top / ANNOTATIONS).is_file() and (top / "images").is_dir()


def read_annotations(top: Path) -> list[tuple[Path, str]]:
    """Return the validation images of Tiny ImageNet with their classes, in the file's order.

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
    """Return what lies in a folder in order, without hidden files and litter."""
    try:
        seen = sorted(folder.iterdir(), key=lambda path: path.name)  # faster than as paths
    except OSError as problem:
        raise SelbenchError(
            f"cannot read the folder {folder}: {problem.strerror}; give it permissions, or name "
            "another"
        ) from problem
    return (p for p in seen if p.name[0] != "." and p.name.lower() not in LITTER)
