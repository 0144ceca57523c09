"""Evaluate subjects under conditions: each perturbed batch is made once for all of them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selbench.attacks.folding import folded
from selbench.crew import Map, crew, is_small, map_in_turn
from selbench.datasets import Dataset, Split, limited
from selbench.errors import NegativeActivityError, NotFiniteError
from selbench.files import fingerprint
from selbench.progress import SILENT, Progress, Step
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.subjects import Subject
from selbench.suites import Analysis, Attack, Comparison, Condition, Work, levels_of
from selbench.training import to_images
from selbench.types import Images, Labels, Logits, Pixels

BATCH = {"cpu": 250, "cuda": 2000}
GROUP = 1000  # images under attack at once: those that have fallen leave, the rest stay together
OUTCOME = ("example", "label", "prediction", "confidence", "margin", "loss")


@dataclass(frozen=True)
class Task:
    """A piece of work on one subject: the cells it makes, one per level of an attack.

    `helper` is the subject whose adversarials are tried, where an attack is transferred.
    """

    work: Work
    subject: Subject
    cells: list[Cell]
    helper: Subject | None = None


def evaluate(
    subjects: Sequence[Subject],
    pieces: Sequence[Work],
    dataset: Dataset,
    store: StudyStore,
    device: torch.device,
    *,
    limit: int | None = None,
    save: int = 0,
    progress: Progress = SILENT,
) -> int:
    """Evaluate every subject under every piece of work that the store does not hold yet.

    Cells are written as soon as their condition is done, so that an interruption loses the
    condition in flight and no more.

    Args:
        subjects: networks under test.
        pieces: conditions, analyses and attacks, as `selbench.suites.collect` returns them.
        dataset: whose test images are used.
        store: where results go.
        device: where networks and images are put.
        limit: take so many test images, in the classes' proportions; None for all.
        save: keep the adversarials of so many images.
        progress: told of every batch.

    Returns:
        the number of cells evaluated.
    """
    split = limited(dataset.test, limit)
    pending = plan(subjects, pieces, split, limit, store, save)
    tasks = [task for group in pending for task in group]
    models = _loaded(tasks, device)
    split = split.to(device)
    small = all(is_small(model, split.images[0, 0].numel()) for model in models.values())
    with (
        progress.track("evaluate", sum(_length(t.work, split, limit) for t in tasks)) as step,
        crew(small, device, step) as (run_all, safe_step),
    ):

        def alone(task: Task) -> None:
            _run_alone(task, models, split, len(dataset.classes), store, save)
            safe_step(len(split), task.work.name)

        def compare(task: Task, sets: Sequence[Pixels]) -> None:
            _run_comparison(task, models, split, sets, len(dataset.classes), store)
            safe_step(len(split), task.work.name)

        for group in pending:
            work = group[0].work
            if isinstance(work, Comparison):
                sets = [_perturbed(each, split, limit) for each in work.conditions]
                run_all(partial(compare, sets=sets), group)
                continue
            if not isinstance(work, Condition):
                run_all(alone, group)
                continue
            own = split if work.stored is None else limited(work.stored.load(), limit).to(device)
            networks = [models[task.subject.weights] for task in group]
            outcomes = run_condition(work, networks, own, safe_step, run_all)
            _keep(store, [cell for task in group for cell in task.cells], outcomes)
    return sum(len(task.cells) for task in tasks)


def plan(
    subjects: Sequence[Subject],
    pieces: Sequence[Work],
    split: Split,
    limit: int | None,
    store: StudyStore,
    save: int = 0,
) -> list[list[Task]]:
    """Return the tasks that are left, those of one piece of work together.

    A task is left where the store lacks one of its cells, or adversarials that are to be saved.
    """
    kept, pending = store.keys(), []
    for work in pieces:
        missing: dict[str, Task] = {}
        for subject in subjects:
            transfer = isinstance(work, Attack) and work.transfer
            helper = helper_of(subject, subjects) if transfer else None
            if transfer and helper is None:
                continue
            levels = levels_of(work)
            cells = [_cell(work, level, subject, helper, split, limit) for level in levels]
            wanted = min(save, len(split)) if isinstance(work, Attack) else 0
            if store.saved(cells[0]) < wanted or not kept.issuperset(cell.key for cell in cells):
                missing[cells[0].key] = Task(work, subject, cells, helper)
        if missing:
            pending.append(list(missing.values()))
    return pending


def helper_of(subject: Subject, subjects: Sequence[Subject]) -> Subject | None:
    """Return the subject most like `subject`: of the same alpha if there is one, or the nearest."""

    def distance(other: Subject) -> tuple[float, int, str]:
        apart = abs((other.alpha or 0.0) - (subject.alpha or 0.0))
        seeds = abs((other.seed or 0) - (subject.seed or 0))
        return apart, seeds, other.name

    others = [other for other in subjects if other.weights != subject.weights]
    return min(others, key=distance, default=None)


def data_of(work: Work) -> str:
    """Return the checksum of the images that a piece of work has on disk, "" where it has none."""
    if isinstance(work, Comparison):
        checksums = [each.stored.checksum for each in work.conditions if each.stored]
        return fingerprint(checksums) if checksums else ""
    return work.stored.checksum if isinstance(work, Condition) and work.stored else ""


def prepare(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a network on `device` in evaluation mode, its weights frozen."""
    return model.to(device).eval().requires_grad_(False)


