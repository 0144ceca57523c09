"""Any data set in folders: `train/<class>/*` and `test/<class>/*`, or `val/`."""

from dataclasses import replace
from pathlib import Path

from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint, home, writable
from selbench._kit.progress import Progress
from selbench.datasets.cache import Files, cached_files
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.frame import Frame
from selbench.datasets.images import DECODING
from selbench.datasets.tree import Tree, file_stamp, find_parts, read_tree, tell_left_out

CACHE = ".selbench.safetensors"


@DATASETS
def folder(root: Path | None, progress: Progress, frame: Frame | None = None) -> Dataset:
    """Image files in `root`/train/<class>/ and `root`/test/<class>/, of one size or framed.

    `test` may be called `val`; evaluation alone needs no training images. Classes and files are in
    alphabetical order, by the class folders of `train`. Decoded images are cached in `root`, or in
    the cache folder if `root` is read-only or there is a frame. A changed, added or removed file
    renews the cache.
    """
    if root is None:
        raise SelbenchError(
            'dataset "folder" needs dataset.root (or --data): where train/ and test/ lie'
        )
    places = find_parts(root)
    train = None if places[0] is None else _read_part(places[0])
    test = _read_part(places[1])
    classes = (train or test).classes
    if train and (lonely := set(train.classes) ^ set(test.classes)):
        raise SelbenchError(
            f"the class folder {min(lonely)} is in only one of {places[0]} and {places[1]}; "
            "both need the same classes"
        )
    tell_left_out(root, [*(train.left if train else ()), *test.left])
    labels = test.labels(classes)
    training = (train.files, train.labels(classes)) if train else ((), labels[:0])
    files = Files(classes, *training, test.files, labels, frame)
    stamps = [file_stamp(path, root) for path in (*files.train, *files.test)]
    stamp = fingerprint([DECODING, labels.tolist(), stamps])
    dataset = cached_files("folder", _cache_path(root, frame), stamp, lambda: files, progress)
    return replace(dataset, classes=classes)


def _read_part(top: Path) -> Tree:
    tree = read_tree(top, labelled=True)
    if len(tree.classes) < 2:
        raise SelbenchError(
            f"{top} holds {len(tree.classes)} class folders; a classifier needs at least 2"
        )
    return tree


def _cache_path(root: Path, frame: Frame | None) -> Path:
    if frame is None and writable(root):
        return root / CACHE
    place = str(root.absolute())
    number = fingerprint([place, str(frame)] if frame else place)
    return home() / "datasets" / f"folder-{number}.safetensors"
