"""selbench's own architectures, with weights from a file."""

import math
from typing import Any

from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.models import MODELS, build_model, options_of, recognised_blocks, recognised_options
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs
from selbench.networks.zoo import ZOOS, Resolved, built, refuse
from selbench.study import ModelSpec

UNKNOWN = (math.nan,) * 3  # a mean or deviation that the weights have to replace


@ZOOS
def selbench(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Architectures of `selbench list`, with --weights, which set shortcuts and width."""
    known = options_of(name)
    if brought.weights is None:
        raise SelbenchError(
            f"{brought.spec} has no weights; give a file with --weights, or train a study with "
            "`selbench run STUDY`"
        )
    seen = recognised_options(brought.weights)
    options: dict[str, Any] = {option: value for option, value in seen.items() if option in known}
    deep = f"resnet{6 * recognised_blocks(brought.weights) + 2}"
    if deep != name and "shortcut" in known and deep in MODELS and "shortcut" in options_of(deep):
        raise SelbenchError(
            f"{brought.weights} has the weights of a {deep}, not of a {name}; name what it holds: "
            f"--model selbench:{deep}"
        )
    spec = ModelSpec(name=name, options=options, mean=brought.mean, std=brought.std)
    return of_study(spec, brought, dataset, classes)


def of_study(
    spec: ModelSpec, brought: NetworkSpec, dataset: Dataset, classes: int | None
) -> Resolved:
    """Build the model of a study, and load the user's weights."""
    assert brought.weights is not None
    what = brought.spec or str(brought.weights)
    refuse(what, pretrained=brought.pretrained, threat_model=brought.threat_model)

    def make(number: int | None) -> nn.Module:
        given = spec.mean and spec.std
        known = dataset.moments if len(dataset.train) and not given else (UNKNOWN, UNKNOWN)
        return build_model(spec, number or len(dataset.classes), known)

    model = built(make, brought, dataset, classes)
    for name, given in (("mean", brought.mean), ("std", brought.std)):
        carried = model.get_buffer(f"normalize.{name}").flatten()
        if not carried.isfinite().all():
            raise SelbenchError(
                f"{what} does not carry the {name} that it normalises images with, and the data "
                f"set {dataset.name} has no training images to compute it from; give --mean and "
                "--std of its training"
            )
        if given is not None and not carried.allclose(carried.new_tensor(given), atol=1e-4):
            raise SelbenchError(
                f"{brought.weights} carries the {name} {carried.tolist()}, not {list(given)}; "
                "leave out --mean and --std"
            )
    return Resolved(model, Inputs(), "", spec.name)
