"""What suites consist of, what they are made for, and where they are registered."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import nn

from selbench.attacks.gradient import Attacked
from selbench.corrupted.reading import CorruptedSet, Stored
from selbench.datasets import Split
from selbench.registry import Registry
from selbench.store import Measurement
from selbench.study import MechanismSpec
from selbench.types import Examples, Pixels


@dataclass(frozen=True)
class HeldOut:
    """The training images that networks were not trained on, drawn anew for each seed.

    Attributes:
        checksum: identifies the images of all seeds.
        images: how many they are.
        load: takes those of a seed from the data set.
    """

    checksum: str
    images: int
    load: Callable[[int], Split]


@dataclass(frozen=True)
class Only:
    """What is taken of suites: names of corruptions, and of attacks; () for all."""

    corruptions: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()


ALL = Only()


@dataclass(frozen=True)
class Setting:
    """What suites are made for.

    Attributes:
        height, width: of the images, in pixels.
        scale: the image size whose corruption constants are used; None for the images' own.
        only: the corruptions and attacks to take of those in a suite.
        stored: a set on disk to take corrupted images from, instead of making them.
        mechanism: how the analyses look at networks.
        validation: the training images that were held out; None where there are none.
    """

    height: int
    width: int
    scale: int | None = None
    only: Only = ALL
    stored: CorruptedSet | None = None
    mechanism: MechanismSpec = field(default_factory=MechanismSpec)
    validation: HeldOut | None = None


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
    """What is computed of one network on a whole split: `measure(model, split, classes)`.

    `most` is how many of the images it looks at if there are more, None for all.
    """

    suite: str
    measure: Callable[[nn.Module, Split, int], list[Measurement]]
    name: str = "clean"
    level: int | None = None
    group: str = ""
    source: str = "original"
    version: int = 1
    most: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What is computed of one network on images and on what conditions make of them.

    Attributes are the columns of the same names of `selbench.store.Cell`, and:
        conditions: what happens to the images, one for each of `levels`.
        measure: from (model, split, perturbed images of every level, classes) to the measurements
            of every level.
    """

    suite: str
    name: str
    conditions: tuple[Condition, ...]
    measure: Callable[[nn.Module, Split, Sequence[Pixels], int], list[list[Measurement]]]
    level: None = None
    group: str = ""
    source: str = "generated"
    version: int = 1

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Those of the conditions."""
        return tuple(condition.level for condition in self.conditions)


@dataclass(frozen=True)
class Passes:
    """How often images go through a network: forward, and forward and back for gradients."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class Attack:
    """What happens to the images with the help of the network under test.

    Attributes are the columns of the same names of `selbench.store.Cell`, and:
        levels: of the budget, rising: epsilons in 255ths, or numbers of steps.
        run: attacks (network, images, labels, examples); returns one result per level.
        transfer: whether `run` takes another subject's network too, before the images.
        passes: of each image at most, where it never falls; None where that is not known.
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
    passes: Passes | None = None


@dataclass(frozen=True)
class Validation:
    """Each network on the images that were held out of its own training, all of them.

    Its outcomes are kept to fit on, but measured in no table: the network was chosen by them.
    One whose seed is not known, such as a brought one, is left out.
    """

    held_out: HeldOut
    suite: str = "validation"
    name: str = "clean"
    level: None = None
    group: str = ""
    source: str = "held out"
    version: int = 1


@dataclass(frozen=True)
class Recalibration:
    """What a fit to `validation` makes of the outcomes under `conditions`, one for each level.

    It needs no network: the outcomes are those that the store holds. Attributes are the columns of
    the same names of `selbench.store.Cell`.
    """

    conditions: tuple[Condition, ...]
    validation: Validation
    suite: str
    name: str
    level: None = None
    group: str = ""
    source: str = "original"
    version: int = 1

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Those of the conditions."""
        return tuple(condition.level for condition in self.conditions)


Work = Condition | Analysis | Comparison | Attack | Validation | Recalibration
SUITES = Registry[Callable[[Setting], list[Work]]]("suite")


def levels_of(work: Work) -> tuple[float | None, ...]:
    """Return the levels of the cells that a piece of work makes."""
    return work.levels if isinstance(work, Attack | Comparison | Recalibration) else (work.level,)


def once(pieces: Iterable[Work]) -> list[Work]:
    """Return each piece of work once, in order."""
    return list({(work.suite, work.name, levels_of(work)): work for work in pieces}.values())
