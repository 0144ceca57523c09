"""What a suite consists of: pieces of work, each of which says all that engines need to know."""

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
from selbench.study import MechanismSpec

if TYPE_CHECKING:
    from selbench.suites.bench import Bench
    from selbench.suites.pieces import Condition

Put = Callable[[Mapping[int, Split]], Callable[..., Split]]


@dataclass(frozen=True)
class HeldOut:
    """The training images that networks were not trained on, drawn separately for each seed.

    Attributes:
        checksum: identifies the images of all seeds.
        images: how many they are.
        load: takes those of a seed from the data set.
    """

    checksum: str
    images: int
    load: Callable[[int], Split]


@dataclass(frozen=True)
class Setting:
    """What suites are made for.

    Attributes:
        height, width: of the images, in pixels.
        scale: the image size whose corruption constants are used; None for the images' own.
        corruptions, attacks: the names to take of those in a suite; () for all.
        given: adversarials of others, and a checksum of them and of the test images; None for none.
        in_files: whether adversarials are looked for among images that a file can hold.
        stored: a set on disk to take corrupted or shifted images from, instead of making them.
        full: whether AutoAttack runs at every epsilon, not only where a verdict is in doubt.
        mechanism: how the analyses look at networks.
        validation: the training images that were held out; None where there are none.
    """

    height: int
    width: int
    scale: int | None = None
    corruptions: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    in_files: bool = False
    given: tuple[GivenAdversarials, str] | None = None
    stored: CorruptedSet | ShiftedSet | None = None
    full: bool = False
    mechanism: MechanismSpec = field(default_factory=MechanismSpec)
    validation: HeldOut | None = None


@dataclass(frozen=True)
class Passes:
    """How often images go through a network: forward, forward and back, forward in float64."""

    forward: float = 0
    backward: float = 0
    double: float = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.forward + other.forward,
            self.backward + other.backward,
            self.double + other.double,
        )

    def __mul__(self, times: float) -> "Passes":
        return Passes(times * self.forward, times * self.backward, times * self.double)


@dataclass(frozen=True)
class Work(ABC):
    """One thing that is done to images or computed of networks: one or several cells of each.

    Attributes are the columns of the same names of `selbench.store.Cell`; `name` is its condition.
    What differs between kinds of work is a member of this class, so that nobody has to ask which
    kind it is:

    Attributes:
        reads_outcomes: whether it reads outcomes in the store instead of looking at networks.
        shares: whether it makes something of the images that serves all networks.
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
        """Those of the cells that it makes of a network."""
        return (self.level,)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the corruptions or attacks that it is chosen by."""
        return (self.name,)

    @property
    def data(self) -> str:
        """The checksum of the images that it brings; "" where it takes the test images."""
        return ""

    @property
    def makes(self) -> "Sequence[Condition]":
        """The conditions whose images it makes of the test images."""
        return ()

    @property
    def comparable(self) -> bool:
        """Whether it has an outcome of each test image that depends on one network alone."""
        return False

    @property
    def images_elsewhere(self) -> Stored | None:
        """The images that it takes instead, if they are no corrupted test images."""
        return None

    def images(self, split: Split, limit: int | None) -> int:
        """Return how many images it takes; `split` has `limit` of the test images."""
        return len(split)

    @abstractmethod
    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return how often its images pass a network, at most; None where that is not known."""

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Yield the networks that it can be done on, each with the one that helps."""
        yield from ((network, None) for network in networks)

    def saves(self, images: int) -> int:
        """Return of how many images adversarials are kept, where `images` are asked for."""
        return 0

    def in_files(self) -> "Work | None":
        """Return it with adversarials that a file can hold; None for an attack that has none."""
        return self

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Work":
        """Return it for another machine: images of its own come from where `put` leaves them.

        Args:
            put: leaves splits, by seed, and returns what brings them (without a seed, that of 0).
            limit: how many of the images are needed; None for all.
            seeds: of the networks that it is done on.
        """
        return self

    @abstractmethod
    def run(self, tasks: "Sequence[Task]", bench: "Bench") -> None:
        """Do it on the networks of tasks, and keep what comes of it."""

    def tasks(
        self, networks: Sequence[Network], split: Split, limit: int | None
    ) -> "Iterator[Task]":
        """Yield a task for each network that it can be done on."""
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
        """Return the cell that it makes of a network at one of its levels."""
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
    """A piece of work on one network: the cells it makes, one for each level.

    `helper` is the network whose adversarials are tried, where an attack is transferred.
    """

    work: Work
    network: Network
    cells: list[Cell]
    helper: Network | None = None

    @property
    def networks(self) -> list[Network]:
        """The network and its helper, as far as the work looks at them."""
        needed = [] if self.work.reads_outcomes else [self.network, self.helper]
        return [each for each in needed if each is not None]


SUITES = Registry[Callable[[Setting], Sequence[Work]]]("suite")


def without_repeats(pieces: Iterable[Work]) -> list[Work]:
    """Return each piece of work once, in order."""
    return list({(work.suite, work.name, work.levels): work for work in pieces}.values())
