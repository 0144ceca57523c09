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
from selbench.attacks.averaged import averaged
from selbench.attacks.norms import NORMS
from selbench.attacks.pixels import in_files, searchable
from selbench.datasets import Split
from selbench.networks.network import Network
from selbench.sets.stored import Stored
from selbench.store import OVER_DRAWS, Cell, Measurement
from selbench.store.adversarials import IN_FILES
from selbench.store.findings import AVERAGED, GRADIENTS, spoiling
from selbench.store.outcomes import from_table, recalibrated, recalibrations
from selbench.suites.attacking import Attacking
from selbench.suites.bench import Bench, Perturb, perturbed
from selbench.suites.work import HeldOut, Passes, Put, Task, Work


def unchanged(images: Pixels, examples: Examples) -> Pixels:
    """Return the images unchanged."""
    return images


@dataclass(frozen=True)
class _Sent:
    """Reads the images that were sent to another machine."""

    load: Callable[..., Split]

    def __call__(self, places: Examples) -> Pixels:
        return self.load().take(places).images


@dataclass(frozen=True)
class Condition(Work):
    """A perturbation of the images that is the same for every network.

    `perturb` maps uint8 images, and their positions in the data set, to images of the same shape. A
    condition with images on disk has them in `stored`; they replace those of the data set.
    """

    perturb: Perturb = unchanged
    stored: Stored | None = field(default=None, kw_only=True)

    @property
    def data(self) -> str:
        """The checksum of the images on disk."""
        return self.stored.checksum if self.stored else ""

    @property
    def makes(self) -> "Sequence[Condition]":
        """Itself, unless its images are on disk or are the test images."""
        return [self] if self.stored is None and self.perturb is not unchanged else []

    @property
    def comparable(self) -> bool:
        """True: every test image has an outcome of one network."""
        return True

    @property
    def images_elsewhere(self) -> Stored | None:
        """The images on disk, if they are not corrupted test images."""
        return self.stored if self.level is None else None

    def images(self, split: Split, limit: int | None) -> int:
        """Return the number of test images, or of images on disk, that it uses."""
        if self.stored is None:
            return len(split)
        return min(len(self.stored), limit or len(self.stored))

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count each image once."""
        return Passes(forward=self.images(split, limit))

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Condition":
        """Send the images on disk along."""
        if self.stored is None:
            return self
        stored = self.stored.limited(limit)
        return replace(self, stored=replace(stored, read=_Sent(put({0: stored.split()}))))

    def made_of(self, split: Split, limit: int | None) -> Pixels:
        """Return all images under the condition, in order."""
        if self.stored is not None:
            stored_split = self.stored.limited(limit).to(split.labels.device).split()
            assert torch.equal(stored_split.labels, split.labels)
            return stored_split.images
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
        """The name in the progress bar."""
        return self.name if self.level is None else f"{self.name} {self.level:g}"


@dataclass(frozen=True)
class Analysis(Work):
    """Measurements of one network on all clean images: `measure(model, split, classes)`.

    Attributes:
        each: how often an image passes the network, or a function of the arguments of `measure`
            that returns it; None if unknown.
        most: the largest number of images that it uses; None for all.
    """

    measure: Callable[[nn.Module, Split, int], list[Measurement]]
    each: Passes | Callable[[nn.Module, Split, int], Passes] | None = None
    most: int | None = None

    shares: ClassVar[bool] = False

    def images(self, split: Split, limit: int | None) -> int:
        """Return the number of images that it uses."""
        return len(split) if self.most is None else min(self.most, len(split))

    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return the passes of its images."""
        images = self.images(split, limit)
        each = self.each(model, split, classes) if callable(self.each) else self.each
        return each and each * images

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Measure the networks, one by one or in parallel."""

        def measure(network: nn.Module) -> list[list[Measurement]]:
            return [self.measure(network, bench.split, bench.classes)]

        bench.each(partial(bench.measured, measure), tasks)


def data_of(conditions: Sequence[Condition]) -> str:
    """Return one checksum of all conditions' images on disk."""
    checksums = [each.stored.checksum for each in conditions if each.stored]
    return fingerprint(checksums) if checksums else ""