def run_condition(
    condition: Condition,
    networks: Sequence[nn.Module],
    split: Split,
    step: Step,
    run_all: Map[Any, Any] = map_in_turn,
) -> list[dict[str, Tensor]]:
    """Return each network's outcomes under `condition`: columns of len(split) rows, on the CPU.

    `run_all` maps over the networks, in turn or side by side.
    """
    size = BATCH[split.labels.device.type]
    note = condition.name if condition.level is None else f"{condition.name} {condition.level}"
    parts: list[list[dict[str, Tensor]]] = [[] for _ in networks]
    for start in range(0, len(split), size):
        labels, examples = (t[start : start + size] for t in (split.labels, split.examples))
        images = to_images(condition.perturb(split.images[start : start + size], examples))

        @torch.inference_mode()
        def forward(
            network: nn.Module, images: Images = images, labels: Labels = labels
        ) -> dict[str, Tensor]:
            result = outcome(network(images), labels)
            step(len(labels), note)
            return result

        for kept, result in zip(parts, run_all(forward, networks), strict=True):
            kept.append({"example": examples, "label": labels, **result})
    return [_joined(kept) for kept in parts]


def run_attack(
    attack: Attack, networks: Sequence[nn.Module], split: Split, save: int = 0
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Attack the first of `networks`, with the help of the others if there are any.

    Returns:
        its outcomes at each level, columns of len(split) rows; and of the first `save` images:
        clean, label, example, and for every level with images of its own the adversarial and
        the prediction, by name.
    """
    parts: list[list[dict[str, Tensor]]] = [[] for _ in attack.levels]
    saved: dict[str, Tensor] = {}
    first = to_images(split.images[:2])
    networks = [folded(network, first) for network in networks]
    for start in range(0, len(split), GROUP):
        rows = slice(start, start + GROUP)
        images, labels = to_images(split.images[rows]), split.labels[rows]
        examples = split.examples[rows]
        found = attack.run(*networks, images, labels, examples)
        for level, kept, result in zip(attack.levels, parts, found, strict=True):
            columns = outcome(result.logits, labels)
            columns |= {f"masking_{name}": holds for name, holds in result.checks.items()}
            assert ((columns["prediction"] != labels) == result.fallen).all()
            kept.append({"example": examples, "label": labels, **columns})
            if not start and (result is found[-1] or result.images is not found[-1].images):
                saved[f"adversarial {level:g}"] = result.images[:save]
                saved[f"prediction {level:g}"] = columns["prediction"][:save]
        if not start:
            saved |= {"clean": images[:save], "label": labels[:save], "example": examples[:save]}
    plain = torch.contiguous_format
    kept_images = {name: t.cpu().clone(memory_format=plain) for name, t in saved.items()}
    return [_joined(kept) for kept in parts], kept_images


def _loaded(tasks: Sequence[Task], device: torch.device) -> dict[str, nn.Module]:
    """Return the networks that tasks need, by the hash of their weights."""
    needed = [each for task in tasks for each in (task.subject, task.helper) if each is not None]
    loads = {subject.weights: subject.load for subject in needed}
    return {weights: prepare(load(), device) for weights, load in loads.items()}


def _run_alone(
    task: Task,
    models: dict[str, nn.Module],
    split: Split,
    classes: int,
    store: StudyStore,
    save: int,
) -> None:
    """Do what takes one network at a time, and keep its cells."""
    work, network = task.work, models[task.subject.weights]
    if isinstance(work, Attack):
        helpers = [] if task.helper is None else [models[task.helper.weights]]
        outcomes, saved = run_attack(work, [network, *helpers], split, save)
        if save:
            store.save(task.cells[0], saved)
        _keep(store, task.cells, outcomes)
    elif isinstance(work, Analysis):
        _keep_measured(store, task, lambda: [work.measure(network, split, classes)])


def _run_comparison(
    task: Task,
    models: dict[str, nn.Module],
    split: Split,
    sets: Sequence[Pixels],
    classes: int,
    store: StudyStore,
) -> None:
    """Compare a network on `split` with what conditions made of it, and keep the cells."""
    work, network = task.work, models[task.subject.weights]
    assert isinstance(work, Comparison)
    _keep_measured(store, task, lambda: work.measure(network, split, sets, classes))


def _keep_measured(
    store: StudyStore, task: Task, measure: Callable[[], list[list[Measurement]]]
) -> None:
    """Write a task's cells; without measurements where a network's outputs allow none."""
    try:
        rows = measure()
    except (NotFiniteError, NegativeActivityError) as problem:
        message = f"{task.subject.name} is left out of {task.work.suite}: {problem}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        rows = [[] for _ in task.cells]
    store.write([Result(cell, own) for cell, own in zip(task.cells, rows, strict=True)])


def _perturbed(condition: Condition, split: Split, limit: int | None) -> Pixels:
    """Return what a condition makes of all images, in their order."""
    if condition.stored is not None:
        own = limited(condition.stored.load(), limit).to(split.labels.device)
        assert torch.equal(own.labels, split.labels)
        return own.images
    size = BATCH[split.labels.device.type]
    batches = zip(split.images.split(size), split.examples.split(size), strict=True)
    return torch.cat([condition.perturb(images, examples) for images, examples in batches])


def outcome(logits: Logits, labels: Labels) -> dict[str, Tensor]:
    """Return per example: prediction, its probability, logit margin of the label, cross-entropy."""
    logits = logits.float()
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return {
        "prediction": logits.argmax(1),
        "confidence": logits.softmax(1).amax(1),
        "margin": own - others,
        "loss": F.cross_entropy(logits, labels, reduction="none"),
    }


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def _length(work: Work, split: Split, limit: int | None) -> int:
    """Return how many images a piece of work takes."""
    if not isinstance(work, Condition) or work.stored is None:
        return len(split)
    return min(work.stored.images, limit or work.stored.images)


def _cell(
    work: Work,
    level: float | None,
    subject: Subject,
    helper: Subject | None,
    split: Split,
    limit: int | None,
) -> Cell:
    return Cell(
        suite=work.suite,
        condition=work.name,
        level=level,
        group=work.group,
        source=work.source,
        version=work.version,
        data=data_of(work) or split.checksum,
        limit=limit,
        subject=subject.name,
        alpha=subject.alpha,
        seed=subject.seed,
        training=subject.training,
        architecture=subject.architecture,
        weights=subject.weights,
        helper=helper.weights if helper else "",
    )


def _keep(store: StudyStore, cells: Sequence[Cell], outcomes: Sequence[dict[str, Tensor]]) -> None:
    """Write cells with what their outcomes come to."""
    results = [_result(cell, columns) for cell, columns in zip(cells, outcomes, strict=True)]
    store.write(results, _table(cells, outcomes))


def _result(cell: Cell, columns: dict[str, Tensor]) -> Result:
    n = len(columns["label"])
    values = {
        "accuracy": (columns["prediction"] == columns["label"]).double().mean().item(),
        "confidence": columns["confidence"].double().mean().item(),
        "cross_entropy": columns["loss"].double().mean().item(),
    }
    checks = [name for name in columns if name.startswith("masking_")]
    values |= {name: columns[name].double().mean().item() for name in checks}
    return Result(cell, [Measurement(metric, value, n) for metric, value in values.items()])


def _table(cells: Sequence[Cell], outcomes: Sequence[dict[str, Tensor]]) -> pa.Table:
    narrow = {"example": pa.int32(), "label": pa.int16(), "prediction": pa.int16()}
    tables = []
    for cell, columns in zip(cells, outcomes, strict=True):
        arrays = [
            pa.array(columns[name].numpy()).cast(narrow.get(name, pa.float32())) for name in OUTCOME
        ]
        key = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(arrays[0]), np.int32)), pa.array([cell.key])
        )
        tables.append(pa.table([key, *arrays], names=["key", *OUTCOME]))
    return pa.concat_tables(tables).unify_dictionaries()
