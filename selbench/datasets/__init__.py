"""Data sets: images and labels in memory, as uint8, split in train and test."""

from selbench.datasets import cifar, digits, folder, imagenet, tiny_imagenet
from selbench.datasets.dataset import (
    DATASETS,
    Dataset,
    Split,
    growing,
    limited,
    load_dataset,
    split_validation,
    stratified_order,
)
from selbench.datasets.download import DOWNLOADS
from selbench.datasets.given import dataset_of

__all__ = [
    "DATASETS",
    "DOWNLOADS",
    "Dataset",
    "Split",
    "cifar",
    "dataset_of",
    "digits",
    "folder",
    "growing",
    "imagenet",
    "limited",
    "load_dataset",
    "split_validation",
    "stratified_order",
    "tiny_imagenet",
]
