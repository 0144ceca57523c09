"""Tiny ImageNet (Le & Yang, 2015): the official tree of files."""

from pathlib import Path

import torch

from selbench._kit.errors import SelbenchError
from selbench._kit.files import home
from selbench._kit.progress import Progress
from selbench.datasets.cache import Files, cached_files
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.tree import ANNOTATIONS, list_images, read_annotations


@DATASETS
def tiny_imagenet(root: Path | None, progress: Progress) -> Dataset:
    """100,000 training images of 64 x 64 pixels in 200 classes; 10,000 more to test.

    The test images are the official validation images, as in Leavitt & Morcos, 2020,
    arXiv:2003.01262. Classes are sorted by WordNet id, as in the folders of Tiny-ImageNet-C, not as
    in `wnids.txt`. `root` is the folder `tiny-imagenet-200`; the default is the folder of
    `selbench download tiny-imagenet`.
    """
    folder = root or home() / "datasets" / "tiny-imagenet-200"
    annotations = folder / "val" / ANNOTATIONS
    if not annotations.is_file():
        raise SelbenchError(
            f"{annotations} is missing; run `selbench download tiny-imagenet`, or set dataset.root "
            "(or --data) to the unpacked folder tiny-imagenet-200"
        )
    path = home() / "datasets" / "tiny-imagenet.safetensors"
    # The cache is found by the annotations, since listing 110,000 files takes seconds.
    stamp = f"{folder.absolute()} {annotations.stat().st_size} {annotations.stat().st_mtime_ns}"
    return cached_files("tiny-imagenet", path, stamp, lambda: _list(folder), progress)


def _list(folder: Path) -> Files:
    if not (folder / "train").is_dir():
        raise SelbenchError(f"{folder / 'train'} is missing; unpack the archive again")
    classes = tuple(sorted(path.name for path in (folder / "train").iterdir() if path.is_dir()))
    train = [list_images(folder / "train" / name / "images") for name in classes]
    test = read_annotations(folder / "val")
    strangers = {name for _, name in test} - set(classes)
    if strangers:
        raise SelbenchError(
            f"{folder / 'train'} lacks the class folder {min(strangers)}; unpack the archive again"
        )
    return Files(
        classes,
        [path for paths in train for path in paths],
        torch.tensor([label for label, paths in enumerate(train) for _ in paths]),
        [path for path, _ in test],
        torch.tensor([classes.index(name) for _, name in test]),
    )
