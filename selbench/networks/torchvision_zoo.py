"""torchvision's image classifiers, pretrained or not."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from selbench._kit.errors import SelbenchError, unknown
from selbench.datasets import Dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import INTERPOLATIONS, Inputs
from selbench.networks.zoo import ZOOS, Resolved, built, careful_loading, reason_of, refuse

# Trained with another normalisation than that of the preset; `transform_input` converts it, which
# # torchvision sets with its published weights.
OTHERWISE = ("googlenet", "inception_v3")


@ZOOS
def torchvision(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Classifiers of torchvision: --pretrained, with --weights, or with random weights."""
    from torchvision import models

    refuse(brought.spec, threat_model=brought.threat_model)
    inputs, published = declared(name, brought), _published(name)
    if brought.pretrained:
        place = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2]
        try:
            with careful_loading():
                network = models.get_model(name, weights=published)
        except Exception as problem:  # of the connection, the disk, or the file
            raise _unavailable(brought.spec, published.url, place, problem) from problem
        return Resolved(network, inputs, "pretrained", name)

    given = {"transform_input": True} if brought.weights and name in OTHERWISE else {}

    def make(number: int | None) -> nn.Module:
        return models.get_model(name, **given, **({"num_classes": number} if number else {}))  # type: ignore[no-any-return]

    network = built(make, brought, dataset, classes)
    return Resolved(network, inputs, "" if brought.weights else "random", name, "".join(given))


def _published(name: str) -> Any:
    """Return the weights that torchvision publishes for a network."""
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision network", name, names)
    return models.get_model_weights(name).DEFAULT


def declared(name: str, brought: NetworkSpec) -> Inputs:
    """Return the preprocessing of the evaluation of published weights."""
    preset = _published(name).transforms()
    return Inputs(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=next(i for i in INTERPOLATIONS if i == preset.interpolation.value),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _unavailable(spec: str, url: str, place: Path, problem: Exception) -> SelbenchError:
    if place.is_file():
        return SelbenchError(
            f"{place} does not hold the weights of {spec} ({reason_of(problem)}); delete it, and "
            f"put the file of {url} there"
        )
    return SelbenchError(
        f"the weights of {spec} cannot be downloaded from {url} ({reason_of(problem)}); put the "
        f"file there by hand: {place}"
    )
