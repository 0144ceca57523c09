"""Committed results, and the script that takes them from a run."""

import gzip
import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from selbench.store.records import digest_of

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/manifest.json"))


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", RESULTS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.selbench = cache(module.selbench)  # each command once
    return module


def words(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [word for each in value for word in words(each)] if isinstance(value, list) else [value]


@pytest.mark.sample
@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_committed_results_name_no_folder_of_a_machine(study):
    said = words(json.loads((study / "manifest.json").read_text()))
    table = pd.read_csv(study / "measurements.csv.gz", usecols=["subject"], engine="pyarrow")
    said += table["subject"].unique().tolist()
    assert [word for word in said if isinstance(word, str) and Path(word).is_absolute()] == []


def test_taking_a_run_keeps_its_measurements_and_leaves_folders_out(tables, tmp_path):
    run, study = tmp_path / "runs" / "mine", tmp_path / "results"
    run.mkdir(parents=True)
    (run / "measurements.csv").write_text("subject\na\n")
    command = ["run", "docs/mine.toml", "--data", "/far/images", "--store", "/far/runs", "--quiet"]
    request = {"study": command[1:4], "networks": ["--model", "/far/net.py:make"]}
    facts = {"study": {"dataset": {"root": "/far/images"}}, "command": command, "request": request}
    facts |= {"state": "complete", "digest": "of the run's own"}
    (run / "manifest.json").write_text(json.dumps(facts))
    tables.take(run, study)
    assert gzip.decompress((study / "measurements.csv.gz").read_bytes()) == b"subject\na\n"
    kept = json.loads((study / "manifest.json").read_text())
    assert kept["study"]["dataset"]["root"] == "images"
    assert kept["command"] == ["run", "docs/mine.toml", "--data", "images", "--quiet"]
    assert kept["request"]["study"] == ["docs/mine.toml", "--data", "images"]
    assert kept["request"]["networks"] == ["--model", "net.py:make"]
    assert kept["digest"] == digest_of(kept)


def part_of(study, folder, seeds):
    """Write a run of these seeds alone, with what a study has of clean images."""
    folder.mkdir(parents=True)
    table = pd.read_csv(study / "measurements.csv.gz", dtype=str, keep_default_na=False)
    seed = table["subject"].str.extract(r"seed=(\d)", expand=False)
    table = table[seed.isin([*seeds]) & (table["condition"] == "clean")]
    table.to_csv(folder / "measurements.csv", index=False)
    facts = json.loads((study / "manifest.json").read_text())
    facts["subjects"] = {name: facts["subjects"][name] for name in set(table["subject"])}
    facts["study"]["seeds"] = [int(seed) for seed in seeds]
    facts["measurements"] = hashlib.sha256((folder / "measurements.csv").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


def test_added_networks_make_the_table_that_one_run_of_all_makes(tables, tmp_path):
    study = tmp_path / "results" / "methods"
    whole, first, second = (
        part_of(RESULTS / "cifar10-jpeg-methods", tmp_path / name / "methods", seeds)
        for name, seeds in (("whole", "012"), ("first", "01"), ("second", "12"))
    )
    tables.take(first, study)
    tables.take(second, study, add=True)
    table = gzip.decompress((study / "measurements.csv.gz").read_bytes())
    assert table == (whole / "measurements.csv").read_bytes()
    made, asked = (json.loads((each / "manifest.json").read_text()) for each in (study, whole))
    assert made == asked | {"measurements": hashlib.sha256(table).hexdigest()}


def test_runs_on_other_images_are_not_added(tables, tmp_path):
    study = tmp_path / "results" / "methods"
    run = part_of(RESULTS / "cifar10-jpeg-methods", tmp_path / "run" / "methods", "0")
    tables.take(run, study)
    before = (study / "measurements.csv.gz").read_bytes()
    facts = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(facts | {"data": "others"}))
    with pytest.raises(SystemExit, match="differ in data: they cannot stand in one table"):
        tables.take(run, study, add=True)
    assert (study / "measurements.csv.gz").read_bytes() == before


def test_tables_that_a_page_quotes_are_those_of_the_commands_it_names(tables):
    words = ["leaderboard", "results/cifar10-jpeg-rate", "--columns", "clean", "--format", "md"]
    mark = f"<!-- table: made by `selbench {' '.join(words)}` -->\n"
    end = "<!-- end of table -->\nAfter.\n"
    page = f"Before.\n\n{mark}| old |\n{end}{mark}| old |\n{end}"
    made = tables.quoted(page)
    assert made == page.replace(
        "| old |\n", tables.selbench(*words).removeprefix("### cifar10-jpeg-rate\n")
    )
    assert "| alpha | n | clean % |" in made
    assert "-| old |\n" in tables.compared(page, made, RESULTS / "README.md", "its command")


@pytest.mark.soak
def test_a_study_that_can_test_no_claim_has_no_table_of_them(tables):
    study = RESULTS / "cifar10-jpeg-index-64"  # no network of alpha = 0
    assert tables.table(study, "claims.md") == ""
    assert tables.table(study, "leaderboard.md").startswith("### cifar10-jpeg-index-64")
    assert tables.differences(study, "claims.md") == []
    sentence = "leaderboard results/digits --columns nothing: selbench: unknown column 'nothing'"
    with pytest.raises(tables.RefusedError, match=sentence):
        tables.selbench("leaderboard", "results/digits", "--columns", "nothing")
