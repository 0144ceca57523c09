"""Small data sets in each format, as a user would have them."""

import hashlib
import pickle

import pytest
from loading import CIFAR10_CLASSES, FIXTURES, WNIDS, load, photographs
from PIL import Image


@pytest.fixture
def digits(fresh_home):
    return load("digits")


@pytest.fixture
def tree(image_tree):
    return load("folder", image_tree())


@pytest.fixture
def cifar10_batches(tmp_path, monkeypatch):
    """Write 50 training and 10 test images in CIFAR-10's own format, and let their md5 count."""
    from torchvision.datasets import CIFAR10

    place = tmp_path / "cifar" / "cifar-10-batches-py"
    place.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (place / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name, seed):
        images = photographs(10, 32, 32, seed=seed)
        labels = [(number + seed) % 10 for number in range(10)]
        return write(name, {"data": images.transpose(0, 3, 1, 2).reshape(10, -1), "labels": labels})

    train = [batch(f"data_batch_{number}", number) for number in range(1, 6)]
    meta = write("batches.meta", {"label_names": list(CIFAR10_CLASSES)})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 6)])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    )
    return tmp_path / "cifar"


@pytest.fixture
def cifar10(cifar10_batches, fresh_home):
    return load("cifar10", cifar10_batches)


@pytest.fixture
def tiny_imagenet_tree(tmp_path):
    """Write 3 classes of 2 training images, and 4 validation images, as the official archive."""
    root = tmp_path / "tiny-imagenet-200"
    for seed, wnid in enumerate(WNIDS):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").touch()
        for number, image in enumerate(photographs(2, 64, 64, seed=seed)):
            path = root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            Image.fromarray(image).save(path)
    (root / "val" / "images").mkdir(parents=True)
    labels = (WNIDS[0], WNIDS[1], WNIDS[2], WNIDS[1])
    lines = [f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62\n" for n, wnid in enumerate(labels)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    for number, image in enumerate(photographs(4, 64, 64, seed=9)):
        Image.fromarray(image).save(root / "val" / "images" / f"val_{number}.JPEG")
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    return root


@pytest.fixture
def tiny_imagenet(tiny_imagenet_tree, fresh_home):
    return load("tiny-imagenet", tiny_imagenet_tree)


@pytest.fixture(params=FIXTURES)
def dataset(request):
    """Give each data set in turn, loaded from small files of its format."""
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture
def no_decoding(monkeypatch):
    """Let every decoder fail."""

    def fail(*arguments):
        raise AssertionError("decoded again")

    for module in ("cifar10", "digits", "tiny_imagenet"):
        monkeypatch.setattr(f"selbench.datasets.{module}._decode", fail)
    monkeypatch.setattr("selbench.datasets.folder.decode_images", fail)
