"""Data sets and their splits, and how validation images and subsets are drawn."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT, Progress
from selbench._kit.randomness import seeded
from selbench._kit.registry import Registry
from selbench._kit.types import Examples, Labels, Pixels
from selbench.datasets.frame import Frame, frame_of
from selbench.datasets.room import gathered
from selbench.study import Channels, DatasetSpec

TAKEN = 1000  # images copied at once


@dataclass(frozen=True)
class Split:
    """Images and labels on one device.

    Attributes:
        images: uint8, 0 to 255; channels_last in memory.
        labels: class numbers.
        examples: the position of each image in the full split.
        checksum: of the images, the labels and their order.
    """

    images: Pixels
    labels: Labels
    examples: Examples
    checksum: str

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """Return the same split on `device`."""
        images, labels, examples = (t.to(device) for t in (self.images, self.labels, self.examples))
        return Split(images, labels, examples, self.checksum)

    def take(self, places: Int64[Tensor, " chosen"]) -> "Split":
        """Return the examples at the given indices, in that order."""
        # Indexing in memory order copies full images and keeps channels_last.
        rows = self.images.permute(0, 2, 3, 1)
        parts = (rows[some].permute(0, 3, 1, 2) for some in places.split(TAKEN))
        images = gathered(parts, len(places)) if len(places) else self.images[:0]
        return replace(
            self, images=images, labels=self.labels[places], examples=self.examples[places]
        )

    def batches(self, size: int) -> Iterator["Split"]:
        """Yield batches of the examples, in order."""
        parts = (tensor.split(size) for tensor in (self.images, self.labels, self.examples))
        for images, labels, examples in zip(*parts, strict=True):
            yield Split(images, labels, examples, self.checksum)


@dataclass(frozen=True)
class Dataset:
    """A data set with its classes in the order of their numbers.

    `framed`: whether images were scaled or cropped from files of many sizes. `names`: names of the
    test image files without suffix, if they are unique.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    framed: bool = False
    names: tuple[str, ...] = ()

    @cached_property
    def moments(self) -> tuple[Channels, Channels]:
        """Per-channel mean and standard deviation of the training images, on [0, 1]."""
        if not len(self.train):
            raise SelbenchError(
                f"the data set {self.name} has no training images, which training and the "
                "normalisation of selbench's own networks need; take a data set with "
                "train/<class>/*, or evaluate a network with --model, its --mean and its --std"
            )
        # From a histogram: exact, and no float copy of all images.
        levels = torch.arange(256, dtype=torch.float64) / 255
        moments = []
        for channel in range(3):
            counts = torch.zeros(256, dtype=torch.int64)
            for part in self.train.images.split(TAKEN):
                counts += torch.bincount(part[:, channel].reshape(-1).cpu(), minlength=256)
            weights = counts.double() / counts.sum()
            mean = (weights * levels).sum()
            deviation = (weights * (levels - mean) ** 2).sum().sqrt()
            moments.append((round(mean.item(), 6), max(round(deviation.item(), 6), 1e-3)))
        (r, g, b) = moments
        return (r[0], g[0], b[0]), (r[1], g[1], b[1])


Decoder = Callable[..., Dataset]  # (root, progress), and `frame` if it reads image files
DATASETS = Registry[Decoder]("dataset")


def load_dataset(spec: DatasetSpec, progress: Progress = SILENT) -> Dataset:
    """Load a data set into memory, from its cache if there is one.

    Raises:
        SelbenchError: for an unknown name, missing data (with where to put it or how to download
            it), an image that cannot be used, and more classes than the data set has.
    """
    dataset = decoded(spec.name, spec.root, progress, frame_of(spec))
    if spec.classes is not None:
        dataset = _first_classes(dataset, spec.classes)
    if 0 < len(dataset.train) <= spec.validation:
        raise SelbenchError(
            f"dataset.validation = {spec.validation} leaves none of the {len(dataset.train)} "
            "training images; hold fewer out"
        )
    return dataset


def decoded(name: str, root: Path | None, progress: Progress, frame: Frame | None) -> Dataset:
    """Return a data set as its decoder returns it; `frame` scales and crops image files."""
    decoder = DATASETS[name]
    if frame is None:
        return decoder(root, progress)
    if "frame" not in signature(decoder).parameters:
        framed = [name for name in DATASETS if "frame" in signature(DATASETS[name]).parameters]
        raise SelbenchError(
            f"--resize and --crop (resize and crop in a study) are for {', '.join(framed)}, "
            f"whose image files may have many sizes; those of {name} have one: leave them out, and "
            "--input-size says what a network takes"
        )
    return replace(decoder(root, progress, frame=frame), framed=True)


def _first_classes(dataset: Dataset, number: int) -> Dataset:
    """Return the data set with only its first `number` classes."""
    if number > len(dataset.classes):
        raise SelbenchError(
            f"dataset.classes = {number}, and {dataset.name} has {len(dataset.classes)}; leave it "
            "out to take all"
        )
    train, test = (
        make_split(split.images[split.labels < number], split.labels[split.labels < number])
        for split in (dataset.train, dataset.test)
    )
    return replace(dataset, classes=dataset.classes[:number], train=train, test=test, names=())


def make_split(images: Pixels, labels: Labels) -> Split:
    """Build a full split; `images` may have any memory format."""
    digest = Checksum(tuple(images.shape))
    digest.update(images.permute(0, 2, 3, 1).contiguous().numpy().data)
    examples = torch.arange(len(labels))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    return Split(channels_last, labels, examples, digest.of(labels))


class Checksum:
    """A checksum of images, labels and their order; images may be added in parts."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with the shape of all images: (images, 3, height, width)."""
        self._digest = hashlib.sha256(repr(shape).encode())

    def update(self, pixels: memoryview) -> None:
        """Add the values of the next images, in the order (height, width, 3)."""
        self._digest.update(pixels)

    def of(self, labels: Labels) -> str:
        """Return the checksum; all images must have been added."""
        self._digest.update(labels.contiguous().numpy().data)
        return self._digest.hexdigest()[:16]


def stratified_order(labels: Labels, generator: torch.Generator) -> Examples:
    """Return a random order in which every prefix has the class proportions of the data set."""
    shuffled = torch.randperm(len(labels), generator=generator)
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels[shuffled] == label).nonzero().flatten()
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return shuffled[position.argsort(stable=True)]


def limited(split: Split, limit: int | None) -> Split:
    """Return `limit` examples of `split`, in its class proportions; all for None.

    A larger limit includes the examples of a smaller one.
    """
    if limit is None or limit >= len(split):
        return split
    return split.take(chosen(split.labels.cpu(), limit).to(split.labels.device))


def chosen(labels: Labels, limit: int) -> Int64[Tensor, " chosen"]:
    """Return the rising indices of the examples that `limit` selects."""
    return stratified_order(labels, seeded("limit", 0))[:limit].sort().values


def growing(labels: Labels, limit: int | None) -> Int64[Tensor, " chosen"]:
    """Return the indices of the selected examples in the order in which growing limits add them."""
    return stratified_order(labels, seeded("limit", 0))[:limit].argsort().argsort()


def split_validation(train: Split, count: int, generator: torch.Generator) -> tuple[Split, Split]:
    """Hold `count` examples out of `train`, in its class proportions; return (rest, held out).

    Leavitt & Morcos, 2020, arXiv:2003.01262, draw new ones for each network.
    """
    order = stratified_order(train.labels.cpu(), generator).to(train.labels.device)
    return train.take(order[count:].sort().values), train.take(order[:count].sort().values)
