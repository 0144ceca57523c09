"""RobustBench's model zoo (Croce et al., 2021, arXiv:2010.09670)."""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selbench._kit.content import check_regular
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import home
from selbench.datasets import Dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs
from selbench.networks.zoo import ZOOS, Resolved, careful_loading, reason_of, refuse

THREATS = ("Linf", "L2", "corruptions")
SIZES = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}  # zoos, by their number of classes
PREPROCESSINGS = {
    "": Inputs(),
    "Res224": Inputs(224, 224),
    "Crop288": Inputs(crop=288),
    "Res256Crop224": Inputs(256, 224),
    "BicubicRes256Crop224": Inputs(256, 224, "bicubic"),
}


@ZOOS
def robustbench(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """RobustBench's zoo: NAME, or ZOO/NAME for a zoo of another data set, and --threat-model."""
    refuse(brought.spec, mean=brought.mean, std=brought.std, entry=brought.entry)
    zoo, threat, model = _place(name, brought, SIZES.get(len(dataset.classes), ""))
    entry = _entry(zoo, threat, model)
    if brought.weights:
        network = _with_file(zoo, threat, model, entry, brought.weights)
    else:
        network = _load(zoo, threat, model, entry, home() / "robustbench")
    return Resolved(network, _inputs(entry), threat, f"{zoo}/{threat}/{model}")


def declared(name: str, brought: NetworkSpec) -> Inputs:
    """Return the preprocessing of a network's evaluation in the zoo, by default ImageNet's."""
    return _inputs(_entry(*_place(name, brought, "imagenet")))


def _place(name: str, brought: NetworkSpec, usual: str) -> tuple[str, str, str]:
    """Return the zoo, threat model and name of a network; the default zoo is `usual`."""
    zoo, _, model = name.rpartition("/")
    zoo = zoo or usual
    if zoo not in SIZES.values():
        raise unknown("zoo of RobustBench in ZOO/NAME", zoo, SIZES.values())
    threat = brought.threat_model or "Linf"
    if threat not in THREATS:
        raise unknown("threat model", threat, THREATS)
    return zoo, threat, model


def _inputs(entry: dict[str, Any]) -> Inputs:
    return PREPROCESSINGS[entry.get("preprocessing") or ""]


@cache
def _library() -> Any:
    """Import robustbench 1.1.1, which imports AutoAttack by an old name."""
    try:
        with careful_loading():
            attacks = import_module("pyautoattack")
            sys.modules.setdefault("autoattack", attacks)
            sys.modules.setdefault("autoattack.state", import_module("pyautoattack.state"))
            return import_module("robustbench.utils")
    except ImportError as problem:
        raise SelbenchError(
            f"robustbench cannot be imported ({problem}); pip install 'robustbench>=1.1.1' "
            "pyautoattack 'setuptools<81'"
        ) from problem


def _entry(zoo: str, threat: str, model: str) -> dict[str, Any]:
    """Return the zoo's description of a network."""
    threats = {
        each.value: networks
        for data, kinds in _library().all_models.items()
        for each, networks in kinds.items()
        if data.value == zoo
    }
    networks = threats.get(threat, {})
    if model not in networks:
        others = [other for other, known in threats.items() if model in known]
        if others:
            raise SelbenchError(
                f"RobustBench has {model} for {zoo} not under {threat}, but under "
                f"{' and '.join(others)}; say --threat-model {others[0]}"
            )
        raise unknown(f"network of RobustBench for {zoo} under {threat}", model, networks)
    return dict(networks[model])


def _load(zoo: str, threat: str, model: str, entry: dict[str, Any], folder: Path) -> Any:
    place = folder / zoo / threat / f"{model}.pt"
    number = len(entry["gdrive_id"]) if isinstance(entry["gdrive_id"], list) else None
    files = [place] if number is None else [Path(f"{place}_m{i}.pt") for i in range(number)]
    try:
        with careful_loading():
            return _library().load_model(model, str(folder), zoo, threat)
    except Exception as problem:  # of the connection, the disk, or the file
        absent = [file for file in files if not file.is_file()]
        if absent and entry["gdrive_id"]:
            where = "Google Drive, file " + ", ".join(map(str, [entry["gdrive_id"]]))
            raise SelbenchError(
                f"the weights of robustbench:{model} cannot be downloaded from {where} "
                f"({reason_of(problem)}); put them there by hand: {absent[0]}"
            ) from problem
        raise SelbenchError(
            f"{files[0]} does not hold the weights of robustbench:{model} ({reason_of(problem)}); "
            "they must be the zoo's own file, loadable with torch.load(weights_only=True)"
        ) from problem


def _with_file(zoo: str, threat: str, model: str, entry: dict[str, Any], weights: Path) -> Any:
    """Load a user's file as if it were the zoo's."""
    check_regular(weights)
    if not weights.is_file():
        raise SelbenchError(f"there is no checkpoint {weights}")
    if not isinstance(entry["gdrive_id"], str):
        raise SelbenchError(f"robustbench:{model} is not loaded from one file; leave --weights out")
    with TemporaryDirectory() as folder:
        place = Path(folder) / zoo / threat / f"{model}.pt"
        place.parent.mkdir(parents=True)
        place.symlink_to(weights.absolute())
        try:
            return _load(zoo, threat, model, entry, Path(folder))
        except SelbenchError as problem:
            raise SelbenchError(str(problem).replace(str(place), str(weights))) from problem
