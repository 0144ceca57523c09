"""What a user says of a network of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selbench._kit.errors import SelbenchError
from selbench.study import Channels


@dataclass(frozen=True)
class NetworkSpec:
    """A network that a user brings, in their words.

    Attributes:
        weights: file with its weights; None where `spec` has some.
        mean, std: per channel on [0, 1], instead of what the network's origin declares.
        spec: where it comes from, such as "torchvision:resnet18"; "" for the study's architecture.
        pretrained: whether to take the weights that its origin publishes.
        threat_model: what RobustBench's network was made robust against; None for Linf.
        input_size: side in pixels of the images that it takes; None for what its origin declares.
        entry: which weights of the file to take, where it holds several; None for the usual.
        class_map: file that says which outputs are which classes of the data set.
        logits: which of its outputs to take, where it returns several: a key, or a number from 0.
        time_limit: seconds that it may take for an answer; None for no end.
    """

    weights: Path | None = None
    mean: Channels | None = None
    std: Channels | None = None
    spec: str = ""
    pretrained: bool = False
    threat_model: str | None = None
    input_size: int | None = None
    class_map: Path | None = None
    time_limit: float | None = None
    entry: str | None = None
    logits: str | None = None


def pair(specs: Sequence[str], weights: Sequence[Path], common: NetworkSpec) -> list[NetworkSpec]:
    """Return the networks that a command names; all else they have in common.

    Several files of weights belong to one spec, or each to the spec in its place.

    Raises:
        SelbenchError: for an empty spec, and where it is not clear which weights belong to which.
    """
    if "" in specs:
        raise SelbenchError(
            "--model is empty; name a network, such as torchvision:resnet18, or leave --model out"
        )
    files: Sequence[Path | None] = weights or [None] * len(specs)
    if len(specs) == 1:
        specs = [*specs] * len(files)
    if len(specs) != len(files):
        raise SelbenchError(
            f"there are {len(specs)} --model and {len(files)} --weights; give one --weights for "
            "each, in their order, or say the networks in commands of their own: one store takes "
            "them all"
        )
    return [
        replace(common, spec=spec, weights=file) for spec, file in zip(specs, files, strict=True)
    ]
