"""The bench does the work: it holds networks and images on a device, and a sink for results.

If a network fails (out of memory, an error in its code), its cells are stored as failed with the
reason, and the other networks go on. Errors that the user has to fix end the work.
"""

import os
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch
from torch import Tensor, nn

from selbench._kit.chunks import BATCH, few, in_chunks, sizes_of
from selbench._kit.crew import Map, StoppedError, map_in_turn
from selbench._kit.deadline import Clock, OutOfTimeError
from selbench._kit.device import measuring
from selbench._kit.errors import (
    MissingOutcomesError,
    NegativeActivityError,
    NoReLUError,
    NotFiniteError,
    NotRandomError,
    SelbenchError,
    UnboundedError,
    in_short,
)
from selbench._kit.printable import printable
from selbench._kit.progress import Step
from selbench._kit.transfer import fetched
from selbench._kit.types import Examples, Images, Labels, Pixels, to_images
from selbench.datasets import Split
from selbench.datasets.room import gathered
from selbench.sets.stored import Stored
from selbench.statistics.logit_layers import compact
from selbench.store import Cell, Failure, Measurement, Result
from selbench.store.outcomes import KEPT_CLASSES, Columns, outcome, summary, to_table
from selbench.store.parts import Parts
from selbench.suites.attacking import CHUNK, Attacking, run_attack
from selbench.suites.chunked import Chunks, Order, joined, part_of
from selbench.suites.work import Task

# Errors of a network that cannot be measured: it is left out, and its cells do not count as failed.
LEFT_OUT = (
    NotFiniteError,
    NegativeActivityError,
    NoReLUError,
    NotRandomError,
    UnboundedError,
)
OF_NETWORKS = (*LEFT_OUT, MissingOutcomesError)
RAISED = (Exception, SystemExit)  # by a network, whose code may call sys.exit
INCOMPLETE = 3  # exit code of a run with failed cells
GOES_ON = "the same command continues with the next; --retry-failed tries this again"
LONGEST = 300  # characters of a stored reason


Perturb = Callable[[Pixels, Examples], Pixels]  # uint8 images, and their positions in the data set
Measure = Callable[[Split], Sequence[Columns]]  # returns the images' outcomes at each level


@runtime_checkable
class Sink(Protocol):
    """Receives results: a `selbench.store.StudyStore`, or a connection to one."""

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None: ...

    def fail(self, failed: Sequence[Failure]) -> None: ...

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None: ...

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table: ...

    @property
    def parts(self) -> Parts: ...


