"""Small data sets in each format, as a user would have them."""

import hashlib
import pickle

import pytest
from loading import CIFAR10_CLASSES, CIFAR100_CLASSES, FIXTURES, WNIDS, load, photographs
from PIL import Image


@pytest.fixture
def digits(fresh_home):
    return load("digits")


@pytest.fixture
def tree(image_tree):
    return load("folder", image_tree())


def cifar_batch(number, **labels):
    """Return 10 images as CIFAR's files hold them, a row each, with the labels of their names."""
    rows = photographs(10, 32, 32, seed=number).transpose(0, 3, 1, 2).reshape(10, -1)
    return {"data": rows, **labels}


def publish(kind, place, parts, key, names, monkeypatch):
    """Write batches as torchvision's `kind` reads them, and let their md5 count."""
    place.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (place / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    *train, test = [write(*part) for part in parts.items()]
    name, md5 = write("names", {key: list(names)})
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [test])
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": key, "md5": md5})
    return place.parent


@pytest.fixture
def cifar10_batches(tmp_path, monkeypatch):
    """Write 50 training and 10 test images in CIFAR-10's own format."""
    from torchvision.datasets import CIFAR10

    names = [f"data_batch_{number}" for number in range(1, 6)]
    parts = {
        name: cifar_batch(seed, labels=[(each + seed) % 10 for each in range(10)])
        for seed, name in enumerate([*names, "test_batch"], 1)
    }
    place = tmp_path / "cifar" / "cifar-10-batches-py"
    return publish(CIFAR10, place, parts, "label_names", CIFAR10_CLASSES, monkeypatch)


@pytest.fixture
def cifar10(cifar10_batches, fresh_home):
    return load("cifar10", cifar10_batches)


@pytest.fixture
def cifar100_batches(tmp_path, monkeypatch):
    """Write 10 training and 10 test images in CIFAR-100's own format."""
    from torchvision.datasets import CIFAR100

    parts = {
        name: cifar_batch(seed, fine_labels=[99 - each - seed for each in range(10)])
        for seed, name in enumerate(("train", "test"), 1)
    }
    place, names = tmp_path / "cifar100" / "cifar-100-python", CIFAR100_CLASSES
    return publish(CIFAR100, place, parts, "fine_label_names", names, monkeypatch)


@pytest.fixture
def cifar100(cifar100_batches, fresh_home):
    return load("cifar100", cifar100_batches)


@pytest.fixture
def cifar100_binary(tmp_path, monkeypatch):
    """Write the images of `cifar100_batches` as bytes."""
    place = tmp_path / "binary" / "cifar-100-binary"
    place.mkdir(parents=True)
    for seed, part in enumerate(("train", "test"), 1):
        images = photographs(10, 32, 32, seed=seed).transpose(0, 3, 1, 2)
        rows = [bytes([7, 99 - each - seed]) + image.tobytes() for each, image in enumerate(images)]
        (place / f"{part}.bin").write_bytes(b"".join(rows))
    (place / "fine_label_names.txt").write_text("\n".join([*CIFAR100_CLASSES, ""]))
    monkeypatch.setattr("selbench.datasets.cifar.PARTS", {"train": 10, "test": 10})
    return place.parent


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

    monkeypatch.setattr("selbench.datasets.cifar._decode_binary", fail)
    for module in ("cifar", "digits"):
        monkeypatch.setattr(f"selbench.datasets.{module}._decode", fail)
    monkeypatch.setattr("selbench.datasets.cache.each_decoded", fail)
