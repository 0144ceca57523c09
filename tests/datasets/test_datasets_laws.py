"""Every data set: what its images, labels, classes, moments and checksums are."""

from pathlib import Path

import pytest
import torch
from loading import FIXTURES, assert_equal, load, photographs

from selbench.datasets import DATASETS, DOWNLOADS
from selbench.datasets.dataset import make_split


def test_what_is_downloaded_is_a_dataset_or_its_corrupted_set():
    assert set(FIXTURES) <= set(DATASETS)
    assert {name.removesuffix("-c") for name in DOWNLOADS} <= set(DATASETS)
    for trained in ("cifar10", "cifar100", "tiny-imagenet"):
        assert {trained, f"{trained}-c"} <= set(DOWNLOADS)


def test_images_are_uint8_in_channels_last_memory(dataset):
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1] == 3
        assert split.images.is_contiguous(memory_format=torch.channels_last)


def test_labels_number_the_classes(dataset):
    for split in (dataset.train, dataset.test):
        assert split.labels.dtype == torch.int64
        assert len(split.labels) == len(split.images) == len(split)
        assert set(split.labels.tolist()) <= set(range(len(dataset.classes)))
    assert len(set(dataset.classes)) == len(dataset.classes)


def test_examples_count_the_images(dataset):
    assert dataset.train.examples.tolist() == list(range(len(dataset.train)))
    assert dataset.test.examples.tolist() == list(range(len(dataset.test)))


def test_moments_are_those_of_the_training_images(dataset):
    images = dataset.train.images.double() / 255
    mean, std = dataset.moments
    assert mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("name", FIXTURES)
def test_decoding_is_done_once(name, request, monkeypatch):
    first = request.getfixturevalue(FIXTURES[name])
    request.getfixturevalue("no_decoding")
    roots = {"folder": "images", "cifar10": "cifar", "tiny-imagenet": "tiny-imagenet-200"}
    roots["cifar100"] = "cifar100"
    second = load(name, Path(roots[name]) if name in roots else None)
    assert_equal(first, second)


def test_checksum_tells_images_labels_and_order_apart():
    images = torch.from_numpy(photographs(4, 8, 8)).permute(0, 3, 1, 2)
    labels = torch.tensor([0, 1, 0, 1])
    brighter = images.clone()
    brighter[0, 0, 0, 0] ^= 1
    flipped = images.permute(0, 1, 3, 2)
    variants = [
        (images, labels),
        (brighter, labels),
        (flipped, labels),
        (images, 1 - labels),
        (images.flip(0), labels.flip(0)),
        (images[:3], labels[:3]),
    ]
    assert len({make_split(*variant).checksum for variant in variants}) == len(variants)
    assert make_split(images.contiguous(), labels).checksum == make_split(images, labels).checksum
