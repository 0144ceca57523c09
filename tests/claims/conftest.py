"""Rows as a store would hold them, of networks whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from selbench.claims.claim import Claim
from selbench.claims.judging import About, judge

ALPHAS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def row(suite, condition, level, metric, subject, alpha, seed, value):
    return {
        "suite": suite,
        "condition": condition,
        "level": level,
        "metric": metric,
        "subject": subject,
        "alpha": alpha,
        "seed": seed,
        "layer": pd.NA,
        "value": value,
        "n": 1000,
    }


@pytest.fixture
def made():
    """Return a function that makes rows: a value for each cell, alpha and seed, and some noise."""

    def make(cells, alphas=ALPHAS, seeds=range(5), noise=0.001):
        """Take {(suite, condition, level, metric): function of alpha}."""
        generator = np.random.default_rng(0)
        return pd.DataFrame(
            [
                row(*cell, f"alpha={a:g} seed={s}", a, s, value(a) + noise * generator.normal())
                for cell, value in cells.items()
                for a in alphas
                for s in seeds
            ]
        )

    return make


@pytest.fixture
def clean(made):
    """Return a function that makes rows of clean accuracy, as a function of alpha."""

    def make(value, **options):
        return made({("clean", "clean", None, "accuracy"): value}, **options)

    return make


@pytest.fixture
def brought():
    """Return a function that makes rows of networks that have no alpha, by their files' names."""

    def make(suite, metric, values):
        return pd.DataFrame(
            [
                row(suite, "clean", None, metric, name, np.nan, pd.NA, v)
                for name, v in values.items()
            ]
        )

    return make


CLEAN = {"suite": "clean", "conditions": ["clean"]}


@pytest.fixture
def claim():
    """Return a function that makes a claim of one test; its reading is clean accuracy."""

    def make(kind, **test):
        reading = {} if kind == "flags" else {"reading": CLEAN}
        content = {"id": "X", "sentence": "S.", "source": "s", "sure": "ours"}
        return Claim.model_validate(content | {"tests": [{"kind": kind} | reading | test]})

    return make


@pytest.fixture
def verdict():
    """Return a function that judges one claim."""

    def run(rows, claim, network="m/d"):
        (found,) = judge(rows, [claim], About("study", network)).verdicts
        return found

    return run
