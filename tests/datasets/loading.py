"""What the tests of data sets share: loading one, and comparing two."""

import numpy as np
import torch

from selbench.datasets import Dataset, load_dataset
from selbench.study import DatasetSpec

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES = tuple(f"thing_{number:02}" for number in range(100))
WNIDS = ("n02124075", "n01443537", "n04067472")  # wnids.txt has an order of its own

FIXTURES = {
    "digits": "digits",
    "folder": "tree",
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "tiny-imagenet": "tiny_imagenet",
}


def load(name, root=None, validation=1, classes=None):
    return load_dataset(DatasetSpec(name=name, root=root, validation=validation, classes=classes))


def photographs(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def assert_equal(one: Dataset, other: Dataset):
    assert one.classes == other.classes
    for part in ("train", "test"):
        a, b = getattr(one, part), getattr(other, part)
        assert a.checksum == b.checksum
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.images.stride() == b.images.stride()
