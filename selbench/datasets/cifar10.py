"""CIFAR-10 (Krizhevsky, 2009), read and checked by torchvision."""

from pathlib import Path

import torch

from selbench.datasets.cache import Decoded, cached
from selbench.datasets.dataset import DATASETS, Dataset
from selbench.errors import SelbenchError
from selbench.files import home
from selbench.progress import Progress


@DATASETS
def cifar10(root: Path | None, progress: Progress) -> Dataset:
    """60,000 images of 32 x 32 pixels in 10 classes, 10,000 of them for testing.

    `root` holds `cifar-10-batches-py`; without it the folder `selbench download cifar10` fills.
    """
    folder = root or home() / "datasets" / "cifar10"
    if not (folder / "cifar-10-batches-py").is_dir():
        raise _missing(folder)
    path = home() / "datasets" / "cifar10.safetensors"
    return cached("cifar10", path, str(folder.absolute()), lambda: _decode(folder))


def _decode(folder: Path) -> Decoded:
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(str(folder), train=part) for part in (True, False))
    except RuntimeError as problem:
        raise _missing(folder) from problem
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2) for part in (train, test)]
    labels = [torch.tensor(part.targets) for part in (train, test)]
    return Decoded(tuple(train.classes), images[0], labels[0], images[1], labels[1])


def _missing(folder: Path) -> SelbenchError:
    return SelbenchError(
        f"{folder / 'cifar-10-batches-py'} is missing or damaged; run `selbench download cifar10`, "
        "or set dataset.root (or --data) to the folder that holds cifar-10-batches-py"
    )
