"""Data sets: images and labels in memory, as uint8, split in train and test."""

from selbench._kit.registry import discover
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
from selbench.datasets.tensors import dataset_of

__all__ = [
    "DATASETS",
    "DOWNLOADS",
    "Dataset",
    "Split",
    "dataset_of",
    "growing",
    "limited",
    "load_dataset",
    "split_validation",
    "stratified_order",
]

discover(__name__)
