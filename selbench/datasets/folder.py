"""Any data set that lies in folders: `train/<class>/*` and `test/<class>/*`, or `val/`."""

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
    """Image files below `root`, in `train/<class>/` and `test/<class>/`, of one size or framed.

    The latter may be `val/`; networks that are only evaluated need no training images. Classes are
    numbered in the alphabetical order of `train`, files taken in that order. The decoded images are
    kept in `root`, or in the cache folder where `root` cannot be written or there is a frame; a
    changed, added or removed file has them made again.
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
            "give both the same classes"
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
