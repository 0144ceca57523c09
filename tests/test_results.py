"""Committed results, and the script that takes them from a run."""

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from selbench.store import StudyStore
from selbench.store.records import digest_of
from selbench.store.tidy import PARQUET

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
    table = pd.read_parquet(study / PARQUET, columns=["subject"])
    said += table["subject"].unique().tolist()
    assert [word for word in said if isinstance(word, str) and Path(word).is_absolute()] == []


def test_taking_a_run_keeps_what_counts_and_leaves_folders_out(tables, tmp_path):
    run, study = tmp_path / "run" / "methods", tmp_path / "results"
    part_of(RESULTS / "cifar10-jpeg-methods", run, "01", counted="0")
    facts = json.loads((run / "manifest.json").read_text())
    command = ["run", "docs/mine.toml", "--data", "/far/images", "--store", "/far/runs", "--quiet"]
    request = {"study": command[1:4], "networks": ["--model", "/far/net.py:make"]}
    facts["study"]["dataset"]["root"] = "/far/images"
    facts |= {"command": command, "request": request, "state": "complete"}
    (run / "manifest.json").write_text(json.dumps(facts | {"digest": digest_of(facts)}))
    tables.take(run, study)
    every, kept = (StudyStore(each.parent, each.name).measurements() for each in (run, study))
    counts = every["subject"].isin(facts["subjects"])
    assert 0 < counts.sum() < len(every)
    pd.testing.assert_frame_equal(kept, every[counts].reset_index(drop=True))
    facts = json.loads((study / "manifest.json").read_text())
    assert facts["study"]["dataset"]["root"] == "images"
    assert facts["command"] == ["run", "docs/mine.toml", "--data", "images", "--quiet"]
    assert facts["request"]["study"] == ["docs/mine.toml", "--data", "images"]
    assert facts["request"]["networks"] == ["--model", "net.py:make"]
    assert facts["digest"] == digest_of(facts)


def part_of(study, folder, seeds, counted=""):
    """Write a run of these seeds alone, with what a study has of clean images.

    Its manifest has only networks of the seeds `counted`, by default all of them.
    """
    folder.mkdir(parents=True)
    table = StudyStore(study.parent, study.name).measurements()
    seed = table["subject"].str.extract(r"seed=(\d)", expand=False)
    table = table[seed.isin([*seeds]) & (table["condition"] == "clean")]
    table.to_csv(folder / "measurements.csv", index=False)
    facts = json.loads((study / "manifest.json").read_text())
    names = table.loc[seed.loc[table.index].isin([*(counted or seeds)]), "subject"]
    facts["subjects"] = {name: facts["subjects"][name] for name in set(names)}
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
    found, known = (StudyStore(e.parent, e.name).measurements() for e in (study, whole))
    pd.testing.assert_frame_equal(found, known)
    made, asked = (json.loads((each / "manifest.json").read_text()) for each in (study, whole))
    digest = hashlib.sha256((study / PARQUET).read_bytes()).hexdigest()
    own = {"measurements": digest, "digest": made.get("digest"), "state": made.get("state")}
    assert made == asked | {name: value for name, value in own.items() if value}


def test_runs_on_other_images_are_not_added(tables, tmp_path):
    study = tmp_path / "results" / "methods"
    run = part_of(RESULTS / "cifar10-jpeg-methods", tmp_path / "run" / "methods", "0")
    tables.take(run, study)
    before = (study / PARQUET).read_bytes()
    facts = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(facts | {"data": "others"}))
    with pytest.raises(SystemExit, match="differ in data: they cannot stand in one table"):
        tables.take(run, study, add=True)
    assert (study / PARQUET).read_bytes() == before


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


def test_the_paper_lists_every_verdict():
    lines = (RESULTS / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    listed = {
        (identity, place, verdict)
        for verdicts, *columns in (row for row in rows if len(row) == 3)
        for place, column in enumerate(columns)
        for identity in column.split(", ")
        for verdict in verdicts.split(", or ")
        if identity != "-"
    }
    (study,) = json.loads((RESULTS / "cifar10-jpeg/claims.json").read_text())
    for each in study["verdicts"]:
        place = int(each["network"] == "other")
        assert (each["id"], place, each["verdict"]) in listed, each["id"]
        assert sum(identity == each["id"] for identity, *_ in listed) <= 2, each["id"]


@pytest.mark.soak
def test_a_study_that_can_test_no_claim_has_no_table_of_them(tables):
    study = RESULTS / "cifar10-jpeg-index-64"  # no network of alpha = 0
    assert tables.table(study, "claims.md") == ""
    assert tables.table(study, "leaderboard.md").startswith("### cifar10-jpeg-index-64")
    assert tables.differences(study, "claims.md") == []
    sentence = "leaderboard results/digits --columns nothing: selbench: unknown column 'nothing'"
    with pytest.raises(tables.RefusedError, match=sentence):
        tables.selbench("leaderboard", "results/digits", "--columns", "nothing")
