"""Do a piece of work on the networks that lack it, and keep what comes of it.

A network that fails, for want of memory or by any error of its own, takes no other with it: its
cells are kept as failed, with the reason. What the user has to mend ends the work.
"""

import traceback
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch
from torch import Tensor, nn

from selbench.crew import Map, StoppedError
from selbench.datasets import Split, limited
from selbench.engine.forward import perturbed, run_attack, run_condition
from selbench.engine.plan import Task, cell_of
from selbench.errors import (
    MissingOutcomesError,
    NegativeActivityError,
    NoReLUError,
    NotFiniteError,
    SelbenchError,
)
from selbench.outcomes import Columns, from_table, recalibrated, summary, to_table
from selbench.progress import Step
from selbench.store import Cell, Failure, Measurement, Result
from selbench.suites import Analysis, Attack, Comparison, Condition, Recalibration, Validation
from selbench.types import Pixels

OF_NETWORKS = (NotFiniteError, NegativeActivityError, NoReLUError, MissingOutcomesError)
RAISED = (Exception, SystemExit)  # by networks, whose code may call sys.exit
LONGEST = 300  # characters of a reason


@runtime_checkable
class Sink(Protocol):
    """Where results go: a `selbench.store.StudyStore`, or what brings them to one."""

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None: ...

    def fail(self, failed: Sequence[Failure]) -> None: ...

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None: ...

    def outcomes(self, keys: Collection[str] | None = None) -> pa.Table: ...


@dataclass(frozen=True)
class Bench:
    """What a group of tasks is done with.

    Attributes:
        networks: prepared, by the hash of their weights.
        split: the test images, on the networks' device.
        classes: how many there are.
        limit: how many of the test images `split` has; None for all.
        save: keep the adversarials of so many images.
        sink: takes results.
        step: told of every batch.
        run_all: maps over tasks or networks, in turn or side by side.
    """

    networks: Mapping[str, nn.Module]
    split: Split
    classes: int
    limit: int | None
    save: int
    sink: Sink
    step: Step
    run_all: Map[Any, Any]

    def of(self, tasks: Sequence[Task]) -> list[nn.Module]:
        """Return the networks of tasks."""
        return [self.networks[task.subject.weights] for task in tasks]

    def keep(self, tasks: Sequence[Task], outcomes: Sequence[Columns]) -> None:
        """Write the cells of tasks with what their outcomes come to."""
        cells = [cell for task in tasks for cell in task.cells]
        if not cells:
            return
        results = [summary(cell, columns) for cell, columns in zip(cells, outcomes, strict=True)]
        self.sink.write(results, to_table(cells, outcomes))


def run_group(group: Sequence[Task], bench: Bench) -> None:
    """Do the tasks of one piece of work; what it makes of the images is made once for all.

    Tasks that fail are kept as failed.

    Raises:
        SelbenchError: for what the user has to mend, such as images that cannot be read or a disk
            that is full.
    """
    try:
        _run(group, bench)
    except RAISED as problem:
        _fail(group, problem, bench)


def record_failure(tasks: Sequence[Task], problem: BaseException, sink: Sink) -> None:
    """Keep that tasks failed, and why; raise again what is no failure of theirs.

    That is what the user has to mend, and the end of a crew.
    """
    if isinstance(problem, SelbenchError | StoppedError) and not isinstance(problem, OF_NETWORKS):
        raise problem
    first = next(iter(str(problem).strip().splitlines()), "")
    reason = f"{type(problem).__name__}: {first}".removesuffix(": ")[:LONGEST]
    frames = traceback.extract_tb(problem.__traceback__)[-1:]
    places = [f"{Path(each.filename).name}:{each.lineno} in {each.name}" for each in frames]
    cells = [cell for task in tasks for cell in task.cells]
    sink.fail([Failure(cell, reason, "".join(places)) for cell in cells])


def _fail(tasks: Sequence[Task], problem: BaseException, bench: Bench) -> None:
    record_failure(tasks, problem, bench.sink)
    check_alive(bench.split.labels.device)


