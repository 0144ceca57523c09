"""The kinds of work: conditions, analyses, comparisons, attacks, validation, recalibration."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from selbench._kit.errors import MissingOutcomesError
from selbench._kit.files import fingerprint
from selbench._kit.types import Examples, Pixels
from selbench.attacks.norms import NORMS
from selbench.attacks.pixels import in_files, searchable
from selbench.datasets import Split
from selbench.networks.network import Network
from selbench.sets.stored import Stored
from selbench.store import Cell, Measurement
from selbench.store.adversarials import IN_FILES
from selbench.store.findings import GRADIENTS, spoiling
from selbench.store.outcomes import from_table, recalibrated
from selbench.suites.attacking import Attacking
from selbench.suites.bench import Bench, Perturb, perturbed
from selbench.suites.work import HeldOut, Passes, Put, Task, Work


def unchanged(images: Pixels, examples: Examples) -> Pixels:
    """Return the images as they are."""
    return images


@dataclass(frozen=True)
class _Sent:
    """Reads images where they were sent to."""

    load: Callable[..., Split]

    def __call__(self, places: Examples) -> Pixels:
        return self.load().take(places).images


@dataclass(frozen=True)
class Condition(Work):
    """What happens to the images before every network sees them.

    `perturb` maps uint8 images, and their positions in the data set, to images of the same shape.
    A condition whose images lie on disk has them in `stored`, in place of the data set's.
    """

    perturb: Perturb = unchanged
    stored: Stored | None = field(default=None, kw_only=True)

    @property
    def data(self) -> str:
        """The checksum of the images on disk."""
        return self.stored.checksum if self.stored else ""

    @property
    def makes(self) -> "Sequence[Condition]":
        """Itself, unless its images lie on disk or are the test images."""
        return [self] if self.stored is None and self.perturb is not unchanged else []

    @property
    def comparable(self) -> bool:
        """True: every test image has an outcome."""
        return True

    @property
    def images_elsewhere(self) -> Stored | None:
        """The images on disk, where they are a set of their own and not corrupted test images."""
        return self.stored if self.level is None else None

    def images(self, split: Split, limit: int | None) -> int:
        """Return how many of the test images it takes, or of those on disk."""
        if self.stored is None:
            return len(split)
        return min(len(self.stored), limit or len(self.stored))

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Each image passes once."""
        return Passes(forward=self.images(split, limit))

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Condition":
        """Send the images on disk along."""
        if self.stored is None:
            return self
        stored = self.stored.limited(limit)
        return replace(self, stored=replace(stored, read=_Sent(put({0: stored.split()}))))

    def made_of(self, split: Split, limit: int | None) -> Pixels:
        """Return what it makes of all images, in their order."""
        if self.stored is not None:
            own = self.stored.limited(limit).to(split.labels.device).split()
            assert torch.equal(own.labels, split.labels)
            return own.images
        return perturbed(self.perturb, split)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Perturb each batch once, for all networks."""
        split: Split | Stored = bench.split
        if self.stored is not None:
            split = self.stored.limited(bench.limit).to(split.labels.device)
        done, outcomes = bench.tested(self.perturb, self.note, tasks, split)
        bench.keep(done, outcomes)

    @property
    def note(self) -> str:
        """What a progress bar calls it."""
        return self.name if self.level is None else f"{self.name} {self.level:g}"


@dataclass(frozen=True)
class Analysis(Work):
    """What is computed of one network on a whole split: `measure(model, split, classes)`.

    Attributes:
        each: how often an image passes the network, a function of what `measure` takes where that
            depends on it; None where it is not known.
        most: how many of the images it looks at if there are more, None for all.
    """

    measure: Callable[[nn.Module, Split, int], list[Measurement]]
    each: Passes | Callable[[nn.Module, Split, int], Passes] | None = None
    most: int | None = None

    shares: ClassVar[bool] = False

    def images(self, split: Split, limit: int | None) -> int:
        """Return how many images it looks at."""
        return len(split) if self.most is None else min(self.most, len(split))

    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return those of its images."""
        images = self.images(split, limit)
        each = self.each(model, split, classes) if callable(self.each) else self.each
        return each and each * images

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Measure one network after the other, or side by side."""

        def measure(network: nn.Module) -> list[list[Measurement]]:
            return [self.measure(network, bench.split, bench.classes)]

        bench.each(partial(bench.measured, measure), tasks)


def data_of(conditions: Sequence[Condition]) -> str:
    """Return one checksum of the images on disk of all conditions."""
    checksums = [each.stored.checksum for each in conditions if each.stored]
    return fingerprint(checksums) if checksums else ""


@dataclass(frozen=True)
class Comparison(Work):
    """What is computed of one network on images and on what conditions make of them.

    Attributes:
        conditions: what happens to the images, one for each of `levels`.
        measure: from (model, split, perturbed images of every level, classes) to the measurements
            of every level.
    """

    conditions: tuple[Condition, ...]
    measure: Callable[[nn.Module, Split, Sequence[Pixels], int], list[list[Measurement]]]

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Those of the conditions."""
        return tuple(condition.level for condition in self.conditions)

    @property
    def data(self) -> str:
        """One checksum of all images on disk."""
        return data_of(self.conditions)

    @property
    def makes(self) -> Sequence[Condition]:
        """Those of the conditions whose images do not lie on disk."""
        return [made for condition in self.conditions for made in condition.makes]

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Each image passes once, and once for each condition."""
        return Passes(forward=len(split) * (1 + len(self.conditions)))

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Comparison":
        """Send the conditions' images on disk along."""
        sent = tuple(condition.sent(put, limit, seeds) for condition in self.conditions)
        return replace(self, conditions=sent)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Perturb the images once, for all networks."""
        sets = [condition.made_of(bench.split, bench.limit) for condition in self.conditions]

        def measure(network: nn.Module) -> list[list[Measurement]]:
            return self.measure(network, bench.split, sets, bench.classes)

        bench.each(partial(bench.measured, measure), tasks)


@dataclass(frozen=True)
class Attack(Work):
    """What happens to the images with the help of the network under test.

    Attributes:
        budgets: rising: epsilons in 255ths, or numbers of steps; they are its levels.
        attack: attacks (network, images, labels, examples); returns one result per level.
        transfer: whether `attack` takes another network too, before the images.
        each: how often an image passes at most, where it never falls; None where not known.
        chunked: whether it takes long, so that every finished chunk of images is kept.
        at: returns `attack` for other epsilons, in 255ths; None where levels are none.
    """

    budgets: tuple[float, ...]
    attack: Attacking
    source: str = field(default="attack", kw_only=True)
    transfer: bool = field(default=False, kw_only=True)
    each: Passes | None = None
    chunked: bool = field(default=False, kw_only=True)
    at: Callable[[tuple[float, ...]], Attacking] | None = field(default=None, kw_only=True)

    shares: ClassVar[bool] = False
    is_attack: ClassVar[bool] = True

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The budgets."""
        return self.budgets

    @property
    def comparable(self) -> bool:
        """Unless another network helps."""
        return not self.transfer

    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return those of images that never fall."""
        return self.each and self.each * len(split)

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Pair each network with the one most like it, where an attack is transferred.

        Networks are left out of whose findings one makes accuracy under the attack meaningless, and
        those that no gradient can be followed of help nobody.
        """
        serve = [each for each in networks if spoiling(each.findings, self.name) is None]
        if not self.transfer:
            yield from super().partners(serve)
            return
        helpers = [each for each in networks if spoiling(each.findings, GRADIENTS) is None]
        for network in serve:
            helper = network.most_alike(helpers)
            if helper is not None:
                yield network, helper

    def saves(self, images: int) -> int:
        """Return all of them."""
        return images

    def in_files(self) -> "Attack | None":
        """Return it with adversarials that a file can hold, as another condition."""
        if self.at is None:
            return None
        searched = searchable(self.budgets, self.group)
        attack = in_files(self.at(searched), searched, self.budgets, NORMS[self.group])
        return replace(self, name=f"{self.name}{IN_FILES}", attack=attack, at=None)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Attack one network after the other, or side by side."""
        bench.each(partial(bench.attacked, self.attack, self.chunked), tasks)


@dataclass(frozen=True)
class Validation(Work):
    """Each network on the images that were held out of its own training, all of them.

    Its outcomes are kept to fit on, but measured in no table: the network was chosen by them.
    One whose seed is not known, such as a brought one, is left out.
    """

    suite: str = field(default="validation", kw_only=True)
    name: str = field(default="clean", kw_only=True)
    source: str = field(default="held out", kw_only=True)
    held_out: HeldOut

    @property
    def data(self) -> str:
        """The checksum of the held-out images."""
        return self.held_out.checksum

    def images(self, split: Split, limit: int | None) -> int:
        """Return how many there are: it always takes all."""
        return self.held_out.images

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Each image passes once."""
        return Passes(forward=self.images(split, limit))

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose seed is not known."""
        return super().partners(_seeded(networks))

    def cell(
        self,
        level: float | None,
        network: Network,
        split: Split,
        limit: int | None,
        helper: Network | None = None,
    ) -> Cell:
        """Return the cell; no limit counts."""
        return super().cell(level, network, split, None, helper)

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Validation":
        """Send the images of these seeds along."""
        load = put({seed: self.held_out.load(seed) for seed in seeds})
        return replace(self, held_out=replace(self.held_out, load=load))

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Evaluate networks of one seed together; keep outcomes alone."""
        by_seed: dict[int, list[Task]] = {}
        for task in tasks:
            by_seed.setdefault(task.network.seed or 0, []).append(task)
        for seed, own in by_seed.items():
            split = self.held_out.load(seed).to(bench.split.labels.device)
            done, outcomes = bench.tested(unchanged, self.name, own, split)
            bench.keep(done, outcomes, measured=False)


