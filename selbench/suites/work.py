"""What suites consist of, what they are made for, and where they are registered."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from selbench.attacks.gradient import Attacked
from selbench.corrupted.reading import CorruptedSet, Stored
from selbench.datasets import Split
from selbench.registry import Registry
from selbench.store import Measurement
from selbench.types import Examples, Pixels


@dataclass(frozen=True)
class Setting:
    """What suites are made for.

    Attributes:
        height, width: of the images, in pixels.
        scale: the image size whose corruption constants are used; None for the images' own.
        only: corruptions to take of those in a suite; () for all.
        stored: a set on disk to take corrupted images from, instead of making them.
    """

    height: int
    width: int
    scale: int | None = None
    only: tuple[str, ...] = ()
    stored: CorruptedSet | None = None


def unchanged(images: Pixels, examples: Examples) -> Pixels:
    """Return the images as they are."""
    return images


@dataclass(frozen=True)
class Condition:
    """What happens to the images before every network sees them.

    Attributes are the columns of the same names of `selbench.store.Cell`; `perturb` maps uint8
    images, and their positions in the data set, to images of the same shape. A condition whose
    images lie on disk has them in `stored`, in place of the data set's.
    """

    suite: str
    name: str
    perturb: Callable[[Pixels, Examples], Pixels] = unchanged
    level: int | None = None
    group: str = ""
    source: str = "original"
    version: int = 1
    stored: Stored | None = None


@dataclass(frozen=True)
class Analysis:
    """What is computed of one network on a whole split: `measure(model, split, classes)`."""

    suite: str
    measure: Callable[[nn.Module, Split, int], list[Measurement]]
    name: str = "clean"
    level: int | None = None
    group: str = ""
    source: str = "original"
    version: int = 1


@dataclass(frozen=True)
class Attack:
    """What happens to the images with the help of the network under test.

    Attributes are the columns of the same names of `selbench.store.Cell`, and:
        levels: of the budget, rising: epsilons in 255ths, or numbers of steps.
        run: attacks (network, images, labels, examples); returns one result per level.
        transfer: whether `run` takes another subject's network too, before the images.
    """

    suite: str
    name: str
    levels: tuple[float, ...]
    run: Callable[..., list[Attacked]]
    transfer: bool = False
    level: None = None
    group: str = ""
    source: str = "attack"
    version: int = 1


Work = Condition | Analysis | Attack
SUITES = Registry[Callable[[Setting], list[Work]]]("suite")
