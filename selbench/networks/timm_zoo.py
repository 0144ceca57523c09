"""timm's image classifiers, pretrained or not."""

from importlib import import_module
from math import floor
from typing import Any

from torch import nn

from selbench._kit.errors import SelbenchError, unknown
from selbench.datasets import Dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import INTERPOLATIONS, Inputs
from selbench.networks.zoo import ZOOS, Resolved, built, careful_loading, reason_of, refuse


@ZOOS
def timm(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Classifiers of timm: --pretrained, with --weights, or with random weights."""
    refuse(brought.spec, threat_model=brought.threat_model)
    library = _named(name)
    if brought.pretrained:
        network = _pretrained(library, name, brought.spec)
    else:

        def make(number: int | None) -> nn.Module:
            return library.create_model(name, **({"num_classes": number} if number else {}))  # type: ignore[no-any-return]

        network = built(make, brought, dataset, classes)
    note = "pretrained" if brought.pretrained else "" if brought.weights else "random"
    config = library.data.resolve_model_data_config(network, use_test_size=brought.pretrained)
    return Resolved(network, inputs_of(config), note, name)


def declared(name: str, brought: NetworkSpec) -> Inputs:
    """Return the preprocessing of timm's evaluation of a network."""
    library = _named(name)
    known = library.get_pretrained_cfg(name)
    config = library.data.resolve_data_config(
        pretrained_cfg=known.to_dict() if known else {}, use_test_size=brought.pretrained
    )
    if config["crop_mode"] != "center":
        raise SelbenchError(
            f"{brought.spec} declares that images are squeezed to a square ({config['crop_mode']}),"
            " which selbench does not do; scale and crop them: --resize "
            f"{inputs_of(config).resize} --crop {inputs_of(config).crop}"
        )
    return inputs_of(config)


def _named(name: str) -> Any:
    """Return the module timm, if it has a network of that name."""
    library = _library()
    if not library.is_model(name):
        raise unknown("timm network", name, library.list_models())
    return library


def _library() -> Any:
    try:
        with careful_loading():
            return import_module("timm")
    except ImportError as problem:
        raise SelbenchError(
            "timm is not installed, which timm:NAME needs; pip install timm"
        ) from problem


def _pretrained(library: Any, name: str, spec: str) -> Any:
    try:
        with careful_loading():
            return library.create_model(name, pretrained=True)
    except Exception as problem:  # of the connection, the disk, or the file
        config = library.get_pretrained_cfg(name)
        where = getattr(config, "hf_hub_id", None) or getattr(config, "url", None) or "timm's hub"
        missing = "huggingface_hub" if "huggingface_hub" in str(problem) else ""
        cure = f"pip install {missing}, or " if missing else ""
        raise SelbenchError(
            f"the weights of {spec} cannot be loaded from {where} ({reason_of(problem)}); {cure}"
            "fetch the file by hand and give it with --weights instead of --pretrained"
        ) from problem


def inputs_of(config: dict[str, Any]) -> Inputs:
    """Return the preprocessing of timm's evaluation: a resize, and a central crop of a share."""
    side = int(config["input_size"][-1])
    interpolation = config["interpolation"]
    return Inputs(
        resize=floor(side / config["crop_pct"]),
        crop=side,
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bilinear",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
