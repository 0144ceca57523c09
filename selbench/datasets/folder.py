"""Any data set that lies in folders: `train/<class>/*` and `test/<class>/*`."""

from pathlib import Path

import torch

from selbench.datasets.cache import Decoded, cached
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.images import SUFFIXES, decode_images
from selbench.errors import SelbenchError
from selbench.files import fingerprint, home, writable
from selbench.progress import Progress
from selbench.types import Labels

CACHE = ".selbench.safetensors"


@DATASETS
def folder(root: Path | None, progress: Progress) -> Dataset:
    """Image files of one size below `root`, in `train/<class>/` and `test/<class>/`.

    Classes are numbered in alphabetical order, files taken in that order. The decoded images are
    kept in `root`, or in the cache folder where `root` cannot be written; a changed, added or
    removed file makes them anew.
    """
    if root is None:
        raise SelbenchError(
            'dataset "folder" needs dataset.root (or --data): where train/ and test/ lie'
        )
    trees = {part: _list_tree(root, part) for part in ("train", "test")}
    classes, others = tuple(trees["train"]), tuple(trees["test"])
    if classes != others:
        lonely = min(set(classes) ^ set(others))
        raise SelbenchError(
            f"the class folder {lonely} is in only one of {root / 'train'} and {root / 'test'}; "
            "give both the same classes"
        )

    def decode() -> Decoded:
        train, test = trees["train"], trees["test"]
        images = decode_images(_flat(train), progress, "decode training images")
        others = decode_images(_flat(test), progress, "decode test images")
        if images.shape[1:] != others.shape[1:]:
            sizes = [f"{t.shape[3]} x {t.shape[2]} pixels" for t in (others, images)]
            raise SelbenchError(
                f"the images in {root / 'test'} are {sizes[0]}, those in {root / 'train'} "
                f"{sizes[1]}; all images of a data set must have one size"
            )
        return Decoded(classes, images, _labels(train), others, _labels(test))

    stamp = fingerprint(
        [_file_stamp(p, root) for t in trees.values() for ps in t.values() for p in ps]
    )
    return cached("folder", _cache_path(root), stamp, decode)


def list_images(path: Path) -> list[Path]:
    """Return the image files of one class in order; raises `SelbenchError` where there are none."""
    files = sorted(p for p in path.glob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    if not files:
        raise SelbenchError(
            f"the class folder {path} holds no images ({', '.join(sorted(SUFFIXES))})"
        )
    return files


def _list_tree(root: Path, part: str) -> dict[str, list[Path]]:
    top = root / part
    if not top.is_dir():
        raise SelbenchError(
            f"the folder {top} is missing; put images there as {part}/<class>/*, or point "
            "dataset.root (or --data) elsewhere"
        )
    classes = sorted(p for p in top.iterdir() if p.is_dir() and p.name[0] != ".")
    if len(classes) < 2:
        raise SelbenchError(
            f"{top} holds {len(classes)} class folders; a classifier needs at least 2"
        )
    return {path.name: list_images(path) for path in classes}


def _flat(tree: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in tree.values() for path in paths]


def _labels(tree: dict[str, list[Path]]) -> Labels:
    return torch.tensor([label for label, paths in enumerate(tree.values()) for _ in paths])


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
