"""Download data sets on request; torchvision checks their md5 and unpacks them safely."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from selbench.errors import SelbenchError
from selbench.registry import Registry

TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

DOWNLOADS = Registry[Callable[[Path], Path]]("dataset to download")


@DOWNLOADS
def cifar10(folder: Path) -> Path:
    """Fill `folder`/cifar10 (163 MB); what is there and whole is kept."""
    from torchvision.datasets import CIFAR10

    with _told("cifar10", "dataset.root (or --data)"):
        CIFAR10(str(folder / "cifar10"), download=True)
    return folder / "cifar10"


@DOWNLOADS
def tiny_imagenet(folder: Path) -> Path:
    """Fill `folder`/tiny-imagenet-200 (248 MB); what is there is kept."""
    from torchvision.datasets.utils import download_and_extract_archive

    place = folder / "tiny-imagenet-200"
    if not (place / "val" / "val_annotations.txt").is_file():
        with _told("tiny-imagenet", "dataset.root (or --data)"):
            download_and_extract_archive(
                TINY_IMAGENET, str(folder), md5=TINY_IMAGENET_MD5, remove_finished=True
            )
    return place


@contextmanager
def _told(name: str, elsewhere: str) -> Iterator[None]:
    try:
        yield
    except (URLError, HTTPException, RuntimeError, OSError) as problem:
        raise SelbenchError(
            f"{name} could not be downloaded ({problem}); try again later, or "
            f"get it by hand and set {elsewhere}"
        ) from problem
