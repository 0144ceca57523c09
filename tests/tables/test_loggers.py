"""Loggers: leaderboards in other places."""

from pathlib import Path

import pytest

from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore
from selbench.tables.loggers import LOGGERS, log, rows_of
from selbench.tables.table import leaderboard

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def board():
    return leaderboard(StudyStore(RESULTS, "cifar10-jpeg-methods"))


def test_a_logger_is_given_the_rows_with_their_numbers(board, monkeypatch):
    given = []
    monkeypatch.setitem(LOGGERS._functions, "mine", lambda rows, place: given.append((rows, place)))
    log(board, "mine:a/place")
    ((rows, place),) = given
    assert place == "a/place"
    assert [row.facts["subject"] for row in rows] == [*board.table["subject"]]
    assert [row.numbers["clean"] for row in rows] == [*board.table["clean"]]
    assert not any("median_l2" in row.numbers for row in rows)  # nobody measured it
    with pytest.raises(SelbenchError, match="unknown logger 'mlflaw'; did you mean 'mlflow'"):
        log(board, "mlflaw")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_a_run_for_each_network(board, tmp_path, monkeypatch):
    library = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "mlruns").as_uri()
    log(board, f"mlflow:{place}")
    runs = library.MlflowClient(place).search_runs(
        [library.get_experiment_by_name("selbench").experiment_id]
    )
    kept = {run.data.params["subject"]: run.data.metrics for run in runs}
    (*expected,) = rows_of(board)
    assert kept == {row.facts["subject"]: row.numbers for row in expected}


def test_without_mlflow_it_is_said_how_to_get_it(board, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(SelbenchError, match=r"pip install 'selbench\[mlflow\]'"):
        log(board, "mlflow")
