"""Any data set that lies in folders: `train/<class>/*` and `test/<class>/*`, or `val/`."""

from dataclasses import replace
from pathlib import Path

from selbench.datasets.cache import Decoded, cached
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.images import DECODING, decode_images
from selbench.datasets.tree import Tree, find_parts, read_tree, tell_left_out
from selbench.errors import SelbenchError
from selbench.files import fingerprint, home, writable
from selbench.progress import Progress

CACHE = ".selbench.safetensors"


@DATASETS
def folder(root: Path | None, progress: Progress) -> Dataset:
    """Image files of one size below `root`, in `train/<class>/` and `test/<class>/`.

    The latter may be `val/`; networks that are only evaluated need no training images. Classes are
    numbered in the alphabetical order of `train`, files taken in that order. The decoded images are
    kept in `root`, or in the cache folder where `root` cannot be written; a changed, added or
    removed file makes them anew.
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

    def decode() -> Decoded:
        others = decode_images(test.files, progress, "decode test images")
        if train is None:
            return Decoded(classes, others[:0], others.new_zeros(0).long(), others, labels)
        images = decode_images(train.files, progress, "decode training images")
        if images.shape[1:] != others.shape[1:]:
            sizes = [f"{t.shape[3]} x {t.shape[2]} pixels" for t in (others, images)]
            raise SelbenchError(
                f"the images in {places[1]} are {sizes[0]}, those in {places[0]} "
                f"{sizes[1]}; all images of a data set must have one size"
            )
        return Decoded(classes, images, train.labels(classes), others, labels)

    files = [*(train.files if train else ()), *test.files]
    stamp = fingerprint([DECODING, labels.tolist(), [_file_stamp(path, root) for path in files]])
    dataset = cached("folder", _cache_path(root), stamp, decode)
    return replace(dataset, classes=classes)


def _read_part(top: Path) -> Tree:
    tree = read_tree(top, labelled=True)
    if len(tree.classes) < 2:
        raise SelbenchError(
            f"{top} holds {len(tree.classes)} class folders; a classifier needs at least 2"
        )
    return tree


def _file_stamp(path: Path, root: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as problem:
        reason = f"{path} cannot be read ({problem.strerror}); delete or mend it"
        raise SelbenchError(reason) from problem
    return str(path.relative_to(root)), status.st_size, status.st_mtime_ns


def _cache_path(root: Path) -> Path:
    if writable(root):
        return root / CACHE
    return home() / "datasets" / f"folder-{fingerprint(str(root.absolute()))}.safetensors"