@dataclass(frozen=True)
class Bench:
    """The networks, images and settings that tasks run with.

    Attributes:
        networks: the prepared networks, by the hash of their weights.
        split: the test images, on the networks' device.
        classes: the number of classes.
        limit: how many of the test images are in `split`; None for all.
        save: the number of images whose adversarials are stored.
        sink: receives the results.
        step: called after every batch.
        run_all: maps over tasks or networks, one by one or in parallel.
        time_limit: seconds that a network may compute for a cell; None for no limit.
        ends: whether a network that cannot be interrupted ends the process.
        order: indices of the images in the order in which `limit` adds them; None if they are in
            this order already.
    """

    networks: Mapping[str, nn.Module]
    split: Split
    classes: int
    limit: int | None
    save: int
    sink: Sink
    step: Step
    run_all: Map[Any, Any]
    time_limit: float | None = None
    ends: bool = False
    order: Order | None = None

    def do(self, tasks: Sequence[Task]) -> None:
        """Do the tasks of one piece of work; perturb the images once for all of them.

        Tasks that fail are stored as failed.

        Raises:
            SelbenchError: for what the user has to fix, such as images that cannot be read or a
                full disk.
        """
        try:
            with measuring():
                tasks[0].work.run(tasks, self)
        except RAISED as problem:
            self.fail(tasks, problem)

    def each(self, run: Callable[[Task], None], tasks: Sequence[Task]) -> None:
        """Do tasks separately, so that the others go on after a failure."""

        def attempt(task: Task) -> None:
            try:
                run(task)
            except RAISED as problem:
                self.fail([task], problem)

        self.run_all(attempt, tasks)

    def fail(self, tasks: Sequence[Task], problem: BaseException) -> None:
        """Store tasks as failed, with the reason; raise `problem` again if no network caused it."""
        record_failure(tasks, problem, self.sink)
        check_alive(self.split.labels.device)

    def clock(self, task: Task) -> Clock:
        """Return a clock of the time that the task's network may use for all of its cells."""
        limit = None if self.time_limit is None else self.time_limit * len(task.cells)
        return Clock(limit, partial(self._end, task) if self.ends else None)

    def _end(self, task: Task, problem: OutOfTimeError) -> None:
        """End the process, since its thread cannot be interrupted; a later run does the others."""
        record_failure([task], problem, self.sink)
        sentence = f"{task.network.name} cannot be interrupted ({problem}); {GOES_ON}"
        os.write(2, f"selbench: {printable(sentence)}\n".encode())
        os._exit(INCOMPLETE)

    def tested(
        self, perturb: Perturb, note: str, tasks: Sequence[Task], split: Split | Stored
    ) -> tuple[list[Task], list[Columns]]:
        """Test all networks together; store those that fail as failed, and leave them out.

        Args:
            perturb: applied to each batch of images.
            note: the name in the progress bar.
            tasks: the networks' tasks.
            split: the images.

        Returns:
            the tasks of the networks that did not fail, with their outcomes.
        """
        left, step = list(tasks), partial(self.step, note=note)
        clocks = {task.network.weights: self.clock(task) for task in tasks}
        while left:
            failed: dict[int, BaseException] = {}
            task_clocks = [clocks[task.network.weights] for task in left]
            run_all = partial(_all_or_none, self.run_all, failed, task_clocks)
            networks = [self.networks[task.network.weights] for task in left]
            try:
                return left, run_condition(perturb, networks, split, step, run_all)
            except _FailedError:
                for number, problem in failed.items():
                    self.fail([left[number]], problem)
                left = [task for number, task in enumerate(left) if number not in failed]
        return [], []

    def attacked(self, attack: Attacking, chunked: bool, task: Task) -> None:
        """Attack a network, and write its outcomes at each level."""
        with self.clock(task).running():
            outcomes, saved = self.under_attack(attack, task, chunked)
        if self.save:
            self.sink.save(task.cells[0], saved)
        self.keep([task], outcomes)
        if chunked:
            self._discard_chunks(task)

    def under_attack(
        self, attack: Attacking, task: Task, chunked: bool
    ) -> tuple[list[Columns], dict[str, Tensor]]:
        """Return a network's outcomes under an attack, as `run_attack` does.

        If `chunked`, finished chunks of images are stored and reused.
        """
        networks = [self.networks[each.weights] for each in task.networks]
        budgets = [float(cell.level or 0) for cell in task.cells]
        chunks = self._chunks(task, CHUNK[self.split.labels.device.type]) if chunked else None
        step = partial(self.step, note=task.work.name)
        with measuring(), sizes_of(networks[0]):
            return run_attack(attack, budgets, networks, self.split, self.save, chunks, step)

    def chunked(self, measuring_of: Callable[[Task], Measure], most: int, task: Task) -> None:
        """Measure a network in chunks of at most `most` images, and write its outcomes.

        Finished chunks are stored and reused.
        """
        with self.leaving_out(task):
            chunks, parts = self._chunks(task, most), []
            network = self.networks[task.network.weights]
            with self.clock(task).running(), measuring(), sizes_of(network):
                measure = measuring_of(task)
                for chunk in chunks.split(self.split):
                    parts.append(chunks.part(chunk, lambda images: part_of(measure(images))))
                    self.step(len(chunk), task.work.name)
            self.keep([task], joined(parts, len(task.cells)))
            self._discard_chunks(task)

    def _chunks(self, task: Task, most: int) -> Chunks:
        order = torch.arange(len(self.split)) if self.order is None else self.order
        return Chunks(order, self.sink.parts, task.cells, few(self.split.images, most))

    def _discard_chunks(self, task: Task) -> None:
        """Remove a task's chunks, unless a larger limit can reuse them."""
        if self.limit is None:
            self.sink.parts.remove(task.cells)

    def measured(self, measure: Callable[[nn.Module], list[list[Measurement]]], task: Task) -> None:
        """Measure a task's network and write its cells, without rows if it cannot be measured."""
        with self.leaving_out(task):
            network = self.networks[task.network.weights]
            with self.clock(task).running(), sizes_of(network):
                rows = measure(network)
            results = [Result(cell, values) for cell, values in zip(task.cells, rows, strict=True)]
            self.sink.write(results)
        self.step(task.work.images(self.split, self.limit), task.work.name)

    @contextmanager
    def leaving_out(self, task: Task) -> Iterator[None]:
        """Warn if a task's network cannot be measured, and write its cells without rows."""
        try:
            yield
        except LEFT_OUT as problem:
            message = f"{task.network.name} is left out of {task.work.suite}: {problem}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            self.sink.write([Result(cell, []) for cell in task.cells])

    def keep(
        self, tasks: Sequence[Task], outcomes: Sequence[Columns], measured: bool = True
    ) -> None:
        """Write the cells of tasks with their outcomes, and with the measurements of these."""
        cells = [cell for task in tasks for cell in task.cells]
        if not cells:
            return
        pairs = zip(cells, outcomes, strict=True)
        results = [summary(*pair) if measured else Result(pair[0], []) for pair in pairs]
        self.sink.write(results, to_table(cells, outcomes))