@dataclass(frozen=True)
class Recalibration(Work):
    """What a fit to `validation` makes of the outcomes under `conditions`, one for each level.

    It needs no network: the outcomes are those that the store holds.
    """

    conditions: tuple[Condition, ...]
    validation: Validation

    reads_outcomes: ClassVar[bool] = True

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Those of the conditions."""
        return tuple(condition.level for condition in self.conditions)

    @property
    def data(self) -> str:
        """One checksum of all images on disk."""
        return data_of(self.conditions)

    def images(self, split: Split, limit: int | None) -> int:
        """It takes none."""
        return 0

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Nothing passes a network."""
        return Passes()

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose seed is not known."""
        return super().partners(_seeded(networks))

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Recalibrate all networks at once, or each alone where outcomes of some are lacking."""
        try:
            self._recalibrate(tasks, bench)
        except MissingOutcomesError:
            for task in tasks:
                try:
                    self._recalibrate([task], bench)
                except MissingOutcomesError as problem:
                    bench.fail([task], problem)

    def _recalibrate(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Fit to each network's validation outcomes, and keep what that makes of its others."""
        triples: list[tuple[Cell, Cell, Cell]] = []  # what is made, of what, fitted to what
        split, limit = bench.split, bench.limit
        for task in tasks:
            held_out = self.validation.cell(None, task.network, split, limit)
            for condition, made in zip(self.conditions, task.cells, strict=True):
                source = condition.cell(condition.level, task.network, split, limit)
                triples.append((made, source, held_out))
        found = from_table(bench.sink.outcomes({cell.key for _, *read in triples for cell in read}))
        bench.sink.write(
            [
                recalibrated(made, found[source.key], found[held_out.key])
                for made, source, held_out in triples
            ]
        )


def _seeded(networks: Sequence[Network]) -> list[Network]:
    return [network for network in networks if network.seed is not None]
