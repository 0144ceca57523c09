"""Evaluate subjects under conditions: each perturbed batch is made once for all of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selbench.attacks.folding import folded
from selbench.crew import Map, crew, is_small, map_in_turn
from selbench.datasets import Dataset, Split, stratified_order
from selbench.progress import SILENT, Progress, Step
from selbench.randomness import seeded
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.subjects import Subject
from selbench.suites import Analysis, Attack, Condition, Work
from selbench.training import to_images
from selbench.types import Images, Labels, Logits

BATCH = {"cpu": 250, "cuda": 2000}
GROUP = 1000  # images under attack at once: those that have fallen leave, the rest stay together
OUTCOME = ("example", "label", "prediction", "confidence", "margin", "loss")


def evaluate(
    subjects: Sequence[Subject],
    pieces: Sequence[Work],
    dataset: Dataset,
    store: StudyStore,
    device: torch.device,
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> int:
    """Evaluate every subject under every piece of work that the store does not hold yet.

    Cells are written as soon as their condition is done, so that an interruption loses the
    condition in flight and no more.

    Args:
        subjects: networks under test.
        pieces: conditions and analyses, as `selbench.suites.collect` returns them.
        dataset: whose test images are used.
        store: where results go.
        device: where networks and images are put.
        limit: take so many test images, in the classes' proportions; None for all.
        progress: told of every batch.

    Returns:
        the number of cells evaluated.
    """
    split = limited(dataset.test, limit)
    pending = plan(subjects, pieces, split, limit, store.keys())
    needed = {subject.weights: subject for _, pairs in pending for subject, _ in pairs}
    models = {weights: prepare(subject.load(), device) for weights, subject in needed.items()}
    split = split.to(device)
    total = sum(len(cells) for _, pairs in pending for _, cells in pairs)
    passes = sum(_length(work, split, limit) * len(pairs) for work, pairs in pending)
    pixels = split.images[0, 0].numel()
    small = all(is_small(model, pixels) for model in models.values())
    with (
        progress.track("evaluate", passes) as step,
        crew(small, device, step) as (run_all, safe_step),
    ):
        for work, pairs in pending:
            networks = [models[subject.weights] for subject, _ in pairs]
            cells = [each for _, each in pairs]
            if isinstance(work, Condition):
                own = split if work.stored is None else limited(work.stored.load(), limit)
                outcomes = run_condition(work, networks, own.to(device), safe_step, run_all)
                _keep(store, [cell for (cell,) in cells], outcomes)
            else:
                alone = _alone(work, split, len(dataset.classes), store, safe_step)
                run_all(alone, list(zip(networks, cells, strict=True)))
    return total


def plan(
    subjects: Sequence[Subject],
    pieces: Sequence[Work],
    split: Split,
    limit: int | None,
    kept: set[str],
) -> list[tuple[Work, list[tuple[Subject, list[Cell]]]]]:
    """Return the work that is left, each piece with the subjects whose cells are not all `kept`.

    A condition and an analysis have one cell per subject, an attack has one per level.
    """
    pending = []
    for work in pieces:
        missing: dict[str, tuple[Subject, list[Cell]]] = {}
        for subject in subjects:
            cells = [_cell(work, level, subject, split, limit) for level in levels_of(work)]
            if not kept.issuperset(cell.key for cell in cells):
                missing[cells[0].key] = subject, cells
        if missing:
            pending.append((work, list(missing.values())))
    return pending


def levels_of(work: Work) -> tuple[float | None, ...]:
    """Return the levels of the cells that a piece of work makes."""
    return work.levels if isinstance(work, Attack) else (work.level,)


def limited(split: Split, limit: int | None) -> Split:
    """Return `limit` examples of `split`, in the classes' proportions.

    A larger limit holds the examples of a smaller one.
    """
    if limit is None or limit >= len(split):
        return split
    order = stratified_order(split.labels, seeded("limit", 0))
    return split.take(order[:limit].sort().values)


def data_of(work: Work) -> str:
    """Return the checksum of the images that a condition has on disk, "" where it has none."""
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


def run_attack(attack: Attack, network: nn.Module, split: Split) -> list[dict[str, Tensor]]:
    """Return the network's outcomes at each level of `attack`: columns of len(split) rows."""
    parts: list[list[dict[str, Tensor]]] = [[] for _ in attack.levels]
    network = folded(network, to_images(split.images[:2]))
    for start in range(0, len(split), GROUP):
        rows = slice(start, start + GROUP)
        images, labels, examples = (
            to_images(split.images[rows]),
            split.labels[rows],
            split.examples[rows],
        )
        for kept, result in zip(parts, attack.run(network, images, labels, examples), strict=True):
            columns = outcome(result.logits, labels)
            assert ((columns["prediction"] != labels) == result.fallen).all()
            kept.append({"example": examples, "label": labels, **columns})
    return [_joined(kept) for kept in parts]


def _alone(
    work: Analysis | Attack, split: Split, classes: int, store: StudyStore, step: Step
) -> Callable[[tuple[nn.Module, Sequence[Cell]]], None]:
    """Return what does a piece of work to one network, and keeps its cells."""

    def run(pair: tuple[nn.Module, Sequence[Cell]]) -> None:
        network, cells = pair
        if isinstance(work, Attack):
            _keep(store, cells, run_attack(work, network, split))
        else:
            store.write([Result(cells[0], work.measure(network, split, classes))])
        step(len(split), work.name)

    return run


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
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in OUTCOME}


def _length(work: Work, split: Split, limit: int | None) -> int:
    """Return how many images a piece of work takes."""
    if not isinstance(work, Condition) or work.stored is None:
        return len(split)
    return min(work.stored.images, limit or work.stored.images)


def _cell(
    work: Work, level: float | None, subject: Subject, split: Split, limit: int | None
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
