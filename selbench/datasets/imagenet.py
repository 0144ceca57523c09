"""ImageNet's validation images (ILSVRC 2012; Russakovsky et al., 2015): the official files."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError, damaged
from selbench._kit.files import fingerprint, home
from selbench._kit.progress import Progress
from selbench.datasets.cache import Files, cached_files
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.datasets.frame import Frame
from selbench.datasets.images import DECODING
from selbench.datasets.tree import class_folders, file_stamp, list_images

CLASSES, IMAGES = 1000, 50_000  # of ImageNet
WNID = re.compile(r"n\d{8}")
FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.(?:JPEG|jpe?g)")
PLACES = ("", "val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val")  # of images, below the root
TRUTHS = (
    "ILSVRC2012_validation_ground_truth.txt",  # the devkit's numbers, which meta.mat explains
    "LOC_val_solution.csv",  # Kaggle's
    "imagenet_2012_validation_synset_labels.txt",  # one WordNet id per line
)
BESIDE = ("", "data", "ILSVRC2012_devkit_t12/data", "val")  # where these may be, below the root
LIST = "helper_files/imagenet_test_image_ids.txt"  # in the package robustbench


@DATASETS
def imagenet(root: Path | None, progress: Progress, frame: Frame | None = None) -> Dataset:
    """The 50,000 validation images in 1,000 classes, sorted by WordNet id; no training images.

    `root` holds `val/<WordNet id>/*`, or ILSVRC2012_val_*.JPEG and the ground truth: the devkit's
    with its meta.mat, or Kaggle's. It may also be a text file in the folder that selects images,
    one name per line.
    """
    if root is not None and root.is_file():
        return _open("imagenet", root.parent, root, progress, frame)
    return _open("imagenet", root, None, progress, frame)


@DATASETS
def imagenet_robustbench(
    root: Path | None, progress: Progress, frame: Frame | None = None
) -> Dataset:
    """The 5,000 validation images of RobustBench, by the list in its installed package.

    `root` is that of `imagenet`.
    """
    package = find_spec("robustbench")
    places = [] if package is None else list(package.submodule_search_locations or ())
    chosen = [Path(place) / LIST for place in places if (Path(place) / LIST).is_file()]
    if not chosen:
        raise SelbenchError(
            "the package robustbench, which lists the 5,000 images, is not installed; pip install "
            "robustbench, or take imagenet and the path of such a list as --data"
        )
    return _open("imagenet-robustbench", root, chosen[0], progress, frame)


def _open(
    name: str, root: Path | None, chosen: Path | None, progress: Progress, frame: Frame | None
) -> Dataset:
    root = root or home() / "datasets" / "imagenet"
    labelled = _labelled(root)
    classes = tuple(sorted(set(labelled.values())))
    if len(classes) != CLASSES:
        raise SelbenchError(
            f"{root} has images of {len(classes)} classes, ImageNet of {CLASSES}; get the others, "
            "or take a part of it as --dataset folder with --class-map"
        )
    if chosen is not None:
        labelled = _chosen(labelled, chosen)
    elif len(labelled) != IMAGES:
        warnings.warn(
            f"{root} holds {len(labelled):,} validation images, ImageNet has {IMAGES:,}",
            stacklevel=3,
        )
    paths = sorted(labelled, key=lambda path: (labelled[path], path.name))
    numbers = {wnid: number for number, wnid in enumerate(classes)}
    labels = torch.tensor([numbers[labelled[path]] for path in paths])
    files = Files(classes, (), labels[:0], paths, labels, frame)
    stamp = fingerprint([DECODING, labels.tolist(), [file_stamp(path, root) for path in paths]])
    key = fingerprint([str(root.absolute()), str(frame), str(chosen and chosen.absolute())])
    path = home() / "datasets" / f"imagenet-{key}.safetensors"
    dataset = cached_files(name, path, stamp, lambda: files, progress)
    return replace(dataset, names=tuple(path.stem for path in paths))


def _labelled(root: Path) -> dict[Path, str]:
    """Return the WordNet id of every validation image."""
    for folder in [root / place for place in PLACES if (root / place).is_dir()]:
        folders = {n: path for n, path in class_folders(folder).items() if WNID.fullmatch(n)}
        if folders:
            return {
                path: wnid
                for wnid, class_folder in folders.items()
                for path in list_images(class_folder)
            }
        flat = [path for path in folder.iterdir() if FLAT.fullmatch(path.name)]
        if flat:
            return _by_truth(root, flat)
    raise SelbenchError(
        f"{root} holds no validation images of ImageNet; put them there as val/<WordNet id>/*, or "
        f"as val/ILSVRC2012_val_*.JPEG with {TRUTHS[0]} and meta.mat, or point dataset.root (or "
        "--data) elsewhere"
    )


def _by_truth(root: Path, flat: Sequence[Path]) -> dict[Path, str]:
    """Label numbered images by the first ground truth that exists."""
    found = [root / place / name for name in TRUTHS for place in BESIDE]
    truth = next((path for path in found if path.is_file()), None)
    if truth is None:
        raise SelbenchError(
            f"{flat[0].parent} holds numbered images, and what their classes are is not there; put "
            f"{TRUTHS[0]} and meta.mat of the devkit into {root}, or {TRUTHS[1]}"
        )
    wnids = _wnids(truth)
    numbers = {path: int(path.stem.rpartition("_")[2]) for path in flat}
    strange = [path for path, number in numbers.items() if number not in wnids]
    if strange:
        raise SelbenchError(f"{truth} says no class of {min(strange)}; get the whole file")
    return {path: wnids[number] for path, number in numbers.items()}


def _wnids(truth: Path) -> dict[int, str]:
    """Return the WordNet ids of images by their numbers, from 1."""
    lines = content_of(truth).decode(errors="replace").split("\n")
    if truth.suffix == ".csv":
        pairs = [re.match(r"ILSVRC2012_val_(\d{8}),(n\d{8})\b", line) for line in lines]
        found = {int(pair[1]): pair[2] for pair in pairs if pair}
    else:
        words = [line.strip() for line in lines if line.strip()]
        meanings = _meanings(truth.with_name("meta.mat")) if words and words[0].isdecimal() else {}
        found = {place: meanings.get(word, word) for place, word in enumerate(words, 1)}
    odd = [word for word in found.values() if not WNID.fullmatch(word)]
    if odd or not found:
        raise damaged(truth, ValueError(f"{odd[0]!r:.40} is no class" if odd else "it is empty"))
    return found


def _meanings(path: Path) -> Mapping[str, str]:
    """Return the WordNet id of each class number of the devkit, which does not sort by id."""
    from scipy.io import loadmat

    if not path.is_file():
        raise SelbenchError(
            f"{path} is missing, which says what the numbers of {TRUTHS[0]} mean; copy it from the "
            "devkit's folder data"
        )
    try:
        rows = loadmat(path, squeeze_me=True)["synsets"]
        return {
            str(int(row["ILSVRC2012_ID"])): str(row["WNID"])
            for row in rows
            if int(row["num_children"]) == 0
        }
    except Exception as problem:  # the reader raises any exception on damaged bytes
        raise damaged(path, problem) from problem


def _chosen(labelled: Mapping[Path, str], chosen: Path) -> dict[Path, str]:
    """Return the images that a file lists, as <WordNet id>/<name> or <name>."""
    lines = [line.strip() for line in content_of(chosen).decode(errors="replace").split("\n")]
    wanted = [(Path(line).name, Path(line).parent.name) for line in lines if line]
    paths = {path.name: path for path in labelled}
    absent = [name for name, _ in wanted if name not in paths]
    if absent or not wanted:
        lacking = f"{len(absent)} images that are not there ({absent[0]:.80})" if absent else "none"
        raise SelbenchError(f"{chosen} names {lacking}; get them, or give another list")
    for name, wnid in wanted:
        if WNID.fullmatch(wnid) and labelled[paths[name]] != wnid:
            raise SelbenchError(
                f"{chosen} says that {name} is of class {wnid}, and it is of "
                f"{labelled[paths[name]]}; the images or the list are of another data set"
            )
    return {paths[name]: labelled[paths[name]] for name, _ in wanted}
