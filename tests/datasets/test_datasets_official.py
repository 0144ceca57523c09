"""Digits, CIFAR and Tiny ImageNet hold what their official files hold, in their order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from loading import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    WNIDS,
    assert_equal,
    load,
    photographs,
)
from PIL import Image

from selbench._kit.errors import SelbenchError

# Digits.


def test_digits_are_1200_to_train_and_597_to_test(digits):
    assert digits.train.images.shape == (1200, 3, 32, 32)
    assert digits.test.images.shape == (597, 3, 32, 32)
    assert digits.classes == tuple("0123456789")


def test_digits_hold_each_class_in_proportion(digits):
    train, test = (split.labels.bincount() for split in (digits.train, digits.test))
    assert (test - (train + test) * 597 / 1797).abs().max() < 1


def test_digits_are_scikit_learn_s_each_once(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.cat([digits.train.images, digits.test.images]).float()
    labels = torch.cat([digits.train.labels, digits.test.labels])
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    small = torch.from_numpy(bunch.images).float()[:, None] * 255 / 16
    # The four pixels round the middle of an original pixel: their mean is 5/8 of it, rest beside.
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")[:, 0].round()
    distances = torch.cdist(images[:, 0].flatten(1), large.flatten(1))
    found = distances.argmin(1)
    assert (images[:, 0] - large[found]).abs().max() <= 1
    assert found.sort().values.tolist() == list(range(1797))
    assert torch.equal(labels, torch.from_numpy(bunch.target)[found])


def test_digits_are_the_same_for_everyone(digits):
    assert digits.test.checksum == "4a65930bdfe329cb"


# CIFAR and Tiny ImageNet, in small files of the official formats.


def test_cifar10_holds_the_images_of_the_official_batches(cifar10):
    assert cifar10.classes == CIFAR10_CLASSES
    assert cifar10.train.images.shape == (50, 3, 32, 32)
    train = np.concatenate([photographs(10, 32, 32, seed=number) for number in range(1, 6)])
    assert np.array_equal(cifar10.train.images.permute(0, 2, 3, 1).numpy(), train)
    assert np.array_equal(
        cifar10.test.images.permute(0, 2, 3, 1).numpy(), photographs(10, 32, 32, seed=6)
    )
    assert cifar10.test.labels.tolist() == [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]


def changed(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_cifar10_with_another_md5_is_refused_before_it_is_unpickled(cifar10_batches, fresh_home):
    changed(cifar10_batches / "cifar-10-batches-py" / "test_batch")
    with pytest.raises(SelbenchError, match="cifar-10-batches-py is missing or damaged; run"):
        load("cifar10", cifar10_batches)


def test_cifar100_takes_its_fine_labels_from_pickles_and_from_bytes(
    cifar100, cifar100_binary, fresh_home
):
    assert cifar100.classes == CIFAR100_CLASSES
    assert cifar100.train.labels.tolist() == [98 - each for each in range(10)]
    assert cifar100.test.labels.tolist() == [97 - each for each in range(10)]
    images = cifar100.test.images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, photographs(10, 32, 32, seed=2))
    assert_equal(load("cifar100", cifar100_binary), cifar100)
    test = cifar100_binary / "cifar-100-binary" / "test.bin"
    test.write_bytes(b"\x00\x05" + test.read_bytes()[2:])  # as long; the first label is 5 now
    assert load("cifar100", cifar100_binary).test.labels.tolist()[:2] == [5, 96]


def test_cifar100_with_another_md5_is_refused(cifar100_batches, fresh_home):
    changed(cifar100_batches / "cifar-100-python" / "test")
    message = "cifar-100-python is missing or damaged; .* cifar-100-python or cifar-100-binary$"
    with pytest.raises(SelbenchError, match=message):
        load("cifar100", cifar100_batches)


def longer(path):
    path.write_bytes(path.read_bytes() + b"x")


def another_class(path):
    path.write_bytes(b"\x00\x64" + path.read_bytes()[2:])


DAMAGE = {
    changed: r"test\.bin is not CIFAR-100's \(it has 30739 bytes, not 30740\); unpack the archive",
    longer: r"test\.bin is not CIFAR-100's \(it has 30741 bytes, not 30740\)",
    another_class: r"test\.bin is not CIFAR-100's \(it names the class 100 of 100\)",
    Path.unlink: r"test\.bin is not CIFAR-100's \(there is no such file\)",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_bytes_that_are_not_cifar100_s_are_refused(damage, cifar100_binary, fresh_home):
    damage(cifar100_binary / "cifar-100-binary" / "test.bin")
    with pytest.raises(SelbenchError, match=DAMAGE[damage]):
        load("cifar100", cifar100_binary)


def test_tiny_imagenet_numbers_classes_by_sorted_wordnet_id(tiny_imagenet):
    assert tiny_imagenet.classes == tuple(sorted(WNIDS))
    assert tiny_imagenet.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert tiny_imagenet.test.labels.tolist() == [1, 0, 2, 0]


def test_tiny_imagenet_tests_on_the_official_validation_images(tiny_imagenet, tiny_imagenet_tree):
    for number, image in enumerate(tiny_imagenet.test.images):
        path = tiny_imagenet_tree / "val" / "images" / f"val_{number}.JPEG"
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
