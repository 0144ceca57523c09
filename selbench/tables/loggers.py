"""Loggers, which receive a leaderboard; each is one function under one decorator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd

from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.registry import Registry
from selbench.tables.table import FACTS, Leaderboard

EXPERIMENT = "selbench"  # the MLflow experiment, unless MLFLOW_EXPERIMENT_NAME is set


@dataclass(frozen=True)
class Logged:
    """One row of a leaderboard.

    Attributes:
        name: the study and the network.
        facts: study, subject, alpha, networks, images, as far as known.
        numbers: the measured metrics by name, accuracies in [0, 1], and the half widths of their
            intervals with the suffix `_interval`.
    """

    name: str
    facts: Mapping[str, str]
    numbers: Mapping[str, float]


# Sends rows to a place, such as a folder or a URL; "" for the logger's default.
Logger = Callable[[list[Logged], str], None]
LOGGERS = Registry[Logger]("logger")


def log(board: Leaderboard, spec: str) -> None:
    """Send a leaderboard to a logger.

    Args:
        board: the leaderboard.
        spec: the logger's name, and after a colon the place: "mlflow", "mlflow:sqlite:///runs.db".

    Raises:
        SelbenchError: for an unknown logger, and if the logger fails.
    """
    name, _, place = spec.partition(":")
    LOGGERS[name](rows_of(board), place)


def check_logger(spec: str) -> None:
    """Raise `SelbenchError` for an unknown logger, before anything is computed."""
    LOGGERS[spec.partition(":")[0]]


def rows_of(board: Leaderboard) -> list[Logged]:
    """Return the rows of a leaderboard for loggers."""
    table = board.table
    numbers = [str(n) for n in table if pd.api.types.is_float_dtype(table[n]) and n not in FACTS]
    measured = [name for name in numbers if not name.endswith("_n")]
    return [
        Logged(
            f"{row['study']}: {row['subject']}",
            {name: str(row[name]) for name in FACTS if not pd.isna(row[name])},
            {name: float(row[name]) for name in measured if not pd.isna(row[name])},
        )
        for row in table.to_dict("records")
    ]


@LOGGERS
def mlflow(rows: list[Logged], place: str) -> None:
    """MLflow: a run for each row; the place is a tracking URI (the extra `mlflow`)."""
    library = _mlflow()
    try:
        if place:
            library.set_tracking_uri(place)
        library.set_experiment(EXPERIMENT)
        for row in rows:
            with library.start_run(run_name=row.name):
                library.log_params(dict(row.facts))
                library.log_metrics(dict(row.numbers))
    except Exception as problem:
        raise SelbenchError(
            f"MLflow does not accept the results ({in_short(problem)}); check the place after "
            "mlflow:; the store has the results"
        ) from problem


def _mlflow() -> Any:
    try:
        return import_module("mlflow")
    except ImportError as problem:
        raise SelbenchError(
            f"mlflow cannot be imported ({in_short(problem)}); pip install 'selbench[mlflow]'"
        ) from problem