@dataclass(frozen=True)
class Comparison(Work):
    """Measurements of one network that compare clean images with perturbed ones.

    Attributes:
        conditions: the perturbations, one for each of `levels`.
        measure: maps (model, split, perturbed images of every level, classes) to the measurements
            of every level.
    """

    conditions: tuple[Condition, ...]
    measure: Callable[[nn.Module, Split, Sequence[Pixels], int], list[list[Measurement]]]

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The levels of the conditions."""
        return tuple(condition.level for condition in self.conditions)

    @property
    def data(self) -> str:
        """One checksum of all images on disk."""
        return data_of(self.conditions)

    @property
    def makes(self) -> Sequence[Condition]:
        """The conditions whose images are not on disk."""
        return [made for condition in self.conditions for made in condition.makes]

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count each image once, and once more for each condition."""
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
    """A perturbation of the images that depends on the network under test.

    Attributes:
        budgets: rising epsilons in 255ths, or numbers of steps; its levels.
        attack: maps (network, images, labels, examples) to one result per level.
        transfer: whether `attack` takes a second network, before the images.
        each: how often an image passes that is never fooled; None if unknown.
        chunked: whether it is slow, so that every finished chunk of images is stored.
        at: returns `attack` for other epsilons, in 255ths; None if levels are not epsilons.
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
        """Whether it depends on one network only: not if it is a transfer attack."""
        return not self.transfer

    def passes(
        self, model: nn.Module, split: Split, classes: int, limit: int | None
    ) -> Passes | None:
        """Return the passes of images that are never fooled."""
        return self.each and self.each * len(split)

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Yield the networks; for a transfer attack, pair each with the most similar one.

        Networks with a finding that makes accuracy under the attack meaningless are left out, and
        networks without gradients are no helpers.
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
        """Return all images."""
        return images

    def in_files(self) -> "Attack | None":
        """Return it with adversarials of 8-bit pixels; None if its levels are not epsilons."""
        if self.at is None:
            return None
        searched = searchable(self.budgets, self.group)
        attack = in_files(self.at(searched), searched, self.budgets, NORMS[self.group])
        return replace(self, name=f"{self.name}{IN_FILES}", attack=attack, at=None)

    def averaged(self, draws: int) -> "Attack | None":
        """Return it on the mean of so many draws; None if its levels are not epsilons."""
        if self.at is None:
            return None
        return replace(
            self,
            name=f"{self.name}{AVERAGED}",
            source=f"{self.source}{OVER_DRAWS.format(draws)}",
            attack=averaged(self.at, self.budgets, NORMS[self.group], draws),
            each=None,
            at=None,
        )

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Attack the networks, one by one or in parallel."""
        bench.each(partial(bench.attacked, self.attack, self.chunked), tasks)


@dataclass(frozen=True)
class Validation(Work):
    """Every network on all images that were held out of its training.

    The outcomes are stored to fit recalibration, but no table reports them: they selected the
    network. Networks without a known seed, such as a user's, are left out.
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
        """Return the number of held-out images; it always uses all."""
        return self.held_out.images

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count each image once."""
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
        """Return the cell, which has no limit."""
        return super().cell(level, network, split, None, helper)

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Validation":
        """Send the images of these seeds along."""
        load = put({seed: self.held_out.load(seed) for seed in seeds})
        return replace(self, held_out=replace(self.held_out, load=load))

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Evaluate networks of one seed together; store outcomes without measurements."""
        by_seed: dict[int, list[Task]] = {}
        for task in tasks:
            by_seed.setdefault(task.network.seed or 0, []).append(task)
        for seed, same in by_seed.items():
            split = self.held_out.load(seed).to(bench.split.labels.device)
            done, outcomes = bench.tested(unchanged, self.name, same, split)
            bench.keep(done, outcomes, measured=False)


@dataclass(frozen=True)
class Recalibration(Work):
    """Recalibrates the outcomes under `conditions`, one for each level, by a fit to `validation`.

    It needs no network: it reads the outcomes from the store.
    """

    conditions: tuple[Condition, ...]
    validation: Validation

    reads_outcomes: ClassVar[bool] = True

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The levels of the conditions."""
        return tuple(condition.level for condition in self.conditions)

    @property
    def data(self) -> str:
        """One checksum of all images on disk."""
        return data_of(self.conditions)

    def images(self, split: Split, limit: int | None) -> int:
        """Return 0: it uses no images."""
        return 0

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count no passes."""
        return Passes()

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose seed is not known."""
        return super().partners(_seeded(networks))

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Recalibrate all networks together, or one by one if outcomes of some are missing."""
        try:
            self._recalibrate(tasks, bench)
        except MissingOutcomesError:
            for task in tasks:
                try:
                    self._recalibrate([task], bench)
                except MissingOutcomesError as problem:
                    bench.fail([task], problem)

    def _recalibrate(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Fit to each network's validation outcomes, and write its recalibrated other outcomes."""
        triples: list[tuple[Cell, Cell, Cell]] = []  # made, recalibrated, fitted to
        split, limit = bench.split, bench.limit
        for task in tasks:
            held_out = self.validation.cell(None, task.network, split, limit)
            for condition, made in zip(self.conditions, task.cells, strict=True):
                source = condition.cell(condition.level, task.network, split, limit)
                triples.append((made, source, held_out))
        found = from_table(bench.sink.outcomes({cell.key for _, *read in triples for cell in read}))
        fitted = {
            key: recalibrations(found[key]) for key in {held_out.key for *_, held_out in triples}
        }
        bench.sink.write(
            [
                recalibrated(made, found[source.key], fitted[held_out.key])
                for made, source, held_out in triples
            ]
        )


def _seeded(networks: Sequence[Network]) -> list[Network]:
    return [network for network in networks if network.seed is not None]
