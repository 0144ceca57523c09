"""Stores of made-up numbers, on handwritten digits that are real."""

import torch
from copied import written_once

from selbench.datasets import limited, load_dataset
from selbench.store import Cell, Measurement, Result, StudyStore, condition_id
from selbench.study import DatasetSpec, exactly

# Clean ones are in another order as text than as numbers.
ACCURACY = {-1.0: (0.8, 0.6, 0.3), 0.0: (0.8, 0.5, 0.4), 1.0: (0.09, 0.3, 0.6)}
SUITES = ("clean", "corruptions", "attacks")  # their conditions' accuracies, by alpha
CONDITIONS = {
    "clean": [("clean", None)],
    "corruptions": [("fog", 1.0), ("fog", 2.0)],
    "attacks": [
        (name, level) for name in ("fgsm-linf", "pgd-linf", "pgd-l2") for level in (1.0, 8.0)
    ],
}
LIMIT, SAVED = 12, 4
LAYERED = ("selectivity_index", "selectivity_index_null")
DIGITS = {"name": "digits", "root": None, "validation": 200}
MADE = {
    "command": ["run", "study.toml", "--save-adversarials", "4"],
    "device": "cpu",
    "versions": {"selbench": "0.1.0", "torch": "2.15.0"},
    "began": "2026-01-02T03:04:05+00:00",
}


def networks(alphas, seeds, brought):
    for alpha in alphas:
        for seed in range(seeds):
            yield f"alpha={exactly(alpha)} seed={seed}", alpha, seed
    for name in brought:
        yield name, None, None


def measured(suite, value):
    """The measurements of a cell: an accuracy, or an index that rises over layers."""
    if suite != "selectivity":
        return [Measurement("accuracy", value, LIMIT)]
    layers = [Measurement(m, value * n / 9, LIMIT, n, f"r{n}") for m in LAYERED for n in (1, 2, 3)]
    return [*layers, Measurement(LAYERED[0], value / 4, LIMIT)]


@written_once
def write(root, name="study", suites=SUITES, alphas=tuple(ACCURACY), seeds=2, brought=(), **facts):
    """Write a store; the networks of one alpha differ by a point from seed to seed.

    `data`, `limit`: of the cells. Further facts stand in the manifest.
    """
    data, limit = facts.pop("data", "d"), facts.pop("limit", None)
    store = StudyStore(root, name, MADE)
    store.prepare()
    conditions, subjects = {}, {}
    for subject, alpha, seed in networks(alphas, seeds, brought):
        training = "" if alpha is None else "t"
        for suite in suites:
            value = ACCURACY[alpha or 0.0][SUITES.index(suite) if suite in SUITES else 1]
            value += 0.01 * (seed or 0)
            for condition, level in CONDITIONS.get(suite, [("clean", None)]):
                cell = Cell(
                    suite=suite, condition=condition, level=level, group="weather", source="s",
                    version=1, data=data, limit=limit, subject=subject, alpha=alpha, seed=seed,
                    training=training, architecture="resnet8", weights=f"w{subject}",
                )  # fmt: skip
                store.write([Result(cell, measured(suite, value))])
                conditions[condition_id(suite, condition, level)] = ["s", 1, ""]
                if facts and condition == "pgd-linf" and level == 1:
                    store.save(cell, adversarials(seed or 0))
        subjects[subject] = {"weights": f"w{subject}", "training": training, "diverged": False}
    made = {"data": data, "training": "t", "conditions": conditions, "subjects": subjects}
    store.finish({**MADE, **made, **facts})


def write_digits(root):
    """Write a store that knows its data set, with what attacks made of some of its images."""
    model = {"name": "resnet8"}
    study = {"dataset": DIGITS, "model": model, "corruptions": {"source": "generated"}}
    data = load_dataset(DatasetSpec.model_validate(DIGITS)).test.checksum
    suites = (*SUITES, "selectivity")
    return write(root, "little", suites, data=data, limit=LIMIT, study=study).root


def adversarials(seed):
    """Return images of digits that an attack moved by its whole budget, as a run keeps them."""
    test = limited(load_dataset(DatasetSpec.model_validate(DIGITS)).test, LIMIT)
    clean = (test.images[:SAVED] / 255).contiguous(memory_format=torch.contiguous_format)
    signs = torch.randint(0, 2, clean.shape, generator=torch.Generator().manual_seed(seed))
    tensors = {"clean": clean, "label": test.labels[:SAVED], "example": test.examples[:SAVED]}
    for level in (1, 8):
        moved = (clean + (2 * signs - 1) * level / 255).clamp(0, 1)
        fooled = (test.labels[:SAVED] + level // 8) % 10
        tensors |= {f"adversarial {level}": moved, f"prediction {level}": fooled}
    return tensors
