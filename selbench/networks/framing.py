"""The size to which image files are scaled and cropped, if a user's network declares it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from selbench._kit.errors import SelbenchError
from selbench._kit.frozen import first_problem
from selbench.datasets.frame import Frame, frame_of
from selbench.networks import robustbench_zoo, timm_zoo, torchvision_zoo
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs
from selbench.study import NETWORK, DatasetSpec

OPTIONS = ("resize", "crop", "interpolation")
EXAMPLE = "--resize 256 --crop 224"
DECLARE: dict[str, Callable[[str, NetworkSpec], Inputs]] = {
    "timm": timm_zoo.declared,
    "torchvision": torchvision_zoo.declared,
    "robustbench": robustbench_zoo.declared,
}


def framed(
    spec: DatasetSpec, given: Mapping[str, Any], networks: Sequence[NetworkSpec]
) -> DatasetSpec:
    """Return the description of a data set with the given options of size instead of the study's.

    Args:
        spec: the data set of the study.
        given: some of `OPTIONS`; if there are any, they replace all of the study.
        networks: the networks that declare the size, if it is "network".

    Raises:
        SelbenchError: for inconsistent values, and if the networks declare no size or different
            ones.
    """
    known = spec.model_dump(exclude=set(OPTIONS) if given else set())
    try:
        spec = DatasetSpec.model_validate({**known, **given})
    except ValidationError as problem:
        words = " ".join(f"--{name} {value}" for name, value in given.items())
        raise SelbenchError(f"{words}: {first_problem(problem)['msg']}") from problem
    if spec.resize != NETWORK or not networks:
        return spec
    inputs = [_declared(each) for each in networks]
    if len({_size(each) for each in inputs}) > 1:
        words = "; ".join(
            f"{network.spec}: {_text(each)}" for network, each in zip(networks, inputs, strict=True)
        )
        raise SelbenchError(
            f"--resize {NETWORK} needs networks that declare one size, and these differ ({words}); "
            f"give one for all, such as {EXAMPLE}, or use one command per network"
        )
    resize, crop, interpolation = _size(inputs[0])
    values = {"resize": resize, "crop": crop, "interpolation": interpolation if resize else None}
    return spec.model_copy(update=values)


def given_frame(given: Mapping[str, Any]) -> Frame | None:
    """Return the frame of some of `OPTIONS`, without a study; None without options."""
    return frame_of(framed(DatasetSpec(name="folder", validation=1), given, ()))


def _declared(network: NetworkSpec) -> Inputs:
    kind, _, name = network.spec.partition(":")
    if kind not in DECLARE:
        raise SelbenchError(
            f"{network.spec or network.weights} declares no size of images, as networks of "
            f"{', '.join(DECLARE)} do; say it: {EXAMPLE}"
        )
    inputs = DECLARE[kind](name, network)
    if network.input_size:
        return Inputs(network.input_size, network.input_size, inputs.interpolation)
    if not (inputs.resize or inputs.crop):
        raise SelbenchError(f"{network.spec} declares no size of images; say it: {EXAMPLE}")
    return inputs


def _size(inputs: Inputs) -> tuple[int | None, int | None, str]:
    return inputs.resize, inputs.crop, inputs.interpolation


def _text(inputs: Inputs) -> str:
    return str(Inputs(*_size(inputs)))
