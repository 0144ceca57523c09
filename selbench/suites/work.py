"""Pieces of work, of which suites consist; each has all that engines need to run it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from selbench._kit.registry import Registry
from selbench.attacks.given import GivenAdversarials
from selbench.datasets import Split
from selbench.networks.network import Network
from selbench.sets.reading import CorruptedSet
from selbench.sets.shifted import ShiftedSet
from selbench.sets.stored import Stored
from selbench.store import Cell
from selbench.study import MechanismSpec, ProbabilitySpec, SmoothingSpec

if TYPE_CHECKING:
    from selbench.suites.bench import Bench
    from selbench.suites.pieces import Condition

Put = Callable[[Mapping[int, Split]], Callable[..., Split]]


@dataclass(frozen=True)
class HeldOut:
    """The training images that networks were not trained on, drawn separately for each seed.

    Attributes:
        checksum: identifies the images of all seeds.
        images: the number of images of one seed.
        load: returns the images of a seed.
    """

    checksum: str
    images: int
    load: Callable[[int], Split]


@dataclass(frozen=True)
class Setting:
    """The settings that suites are built from.

    Attributes:
        height, width: the size of the images, in pixels.
        scale: the image size whose corruption constants are used; None for the images' own.
        corruptions, attacks: the selected names; () for all of a suite.
        given: adversarials from files, with a checksum of them and of the test images, or None.
        in_files: whether attacks search images of 8-bit pixels.
        draws: number of draws whose mean is attacked; None for the networks as they are.
        stored: a set on disk with corrupted or shifted images; None to generate them.
        full: whether AutoAttack runs at every epsilon, even where the result is certain.
        mechanism: the settings of the analyses.
        smoothing: the noise and the number of draws of randomised smoothing.
        probability: the error and the confidence of probabilities over a network's randomness.
        seeds: the number of networks that a study trains for each alpha.
        validation: the training images that were held out, or None.
    """

    height: int
    width: int
    scale: int | None = None
    corruptions: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    in_files: bool = False
    draws: int | None = None
    given: tuple[GivenAdversarials, str] | None = None
    stored: CorruptedSet | ShiftedSet | None = None
    full: bool = False
    mechanism: MechanismSpec = field(default_factory=MechanismSpec)
    smoothing: SmoothingSpec = field(default_factory=SmoothingSpec)
    probability: ProbabilitySpec = field(default_factory=ProbabilitySpec)
    seeds: int = 1
    validation: HeldOut | None = None


@dataclass(frozen=True)
class Passes:
    """Numbers of passes of images: forward, forward and back, forward in float64.

    Attributes:
        seconds: of work whose passes depend on the images, timed on a few of them.
    """

    forward: float = 0
    backward: float = 0
    double: float = 0
    seconds: float = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.forward + other.forward,
            self.backward + other.backward,
            self.double + other.double,
            self.seconds + other.seconds,
        )

    def __mul__(self, times: float) -> "Passes":
        return Passes(
            times * self.forward, times * self.backward, times * self.double, times * self.seconds
        )


@dataclass(frozen=True)
class Work(ABC):
    """A perturbation of images or a measurement of networks: one or more cells per network.

    Its fields are copied to those of its cells (`selbench.store.Cell`); `name` becomes `condition`.
    Callers never check the kind of work: all that differs is a member of this class.

    Attributes:
        reads_outcomes: whether it reads stored outcomes and needs no networks.
        shares: whether it prepares images once for all networks.
        is_attack: whether it is an attack.
    """

    suite: str
    name: str
    _: KW_ONLY
    level: float | None = None
    group: str = ""
    source: str = "original"
    version: int = 1

    reads_outcomes: ClassVar[bool] = False
    shares: ClassVar[bool] = True
    is_attack: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The levels of the cells that it makes for a network."""
        return (self.level,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the corruptions or attacks that select it."""
        return (self.name,)

    @property
    def data(self) -> str:
        """The checksum of its images on disk; "" if it uses the test images."""
        return ""

    @property
    def makes(self) -> "Sequence[Condition]":
        """The conditions whose images it generates from the test images."""
        return ()

    @property
    def comparable(self) -> bool:
        """Whether it gives an outcome for each test image that depends on one network only."""
        return False

    @property
    def sampling(self) -> str:
        """A sentence on how it samples, for the dry run; "" if there is nothing to say."""
        return ""

    @property
    def images_elsewhere(self) -> Stored | None:
        """The images that it uses, if they are not the test images, clean or corrupted."""
        return None

    def images(self, split: Split, limit: int | None) -> int:
        """Return the number of images that it uses; `split` has `limit` of the test images."""
        return len(split)

    @abstractmethod
    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return how often its images pass a network, at most; None if unknown."""

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Yield the networks that it can run on, each with its helper or None."""
        yield from ((network, None) for network in networks)

    def saves(self, images: int) -> int:
        """Return the number of images whose adversarials are stored, if `images` are requested."""
        return 0

    def in_files(self) -> "Work | None":
        """Return it with adversarials of 8-bit pixels; None if its levels are no epsilons."""
        return self

    def averaged(self, draws: int) -> "Work | None":
        """Return it on the mean of so many draws; None if its levels are no epsilons."""
        return self

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Work":
        """Return a copy for another machine, which loads images on disk through `put`.

        Args:
            put: stores splits by seed, and returns a function that loads them (default seed 0).
            limit: the number of images that are needed; None for all.
            seeds: the seeds of the networks that it runs on.
        """
        return self

    @abstractmethod
    def run(self, tasks: "Sequence[Task]", bench: "Bench") -> None:
        """Run it on the networks of tasks, and write the results."""

    def tasks(
        self, networks: Sequence[Network], split: Split, limit: int | None
    ) -> "Iterator[Task]":
        """Yield a task for each network that it can run on."""
        for network, helper in self.partners(networks):
            cells = [self.cell(level, network, split, limit, helper) for level in self.levels]
            yield Task(self, network, cells, helper)

    def cell(
        self,
        level: float | None,
        network: Network,
        split: Split,
        limit: int | None,
        helper: Network | None = None,
    ) -> Cell:
        """Return the cell that it makes for a network at one of its levels."""
        return Cell(
            suite=self.suite,
            condition=self.name,
            level=level,
            group=self.group,
            source=self.source,
            version=self.version,
            data=self.data or split.checksum,
            limit=limit,
            subject=network.name,
            alpha=network.alpha,
            seed=network.seed,
            training=network.training,
            architecture=network.architecture,
            weights=network.weights,
            helper=helper.weights if helper else "",
        )


@dataclass(frozen=True)
class Task:
    """A piece of work on one network, with one cell for each level.

    `helper` is the network whose adversarials a transfer attack tries.
    """

    work: Work
    network: Network
    cells: list[Cell]
    helper: Network | None = None

    @property
    def networks(self) -> list[Network]:
        """The networks that the work needs: the network and its helper, or none."""
        needed = [] if self.work.reads_outcomes else [self.network, self.helper]
        return [each for each in needed if each is not None]


SUITES = Registry[Callable[[Setting], Sequence[Work]]]("suite")


def without_repeats(pieces: Iterable[Work]) -> list[Work]:
    """Return each piece of work once, in order."""
    return list({(work.suite, work.name, work.levels): work for work in pieces}.values())
