"""Stores of several files of cells, and all that readers say of one."""

import dataclasses

import pyarrow as pa
from written import CELL

from selbench.store import Measurement, Result, StudyStore

NUMBER = 3  # files of two cells


def fill(store, first=0, number=NUMBER, n=3):
    """Write files of two cells each, all but the last with outcomes."""
    for index in range(first, first + number):
        cells = [dataclasses.replace(CELL, level=float(index), weights=w) for w in "ab"]
        results = [Result(cell, [Measurement("accuracy", index / 7, n)]) for cell in cells]
        keys = [cell.key for cell in cells for _ in range(n)]
        table = pa.table({"key": keys, "example": [*range(n)] * 2, "loss": [index / 3] * 2 * n})
        store.write(results, table if index < first + number - 1 else None)


def reopened(store):
    return StudyStore(store.root, store.study)


def said(store):
    """Return all that readers see of a store's cells."""
    again = reopened(store)
    outcomes = again.outcomes().to_pandas().astype({"key": str})
    return {
        "keys": again.keys(),
        "rows": again.measurements().to_csv(),
        "cells": again.cells().to_csv(),
        "outcomes": outcomes.sort_values(["key", "example"]).to_csv(index=False),
    }


def files(store):
    return sorted(path.name for path in store.folder.glob("cells/*"))