def check_alive(device: torch.device) -> None:
    """Raise `SelbenchError` for a GPU on which, after an error, everything would fail."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        raise SelbenchError(
            f"{device} cannot be used any more by this process ({reason}); what was done is kept, "
            "and the same command goes on with the next piece of work"
        ) from problem


def _run(group: Sequence[Task], bench: Bench) -> None:
    work = group[0].work
    if isinstance(work, Condition):
        own = bench.split
        if work.stored is not None:
            own = limited(work.stored.load(), bench.limit).to(own.labels.device)
        bench.keep(*_tested(work, group, own, bench))
    elif isinstance(work, Comparison):
        sets = [perturbed(each, bench.split, bench.limit) for each in work.conditions]
        _run_each(partial(_run_comparison, work, sets, bench), group, bench)
    elif isinstance(work, Attack):
        _run_each(partial(_run_attack, work, bench), group, bench)
    elif isinstance(work, Analysis):
        _run_each(partial(_run_analysis, work, bench), group, bench)
    elif isinstance(work, Validation):
        _run_validation(work, group, bench)
    else:
        _run_recalibration(work, group, bench)


def _run_each(run: Callable[[Task], None], group: Sequence[Task], bench: Bench) -> None:
    """Do tasks apart, so that one that fails leaves the others alone."""

    def attempt(task: Task) -> None:
        try:
            run(task)
        except RAISED as problem:
            _fail([task], problem, bench)

    bench.run_all(attempt, group)


def _tested(
    condition: Condition, group: Sequence[Task], split: Split, bench: Bench
) -> tuple[list[Task], list[Columns]]:
    """Run a condition for all networks at once; those that fail are left out of it, and kept so.

    Returns:
        the tasks of the others, with their outcomes.
    """
    tasks = list(group)
    while tasks:
        failed: dict[int, BaseException] = {}
        run_all = partial(_all_or_none, bench.run_all, failed)
        try:
            return tasks, run_condition(condition, bench.of(tasks), split, bench.step, run_all)
        except _FailedError:
            for number, problem in failed.items():
                _fail([tasks[number]], problem, bench)
            tasks = [task for number, task in enumerate(tasks) if number not in failed]
    return [], []


class _FailedError(Exception):
    """Some of several networks failed."""


def _all_or_none(
    run_all: Map[Any, Any],
    failed: dict[int, BaseException],
    function: Callable[[nn.Module], Any],
    networks: Sequence[nn.Module],
) -> list[Any]:
    """Map over networks; those that fail are put into `failed` once all have ended."""

    def attempt(numbered: tuple[int, nn.Module]) -> Any:
        number, network = numbered
        try:
            return function(network)
        except (SelbenchError, StoppedError):
            raise
        except RAISED as problem:
            failed[number] = problem

    results = run_all(attempt, list(enumerate(networks)))
    if failed:
        raise _FailedError
    return results


def _run_attack(work: Attack, bench: Bench, task: Task) -> None:
    helpers = [] if task.helper is None else [bench.networks[task.helper.weights]]
    outcomes, saved = run_attack(work, [*bench.of([task]), *helpers], bench.split, bench.save)
    if bench.save:
        bench.sink.save(task.cells[0], saved)
    bench.keep([task], outcomes)
    bench.step(len(bench.split), work.name)


def _run_analysis(work: Analysis, bench: Bench, task: Task) -> None:
    (network,) = bench.of([task])
    _keep_measured(task, bench, lambda: [work.measure(network, bench.split, bench.classes)])


def _run_comparison(work: Comparison, sets: Sequence[Pixels], bench: Bench, task: Task) -> None:
    """Compare a network on the images with what conditions made of them."""
    (network,) = bench.of([task])
    _keep_measured(task, bench, lambda: work.measure(network, bench.split, sets, bench.classes))


def _keep_measured(
    task: Task, bench: Bench, measure: Callable[[], list[list[Measurement]]]
) -> None:
    """Write a task's cells; without measurements where a network's outputs allow none."""
    try:
        rows = measure()
    except (NotFiniteError, NegativeActivityError, NoReLUError) as problem:
        message = f"{task.subject.name} is left out of {task.work.suite}: {problem}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        rows = [[] for _ in task.cells]
    results = [Result(cell, own) for cell, own in zip(task.cells, rows, strict=True)]
    bench.sink.write(results)
    bench.step(len(bench.split), task.work.name)


def _run_validation(work: Validation, group: Sequence[Task], bench: Bench) -> None:
    """Evaluate networks on the images that were held out of their training; keep outcomes alone."""
    by_seed: dict[int, list[Task]] = {}
    for task in group:
        by_seed.setdefault(task.subject.seed or 0, []).append(task)
    condition = Condition(work.suite, work.name)
    for seed, own in by_seed.items():
        split = work.held_out.load(seed).to(bench.split.labels.device)
        tasks, outcomes = _tested(condition, own, split, bench)
        cells = [cell for task in tasks for cell in task.cells]
        if cells:
            bench.sink.write([Result(cell, []) for cell in cells], to_table(cells, outcomes))


def _run_recalibration(work: Recalibration, group: Sequence[Task], bench: Bench) -> None:
    """Recalibrate all networks at once, or each alone where outcomes of some are lacking."""
    try:
        _recalibrate(work, group, bench)
    except MissingOutcomesError:
        for task in group:
            try:
                _recalibrate(work, [task], bench)
            except MissingOutcomesError as problem:
                record_failure([task], problem, bench.sink)


def _recalibrate(work: Recalibration, group: Sequence[Task], bench: Bench) -> None:
    """Fit to each network's validation outcomes, and keep what that makes of its others."""
    triples: list[tuple[Cell, Cell, Cell]] = []  # what is made, of what, fitted to what
    split, limit = bench.split, bench.limit
    for task in group:
        held_out = cell_of(work.validation, None, task.subject, None, split, limit)
        for condition, made in zip(work.conditions, task.cells, strict=True):
            source = cell_of(condition, condition.level, task.subject, None, split, limit)
            triples.append((made, source, held_out))
    found = from_table(bench.sink.outcomes({cell.key for _, *read in triples for cell in read}))
    bench.sink.write(
        [
            recalibrated(made, found[source.key], found[held_out.key])
            for made, source, held_out in triples
        ]
    )