def record_failure(tasks: Sequence[Task], problem: BaseException, sink: Sink) -> None:
    """Store tasks as failed, with the reason; raise `problem` again if no network caused it.

    Not caused by a network: errors that the user has to fix, and the stop of a crew.
    """
    if isinstance(problem, SelbenchError | StoppedError) and not isinstance(problem, OF_NETWORKS):
        raise problem
    first = next(iter(str(problem).strip().splitlines()), "")
    reason = f"{type(problem).__name__}: {first}".removesuffix(": ")[:LONGEST]
    frames = traceback.extract_tb(problem.__traceback__)[-1:]
    places = [f"{Path(each.filename).name}:{each.lineno} in {each.name}" for each in frames]
    cells = [cell for task in tasks for cell in task.cells]
    sink.fail([Failure(cell, reason, "".join(places)) for cell in cells])


def check_alive(device: torch.device) -> None:
    """Raise `SelbenchError` for a GPU that is unusable after an error."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as problem:
        raise SelbenchError(
            f"{device} is unusable in this process after an error ({in_short(problem)}); finished "
            "work is stored, and the same command continues with the next piece of work"
        ) from problem


def perturbed(perturb: Perturb, split: Split) -> Pixels:
    """Return all images, perturbed."""
    parts = (_changed(perturb, part) for part in _batches(split))
    return gathered(parts, len(split))


def _changed(perturb: Perturb, batch: Split) -> Pixels:
    """Return a batch's images, perturbed; fewer at once if memory does not suffice."""

    def change(images: Pixels, examples: Examples) -> tuple[Pixels]:
        return (perturb(images, examples),)

    (images,) = in_chunks(change, batch.images, batch.examples, sizes=BATCH)
    return images


def _batches(split: Split | Stored) -> Iterator[Split]:
    """Yield batches of images in order, smaller ones for large images."""
    size = BATCH[split.labels.device.type]
    for batch in split.batches(size):
        yield from batch.batches(few(batch.images, size))


def run_condition(
    perturb: Perturb,
    networks: Sequence[nn.Module],
    split: Split | Stored,
    step: Step,
    run_all: Map[Any, Any] = map_in_turn,
) -> list[Columns]:
    """Return each network's outcomes on perturbed images: columns of len(split) rows, on the CPU.

    Each batch is perturbed once for all networks; `run_all` maps over the networks. Logits are a
    column if there are few classes and all of them count.
    """
    among = split.among if isinstance(split, Stored) else None
    parts: list[list[Columns]] = [[] for _ in networks]
    for batch in _batches(split):
        labels, images = batch.labels, to_images(_changed(perturb, batch))

        @torch.inference_mode()
        def forward(
            network: nn.Module, images: Images = images, labels: Labels = labels
        ) -> Columns:
            with sizes_of(network):
                (logits,) = in_chunks(lambda part: (network(part),), images, sizes=BATCH)
            result = outcome(logits, labels, among)
            if among is None and logits.shape[1] <= KEPT_CLASSES:
                result["logits"] = compact(logits)
            step(len(labels))
            return result

        for kept, result in zip(parts, run_all(forward, networks), strict=True):
            kept.append({"example": batch.examples, "label": labels, **result})
    return _together(parts)


class _FailedError(Exception):
    """At least one of several networks failed."""


def _all_or_none(
    run_all: Map[Any, Any],
    failed: dict[int, BaseException],
    clocks: Sequence[Clock],
    function: Callable[[nn.Module], Any],
    networks: Sequence[nn.Module],
) -> list[Any]:
    """Map over networks; put failures into `failed`, and raise `_FailedError` after the last."""

    def attempt(numbered: tuple[int, nn.Module]) -> Any:
        number, network = numbered
        try:
            with clocks[number].running():
                return function(network)
        except (SelbenchError, StoppedError):
            raise
        except RAISED as problem:
            failed[number] = problem

    results = run_all(attempt, list(enumerate(networks)))
    if failed:
        raise _FailedError
    return results


def _together(tables: Sequence[Sequence[Columns]]) -> list[Columns]:
    """Return each table's columns, joined from its parts, on the CPU."""
    return fetched(
        [{n: torch.cat([part[n] for part in parts]) for n in parts[0]} for parts in tables]
    )
