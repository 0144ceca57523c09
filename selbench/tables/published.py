"""Published accuracies under corruptions, for tables with measured ones.

The numbers are facts of the model_info files of RobustBench (arXiv:2010.09670) of 2025-03-31.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from corruptions import CORRUPTIONS
from selbench._kit.errors import unknown
from selbench.store import CELL, MEASURED
from selbench.store.tidy import tidy
from selbench.tables.accuracies import Plan, accuracies, averaged

PREFIX = "published:"  # prefix of places
NORMAL = 1.959963984540054  # the two-sided 5 % quantile of a normal variable
ALEXNET_PLACE = f"{PREFIX}alexnet"  # the reference of mCE on ImageNet-C
# AlexNet's mean errors over five severities of ImageNet-C, the divisors of arXiv:1903.12261.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


@dataclass(frozen=True)
class Benchmark:
    """A corrupted test set: its name in papers, its number of images, and its data set."""

    name: str
    images: int
    data: str


BENCHMARKS = {
    "cifar10-c": Benchmark("CIFAR-10-C", 10_000, "cifar10"),
    "cifar100-c": Benchmark("CIFAR-100-C", 10_000, "cifar100"),
    "imagenet-c": Benchmark("ImageNet-C", 5_000, "imagenet"),
}


def benchmark_of(place: str) -> Benchmark:
    """Return the benchmark of a place such as "published:cifar10-c".

    Raises:
        SelbenchError: for a benchmark without shipped numbers.
    """
    name = place.removeprefix(PREFIX)
    if name not in BENCHMARKS:
        raise unknown("published benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]


@cache
def published(place: str) -> pd.DataFrame:
    """Return published numbers of a benchmark as measurements: a row per network and condition.

    Raises:
        SelbenchError: as `benchmark_of`.
    """
    images = benchmark_of(place).images
    with (files("selbench.tables") / "published.csv").open() as file:
        table = pd.read_csv(file).set_index("benchmark")
    numbers = table.loc[place.removeprefix(PREFIX)]
    columns = (numbers[name] for name in ("network", "corruption", "severity", "accuracy"))
    rows = [
        {
            **dict.fromkeys(("data", "training", "weights", "helper", "architecture"), ""),
            "suite": "corruptions",
            "condition": name,
            "level": severity,
            "group": CORRUPTIONS[name].family,
            "source": "published",
            "version": 1,
            "subject": network,
            "metric": "accuracy",
            "value": accuracy,
            "n": images,
        }
        for network, name, severity, accuracy in zip(*columns, strict=True)
    ]
    return tidy(rows, [*CELL, *MEASURED])


def half_widths_of(rows: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Return half widths of 95 % intervals over images: published networks by columns.

    Outcomes of images were not published. The variance of an image is largest if it is right under
    all conditions or none; so these intervals are at least as wide as those from outcomes (Agresti
    & Coull, 1998, doi:10.1080/00031305.1998.10480550).
    """
    means = averaged(accuracies(rows), plan)
    n = int(rows["n"].min())
    middle = (means * n + 2) / (n + 4)
    half: pd.DataFrame = NORMAL * (middle * (1 - middle) / (n + 4)) ** 0.5
    return half + (middle - means).abs()


def source_notes(places: Sequence[str], rows: pd.DataFrame, data: Sequence[str]) -> list[str]:
    """Return notes on the source of published numbers, and on images of studies that differ.

    Args:
        places: such as "published:cifar10-c".
        rows: the compared measurements.
        data: the data sets of the studies.
    """
    sentences = []
    for place in places:
        benchmark = benchmark_of(place)
        number = rows.loc[rows["study"] == place, "subject"].nunique()
        sentences.append(
            f"{place}: {number} networks on {benchmark.name} as released, from RobustBench's "
            "model_info (arXiv:2010.09670, 2025-03-31), with intervals at least as wide as over "
            "their images"
        )
        others = sorted({name for name in data if name != benchmark.data})
        made = rows.loc[~rows["study"].isin(places) & rows["level"].notna(), "source"]
        if others:
            sentences.append(
                f"a rank beside them says little: {' and '.join(others)} is not {benchmark.data}"
            )
        elif made.str.startswith("generated").any():
            sentences.append(
                f"a rank beside them holds for corruptions like those of {benchmark.name}: "
                "selbench made its own (`--source` reads the released ones)"
            )
    return sentences
