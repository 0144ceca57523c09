"""A store at a URL: the same numbers, whole files, few requests, and plain words on what fails."""

import dataclasses
import pickle
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
import torch
from counted import Counted, bytes_in, cells_of, fill, reopened, requests
from written import CELL

from selbench import evaluate as evaluate_network
from selbench._engine import evaluate
from selbench._kit.errors import SelbenchError
from selbench._kit.places import UrlPath, place
from selbench.commands.verification import repair, studies_at, verify
from selbench.store import (
    Failure,
    Result,
    StudyStore,
    adversarials,
    open_places,
    open_studies,
)
from selbench.suites import Condition
from selbench.tables import current_rows

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
def store():
    return StudyStore(place("counted://bucket/runs"), "study", {"command": ["run"]})


def overwrite(path, content):
    fsspec.filesystem("counted").pipe_file(str(path), content)


# Paths.


def test_a_url_is_a_path_with_a_name_a_parent_and_a_suffix():
    runs = place("counted://bucket/runs/")
    cells = runs / "digits" / "cells" / "a.json"
    assert str(cells) == "counted://bucket/runs/digits/cells/a.json"
    assert (cells.name, cells.stem, cells.parent.name) == ("a.json", "a", "cells")
    assert str(cells.with_suffix(".parquet")) == "counted://bucket/runs/digits/cells/a.parquet"
    assert cells.is_relative_to(runs)
    assert runs == place("counted://bucket//runs")
    assert pickle.loads(pickle.dumps(cells)) == cells
    assert isinstance(cells.parent, UrlPath)


