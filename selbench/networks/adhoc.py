"""A study for networks that are only evaluated: it has a data set but trains nothing."""

import re
from pathlib import Path

from selbench._kit.errors import unknown
from selbench.datasets import DATASETS, Dataset
from selbench.study import DatasetSpec, ModelSpec, Recipe, Study, load_study, shipped_studies

NONE = "brought"  # the architecture of a study that trains nothing


def adhoc_study(name: str, root: Path | None = None) -> Study:
    """Return the shipped study of a data set's name, or a study of it that trains nothing.

    Args:
        name: of a registered data set; an unknown name raises `SelbenchError`.
        root: the folder of its images; the study of a `folder` is named after it.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    if name in shipped_studies():
        return load_study(name)
    return untrained_study(root.absolute().name if root and name == "folder" else name, name)


def sized(study: Study, dataset: Dataset) -> Study:
    """Set the held-out images of a study that trains nothing to a tenth of the training images."""
    if study.model.name != NONE:
        return study
    spec = study.dataset.model_copy(update={"validation": max(1, len(dataset.train) // 10)})
    return study.model_copy(update={"dataset": spec})


def untrained_study(title: str, dataset: str) -> Study:
    """Return a study named after `title` for users' networks."""
    return Study(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._") or "images",
        description=f"Users' networks on {title}",
        alphas=(0.0,),
        seeds=(0,),
        dataset=DatasetSpec(name=dataset, validation=1),
        model=ModelSpec(name=NONE),
        recipe=Recipe(epochs=1, batch_size=2, learning_rate=1.0),
    )
