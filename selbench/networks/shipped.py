"""selbench's own architectures, with weights from a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.models import MODELS, build_model, options_of, recognised_blocks, recognised_options
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs
from selbench.networks.zoo import ZOOS, Resolved, built, refuse
from selbench.study import ModelSpec


@ZOOS
def selbench(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Architectures of `selbench list`, with --weights, which set shortcuts, width and depth."""
    known = options_of(name)
    if brought.weights is None:
        raise SelbenchError(
            f"{brought.spec} has no weights; give a file with --weights, or train a study with "
            "`selbench run STUDY`"
        )
    seen = recognised_options(brought.weights)
    options: dict[str, Any] = {option: value for option, value in seen.items() if option in known}
    built_of = _as_deep(name, brought.weights) if "shortcut" in known else name
    spec = ModelSpec(name=built_of, options=options, mean=brought.mean, std=brought.std)
    found = of_study(spec, brought, dataset, classes)
    return found if built_of == name else replace(found, note=built_of)


def _as_deep(name: str, weights: Path) -> str:
    """Return the CIFAR ResNet that weights belong to; `name` if unknown."""
    deep = f"resnet{6 * recognised_blocks(weights) + 2}"
    return deep if deep in MODELS and "shortcut" in options_of(deep) else name


def of_study(
    spec: ModelSpec, brought: NetworkSpec, dataset: Dataset, classes: int | None
) -> Resolved:
    """Build the model of a study, and load the user's weights."""
    assert brought.weights is not None
    what = brought.spec or str(brought.weights)
    refuse(what, pretrained=brought.pretrained, threat_model=brought.threat_model)

    def make(number: int | None) -> nn.Module:
        known = (spec.mean, spec.std) if spec.mean and spec.std else dataset.moments
        return build_model(spec, number or len(dataset.classes), known)

    model = built(make, brought, classes)
    for name, given in (("mean", brought.mean), ("std", brought.std)):
        carried = model.get_buffer(f"normalize.{name}").flatten()
        if given is not None and not carried.allclose(carried.new_tensor(given), atol=1e-4):
            raise SelbenchError(
                f"{brought.weights} carries the {name} {carried.tolist()}, not {list(given)}; "
                "leave out --mean and --std"
            )
    return Resolved(model, Inputs(), "", spec.name)
