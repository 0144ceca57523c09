"""Stores that tests write: a few networks, conditions and images whose numbers are known."""

import numpy as np
import pyarrow as pa
from copied import written_once

from selbench.store import Cell, Measurement, Result, StudyStore

CONDITIONS = {  # suite, condition, level: group and how many of ten images a network has right
    ("clean", "clean", None): ("", 9),
    ("corruptions", "gaussian_noise", 1): ("noise", 8),
    ("corruptions", "gaussian_noise", 2): ("noise", 6),
    ("corruptions", "fog", 1): ("weather", 7),
    ("corruptions", "fog", 2): ("weather", 3),
    ("corruptions-extra", "saturate", 1): ("digital", 5),
    ("attacks", "pgd-linf", 1.0): ("linf", 5),
    ("attacks", "pgd-linf", 2.0): ("linf", 2),
}
IMAGES = 10


@written_once
def write_study(
    root, name="study", alphas=(0, 1), seeds=(0, 1), brought=(), conditions=None, drop=(), **facts
):
    """Write a study into the store `root`; return its store.

    Args:
        root: the store.
        name: of the study.
        alphas: of its networks; alpha counts in images that are wrong.
        seeds: of its networks.
        brought: names of further networks.
        conditions: instead of `CONDITIONS`.
        drop: suites to leave out.
        facts: of all cells, such as data or limit; outcomes=False keeps none, images=1 takes one.
    """
    store = StudyStore(root, name)
    store.prepare()
    keep, images = facts.pop("outcomes", True), facts.pop("images", IMAGES)
    chosen = {key: each for key, each in (conditions or CONDITIONS).items() if key[0] not in drop}
    made = {"source": "generated", "version": 1, "data": "d", "limit": None} | facts
    networks = [(f"alpha={a:g} seed={s}", float(a), s) for a in alphas for s in seeds]
    networks += [(each, None, None) for each in brought]
    for (suite, condition, level), (group, right) in chosen.items():
        results, tables = [], []
        for subject, alpha, seed in networks:
            training = "" if alpha is None else f"t-{name}"
            about = (subject, alpha, seed, training, "resnet8", f"w-{name}-{subject}")
            cell = Cell(suite, condition, level, group, *made.values(), *about)
            share = max(right - int(alpha or 0) - (seed or 0) % 2, 0)
            hits = np.arange(images) < share
            metric = "selectivity_index" if suite == "selectivity" else "accuracy"
            results.append(Result(cell, [Measurement(metric, float(hits.mean()), images)]))
            tables.append(outcomes(cell, hits))
        store.write(results, pa.concat_tables(tables) if keep else None)
    store.finish(manifest(name, networks, chosen, made))


def outcomes(cell, hits):
    columns = {
        "key": [cell.key] * len(hits),
        "example": np.arange(len(hits), dtype=np.int32),
        "label": np.zeros(len(hits), np.int16),
        "prediction": np.where(hits, 0, 1).astype(np.int16),
    }
    return pa.table(columns)


def manifest(name, networks, conditions, made):
    ids = [f"{s}/{c}" if level is None else f"{s}/{c}/{level:g}" for s, c, level in conditions]
    subjects = {
        subject: {
            "weights": f"w-{name}-{subject}",
            "training": "" if alpha is None else f"t-{name}",
            "diverged": False,
        }
        for subject, alpha, _ in networks
    }
    return {
        "data": made["data"],
        "training": f"t-{name}",
        "conditions": {each: [made["source"], made["version"], ""] for each in ids},
        "subjects": subjects,
        "study": {"model": {"name": "resnet8"}, "dataset": {"name": "digits"}},
        "command": ["run", name],
    }
