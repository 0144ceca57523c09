"""Committed results, and the script that takes them from a run."""

import gzip
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/manifest.json"))


@pytest.fixture
def tables():
    spec = importlib.util.spec_from_file_location("tables", RESULTS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [word for each in value for word in words(each)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_committed_results_name_no_folder_of_a_machine(study):
    said = words(json.loads((study / "manifest.json").read_text()))
    said += pd.read_csv(study / "measurements.csv.gz", usecols=["subject"])["subject"].tolist()
    assert [word for word in said if isinstance(word, str) and Path(word).is_absolute()] == []


def test_taking_a_run_keeps_its_measurements_and_leaves_folders_out(tables, tmp_path):
    run, study = tmp_path / "runs" / "mine", tmp_path / "results"
    run.mkdir(parents=True)
    (run / "measurements.csv").write_text("subject\na\n")
    command = ["run", "docs/mine.toml", "--data", "/far/images", "--store", "/far/runs", "--quiet"]
    facts = {"study": {"dataset": {"root": "/far/images"}}, "command": command}
    (run / "manifest.json").write_text(json.dumps(facts))
    tables.take(run, study)
    assert gzip.decompress((study / "measurements.csv.gz").read_bytes()) == b"subject\na\n"
    kept = json.loads((study / "manifest.json").read_text())
    assert kept["study"]["dataset"]["root"] == "images"
    assert kept["command"] == ["run", "docs/mine.toml", "--data", "images", "--quiet"]
