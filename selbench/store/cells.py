"""The types of results: cells, their measurements, and failures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from selbench._kit.files import fingerprint
from selbench.store.schema import FilePart, Number, Text, Whole

MEASURED = ("layer", "layer_name", "metric", "value", "error", "n")


@dataclass(frozen=True)
class Measurement:
    """One number: `metric` of a cell, over `n` examples.

    Attributes:
        layer: the number of the layer in the network, from 1; None for the full network.
        layer_name: the name of the layer in the network.
        error: standard error of `value`, if it estimates a quantity that could be computed exactly.
    """

    metric: Text
    value: Number
    n: Whole
    layer: Whole | None = None
    layer_name: Text | None = None
    error: Number | None = None


@dataclass(frozen=True)
class Cell:
    """One subject under one condition; every attribute is a column of `measurements.csv`.

    Attributes:
        suite: the kind of condition, such as "clean", "corruptions" or "attacks".
        condition: such as "gaussian_noise" or "clean".
        level: severity, epsilon in 255ths, number of steps or share of units; None for no level.
        group: the corruption's family, the attack's norm, or "".
        source: of the images: "original", "generated", a variant, "official", or "files" on disk.
        version: the version of the condition's code.
        data: checksum of the test images and labels, or of those on disk that replace them.
        limit: the number of images that were asked for; None for all.
        subject: the network's name, such as "alpha=-1 seed=0" or a file's path.
        alpha: its regulariser strength; None for a user's network.
        seed: its seed; None for a user's network.
        training: fingerprint of its training; "" for a user's network.
        architecture: the network's architecture.
        weights: hash of the network's weights.
        helper: hash of the weights of the network that an attack was transferred from, or "".
    """

    suite: FilePart
    condition: FilePart
    level: Number | None
    group: Text
    source: Text
    version: Whole
    data: Text
    limit: Whole | None
    subject: Text
    alpha: Number | None
    seed: Whole | None
    training: Text
    architecture: Text
    weights: Text
    helper: Text = ""

    @property
    def key(self) -> str:
        """Content hash of everything that the cell's numbers depend on."""
        return fingerprint(asdict(self))


EVERY_EPSILON = "attack; every epsilon"
BOUND = "bound"  # the source of bounds
SMOOTHED = "smoothed"  # the source of networks under noise
OVER_DRAWS = "; means over {} draws"  # added to the source of an attack on a random network
DRAWN = "drawn"  # the source of draws of a random network

CELL = tuple(Cell.__dataclass_fields__)


def is_attack(source: str) -> bool:
    """Return whether a source is that of an attack."""
    return source.partition(OVER_DRAWS.partition("{")[0])[0] in ("attack", EVERY_EPSILON)


def condition_id(suite: str, condition: str, level: float | None) -> str:
    """Return the id of a condition, such as "corruptions/fog/3"."""
    return f"{suite}/{condition}" if level is None else f"{suite}/{condition}/{level:g}"


@dataclass(frozen=True)
class Result:
    """A cell with its measurements."""

    cell: Cell
    measurements: Sequence[Measurement]


@dataclass(frozen=True)
class Failure:
    """A cell that could not be evaluated, and why.

    Attributes:
        reason: the exception in one line: "OutOfMemoryError: CUDA out of memory. ...".
        place: the line of code that raised it, "" if unknown.
    """

    cell: Cell
    reason: Text
    place: Text = ""
