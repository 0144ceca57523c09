"""Image classifiers of the Hugging Face Hub, built by timm or loaded by transformers."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from selbench._kit.errors import SelbenchError, in_short
from selbench.datasets import Dataset
from selbench.models import load_weights
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import INTERPOLATIONS, Inputs
from selbench.networks.timm_zoo import inputs_of
from selbench.networks.zoo import ZOOS, Resolved, careful_loading, reason_of, refuse

PILLOW = ("nearest", "", "bilinear", "bicubic")  # by the numbers in a transformers config
HALF = 0.5  # default mean and deviation of processors


@ZOOS
def hf(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Classifiers of the Hugging Face Hub, with their weights: hf:ORG/NAME."""
    refuse(brought.spec, threat_model=brought.threat_model, weights=brought.weights)
    if name.count("/") != 1:
        raise SelbenchError(f"{brought.spec} names no repository; say hf:ORG/NAME")
    config = _config(name, brought.spec)
    try:
        with careful_loading():
            known = "architecture" in config
            return _of_timm(name, config) if known else _of_transformers(name)
    except SelbenchError:
        raise
    except Exception as problem:  # of the connection, the disk, or the file
        raise _unavailable(brought.spec, problem) from problem


def _config(name: str, spec: str) -> dict[str, Any]:
    """Return the config of a repository's network, and cache it."""
    hub = _library("huggingface_hub")
    try:
        with careful_loading():
            path = Path(hub.hf_hub_download(name, "config.json"))
        found: dict[str, Any] = json.loads(path.read_text())
    except Exception as problem:
        raise _unavailable(spec, problem) from problem
    return found


def _unavailable(spec: str, problem: Exception) -> SelbenchError:
    return SelbenchError(
        f"{spec} cannot be loaded from the Hugging Face Hub ({reason_of(problem)}); look at its "
        "name and at the connection, or set HF_HOME to a cache that holds it"
    )


def _of_timm(name: str, config: dict[str, Any]) -> Resolved:
    """Build the network with timm, whose download needs an older huggingface_hub."""
    timm, hub = _library("timm"), _library("huggingface_hub")
    arguments = {"num_classes": config["num_classes"], **config.get("model_args", {})}
    network = timm.create_model(config["architecture"], **arguments)
    load_weights(network, Path(hub.hf_hub_download(name, "model.safetensors")))
    declared = config.get("pretrained_cfg", {})
    found = timm.data.resolve_data_config(pretrained_cfg=declared, use_test_size=True)
    return Resolved(network, inputs_of(found), "", name)


class _Logits(nn.Module):
    """A network of transformers that returns only its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of normalised images."""
        found: Tensor = self.network(pixel_values=images).logits
        return found


def _of_transformers(name: str) -> Resolved:
    library = _library("transformers")
    network = library.AutoModelForImageClassification.from_pretrained(name, use_safetensors=True)
    processor = library.AutoImageProcessor.from_pretrained(name).to_dict()
    return Resolved(_Logits(network), _processed(processor), "", name)


def _processed(processor: dict[str, Any]) -> Inputs:
    """Return the preprocessing of a transformers processor."""
    size = processor.get("size") or {}
    resize = size.get("shortest_edge") or size.get("height")
    cut = processor.get("crop_size") if processor.get("do_center_crop") else None
    interpolation = PILLOW[min(int(processor.get("resample") or 2), len(PILLOW) - 1)]
    normalised = processor.get("do_normalize", True)
    return Inputs(
        resize=resize,
        crop=(cut or {}).get("height") or resize,
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bilinear",
        mean=tuple(processor.get("image_mean") or [HALF] * 3) if normalised else None,
        std=tuple(processor.get("image_std") or [HALF] * 3) if normalised else None,
    )


def _library(name: str) -> Any:
    try:
        with careful_loading():
            return import_module(name)
    except ImportError as problem:
        raise SelbenchError(
            f"{name} cannot be imported ({in_short(problem)}), which hf:ORG/NAME needs; "
            "pip install 'selbench[hf]'"
        ) from problem