@pytest.mark.parametrize("ask", [Path.open, Path.stat, Path.mkdir, Path.touch])
def test_a_url_is_never_looked_for_on_this_machine(ask, tmp_path):
    with pytest.raises(TypeError, match=r"^counted://bucket/a is no file of this machine$"):
        ask(place("counted://bucket/a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["file://{}", "local://{}", "{}"])
def test_a_file_url_is_the_folder_itself(word, tmp_path):
    assert place(word.format(tmp_path / "runs")) == tmp_path / "runs"


# The same as on a disk.


@pytest.fixture
def ran(selbench, tiny_study, few_conditions):
    """Run a small study into a folder and to a URL, and return the URL."""
    words = ("run", tiny_study, "--suite", "corruptions", "--suite", "calibration", "--quiet")
    assert selbench(*words).code == 0
    assert selbench(*words, "--store", "counted://bucket/runs").code == 0
    return "counted://bucket/runs"


def test_a_run_leaves_the_same_files_and_every_command_says_the_same(selbench, ran, tmp_path):
    here, there = tmp_path / "runs" / "tiny", place(ran) / "tiny"
    kept, told = bytes_in(here), bytes_in(there)
    assert {*kept} == {*told}
    same = [name for name in kept if name.endswith((".csv", ".parquet"))]
    assert [name for name in same if kept[name] != told[name]] == []
    assert len(same) == 2
    for words in (
        ("leaderboard", "--format", "csv"),
        ("calibration", "--format", "csv"),
        ("claims", "--format", "json"),
    ):
        said = selbench(*words, "--store", ran)
        assert said.code == 0
        assert said.out.replace(ran, "runs").replace(" --store runs", "") == selbench(*words).out
    checked = selbench("verify", ran)
    assert checked.out == f"{ran}/tiny: {len(kept)} files checked; none is damaged\n"


@pytest.mark.soak
def test_the_same_command_again_does_nothing_and_writes_nothing(selbench, tiny_study, ran):
    before = bytes_in(place(ran))
    Counted.asked.clear()
    words = ("run", tiny_study, "--suite", "corruptions", "--suite", "calibration", "--quiet")
    assert selbench(*words, "--store", ran).code == 0
    assert bytes_in(place(ran)) == before
    assert not {"put_file", "pipe_file", "rm_file"} & {*Counted.asked}


def test_a_file_url_names_the_store_of_a_folder(selbench, tiny_study, tmp_path):
    assert selbench("run", tiny_study, "--store", f"file://{tmp_path}/runs").code == 0
    assert selbench("verify", f"file://{tmp_path}/runs").out.startswith(f"{tmp_path}/runs/tiny: ")
    assert selbench("leaderboard").code == 0


def test_adversarials_are_kept_counted_and_checked(store):
    assert store.saved(CELL) == 0
    store.save(CELL, {"label": torch.arange(3), "clean": torch.rand(3, 3, 8, 8)})
    assert store.saved(CELL) == 3
    path = next(store.folder.glob("adversarials/*.safetensors"))
    assert adversarials.flaw(path) == ""
    overwrite(path, path.read_bytes()[:-1] + b"x")
    assert adversarials.flaw(path) == "its content is not what was written"
    overwrite(path, path.read_bytes()[:-20])
    assert adversarials.flaw(path).startswith("it is damaged")
    assert store.saved(CELL) == 0


def test_python_takes_a_url(dataset, subject):
    network = subject(0).load()
    rows = evaluate_network(network, dataset, "clean", store="memory://bucket/runs")
    again = evaluate_network(network, dataset, "clean", store="memory://bucket/runs")
    assert rows.equals(again)
    assert len(rows) > 0
    assert place("memory://bucket/runs/noise/manifest.json").is_file()


# Faults.


def conditions(stop_at=None):
    def perturb(level):
        def flip(images, examples):
            if level == stop_at:
                raise KeyboardInterrupt
            return images.flip(level % 2 + 1)

        return flip

    return [Condition("corruptions", "test", perturb(n), level=n) for n in range(5)]


def test_a_run_that_was_cut_off_goes_on(subject, dataset, store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate([subject(0)], conditions(stop_at=3), dataset, store, CPU)
    assert len(reopened(store).keys()) == 3
    assert evaluate([subject(0)], conditions(), dataset, reopened(store), CPU) == 2
    alone = StudyStore(tmp_path / "alone", "study")
    evaluate([subject(0)], conditions(), dataset, alone, CPU)
    assert reopened(store).measurements().equals(alone.measurements())


def test_a_file_that_could_not_be_sent_is_not_there(store):
    fill(store)
    before = bytes_in(store.root)
    Counted.refusing["put_file"] = OSError("connection lost")
    with pytest.raises(SelbenchError, match=r"^cannot use counted://bucket/.*: connection lost; "):
        store.write([Result(dataclasses.replace(CELL, version=2), [])])
    assert bytes_in(store.root) == before


def test_failed_cells_are_kept_and_forgotten(store):
    (cell,) = cells_of(1)
    store.fail([Failure(cell, "MemoryError")])
    assert reopened(store).failures([cell.key]) == [Failure(cell, "MemoryError")]
    store.forget([cell.key, "0123456789abcdef"])
    assert reopened(store).failed() == set()


DAMAGES = {
    "cells": ("cells/*.json", lambda content: content[:-20], "it is damaged"),
    "a number": ("cells/*.json", lambda c: c.replace(b"0.5", b"0.7"), "not what was written"),
    "outcomes": ("cells/*.parquet", lambda c: c[:40] + b"x" + c[41:], "not what was written"),
    "outcomes cut off": ("cells/*.parquet", lambda content: content[:-1], "not what was written"),
    "outcomes lost": ("cells/*.parquet", None, "it is missing"),
    "the table": ("measurements.csv", lambda content: content[:-5], "not what was written"),
    "cells lost": ("cells/*.json", None, "before it wrote the cells"),
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.sample
def test_damage_is_found_and_what_is_repaired_is_whole(what, store, unpacked):
    pattern, damage, problem = DAMAGES[what]
    fill(store)
    path = sorted(store.folder.glob(pattern))[0]
    if damage is None:
        path.unlink()
    else:
        overwrite(path, damage(path.read_bytes()))
    faults = verify(reopened(store)).faults
    assert any(problem in each.problem for each in faults)
    repair(verify(reopened(store)))
    assert verify(reopened(store)).faults == []
    assert len(reopened(store).keys()) == (3 if what == "the table" else 2)


def test_half_outcomes_are_taken_for_nothing(store, unpacked):
    fill(store)
    path = sorted(store.folder.glob("cells/*.parquet"))[0]
    overwrite(path, path.read_bytes()[:-1])
    assert len(reopened(store).keys()) == 2


@pytest.mark.parametrize("asked", ["cat", "cat_file", "info", "ls"])
def test_a_server_that_cannot_be_reached_is_no_damage(asked, store):
    before = bytes_in(fill(store).root)
    Counted.refusing[asked] = TimeoutError("no answer")
    with pytest.raises(SelbenchError, match=r"^cannot use counted://bucket/.*: no answer; check"):
        repair(verify(reopened(store)))
    Counted.refusing.clear()
    assert bytes_in(store.root) == before


# Two runs.


def test_two_runs_share_the_work(subject, dataset, store):
    """The second run begins while the first is at its third condition."""
    evaluated = []

    def meanwhile(images, examples):
        others = [each for each in conditions() if each.level != 2]
        evaluated.append(evaluate([subject(0)], others, dataset, reopened(store), CPU))
        return images.flip(1)

    pieces = conditions()
    pieces[2] = dataclasses.replace(pieces[2], perturb=meanwhile)
    evaluated.append(evaluate([subject(0)], pieces, dataset, store, CPU))
    assert evaluated == [2, 3]
    assert len(store.keys()) == 5


def test_a_store_is_not_repaired_while_a_run_is_at_work(store):
    path = next(fill(store).folder.glob("cells/*.parquet"))
    path.unlink()
    other = reopened(store).locks
    other.take("a")
    with pytest.raises(SelbenchError, match=r"is at work in counted://bucket/runs/study; repair"):
        repair(verify(store))
    other.release("a")


# What it costs: to open, to know the cells, and again, to measure, to read outcomes, to verify.

COSTS = [(False, (4, 5, 1, 7, 7, 27)), (True, (4, 4, 1, 6, 5, 24))]


@pytest.mark.parametrize(("packed", "numbers"), COSTS)
@pytest.mark.soak
def test_hundreds_of_cells_are_read_with_few_requests(packed, numbers, store, request):
    """The numbers are those of docs/scaling.md; a bundle of files side by side counts as one."""
    if not packed:
        request.getfixturevalue("unpacked")
    fill(store, 300)
    (opened,), first = requests(lambda: open_studies(place("counted://bucket/runs")))
    keys, known = requests(opened.keys)
    again = requests(opened.keys)[1]
    rows, measured = requests(opened.measurements)
    table, outcomes = requests(opened.outcomes)
    found, verified = requests(lambda: verify(reopened(store)))
    assert (len(keys), len(rows), table.num_rows) == (300, 300, 900)
    assert (found.faults, found.files) == ([], 4 if packed else 602)
    assert (first, known, again, measured, outcomes, verified) == numbers


@pytest.mark.parametrize("networks", [1, 4])
def test_a_condition_costs_eight_requests_and_three_for_each_network(
    networks, subject, dataset, store
):
    subjects = [subject(seed) for seed in range(networks)]
    asked = []
    for count in (2, 5):
        own = StudyStore(store.root / str(count), "study")
        run = partial(evaluate, subjects, conditions()[:count], dataset, own, CPU)
        assert requests(run)[0] == count * networks
        asked.append(sum(Counted.asked.values()))
    assert asked[1] - asked[0] == 3 * (8 + 3 * networks)


def test_cells_that_are_written_cost_two_requests_each_beside_one_listing(store):
    store.prepare()
    (cell,) = cells_of(1)
    table = pa.table({"key": [cell.key], "example": [0], "loss": [0.5]})
    requests(lambda: store.write([Result(cell, [])], table))
    assert Counted.asked == {"put_file": 2, "ls": 1}


# Bad words, and servers that refuse.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--store", "bogus://x"), r"^unknown protocol 'bogus'; known are "),
        (("--store", "memry://x"), r"^unknown protocol 'memry'; did you mean 'memory'\?$"),
        (("--store", "memory://nothing"), r"^there are no results in memory://nothing; make some "),
        (("memory://nothing",), r"^there is no folder memory://nothing; name a study of --store, "),
        (
            ("--store", "gdrive://x"),
            r"^gdrive://x needs a package that is not installed; install it first "
            r"\(pip install gdrive_fsspec\)$",
        ),
    ],
)
def test_bad_urls_are_one_sentence(refused, match, words, message):
    match(message, refused("leaderboard", *words))


@pytest.mark.parametrize(
    ("asked", "problem", "told"),
    [
        (
            "put_file",
            FileNotFoundError("The specified bucket does not exist"),
            "The specified",
        ),
        ("put_file", PermissionError("Access Denied"), "Access Denied"),
        ("pipe_file", PermissionError("Access Denied"), "Access Denied"),
        ("ls", RuntimeError("Could not connect\nto 10.0.0.1."), "Could not connect to 10.0.0.1"),
        ("info", TimeoutError(), "TimeoutError"),
    ],
)
def test_servers_that_refuse_are_one_sentence(asked, problem, told, refused, tiny_study, match):
    Counted.refusing[asked] = problem
    message = refused("run", tiny_study, "--quiet", "--store", "counted://bucket/runs")
    match(
        rf"^cannot use counted://bucket/runs\S*: {told}.*; check its spelling, your credentials "
        r"and the network$",
        message,
    )


def test_verify_and_places_take_urls(store):
    fill(store)
    assert [each.study for each in studies_at(place("counted://bucket/runs"))] == ["study"]
    assert [each.study for each in studies_at(place("counted://bucket/runs/study"))] == ["study"]
    (opened,) = open_places(["counted://bucket/runs/study", "counted://bucket/runs"], place("runs"))
    assert current_rows(opened).empty
