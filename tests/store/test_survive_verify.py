"""`selbench verify`: damage of every kind is found, named, removed, and made anew by a run."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from written import CELL as CLEAN
from written import FACTS

from selbench._kit.errors import SelbenchError
from selbench._kit.locks import Locks
from selbench.commands import verification
from selbench.commands.verification import repair, studies_at, verify
from selbench.store import Failure, Measurement, Result, StudyStore

CELL = dataclasses.replace(
    CLEAN, suite="attacks", condition="pgd-linf", level=1.0, group="linf", source="attack"
)


def outcomes(cells, n=3):
    import pyarrow as pa

    keys = [cell.key for cell in cells for _ in range(n)]
    examples = [*range(n)] * len(cells)
    return pa.table({"key": keys, "example": examples, "loss": [0.5] * len(keys)})


@pytest.fixture
def filled(store, unpacked):
    """Fill a store with files of cells, adversarials, a failure and tables, and return it."""
    store.prepare()
    for level in (1.0, 2.0):
        cells = [dataclasses.replace(CELL, level=level, weights=weights) for weights in "ab"]
        results = [Result(cell, [Measurement("accuracy", 0.5, 3)]) for cell in cells]
        store.write(results, outcomes(cells))
    store.write([Result(dataclasses.replace(CELL, suite="jacobian"), [])])
    store.save(CELL, {"label": torch.arange(3), "clean": torch.rand(3, 3, 8, 8)})
    store.fail([Failure(dataclasses.replace(CELL, level=9.0), "MemoryError")])
    store.finish(FACTS)
    return store


def only(folder, pattern):
    return sorted(folder.glob(pattern))[0]


def bytes_changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def measurement_changed(path):
    content = json.loads(path.read_text())
    next(each for each in content["cells"] if each["measurements"])["measurements"][0]["value"] = (
        0.9
    )
    path.write_text(json.dumps(content))


def subject_changed(path):
    content = json.loads(path.read_text())
    del content["digest"]
    content["cells"][0]["cell"]["subject"] = "another"
    path.write_text(json.dumps(content))


def tensor_changed(path):
    tensors = load_file(path)
    tensors["clean"][0] += 1
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        save_file(tensors, path, file.metadata())


def number_changed(path):
    path.write_text(path.read_text().replace("0.5", "0.7", 1))


def failed_cell_changed(path):
    path.write_text(path.read_text().replace('"level": 9.0', '"level": 8.0'))


def other_facts(path):
    path.write_text('{"data": []}')


def with_outcomes(folder):
    return only(folder, "cells/*.parquet").with_suffix(".json")


DAMAGES = {
    "cells cut off": (with_outcomes, cut, "it is damaged"),
    "cells emptied": (with_outcomes, lambda path: path.write_bytes(b""), "it is damaged"),
    "a measurement changed": (with_outcomes, measurement_changed, "not what was written"),
    "a cell changed": (with_outcomes, subject_changed, "does not match its key"),
    "outcomes cut off": ("cells/*.parquet", cut, "not what was written"),
    "a bit of outcomes": ("cells/*.parquet", bytes_changed, "not what was written"),
    "outcomes lost": ("cells/*.parquet", Path.unlink, "it is missing"),
    "adversarials cut off": ("adversarials/*", cut, "it is damaged"),
    "adversarials changed": ("adversarials/*", tensor_changed, "not what was written"),
    "a failure": ("failed/*.json", cut, "it is damaged"),
    "a failed cell changed": ("failed/*.json", failed_cell_changed, "not the one that its key"),
    "the manifest": (lambda folder: folder / "manifest.json", cut, "it is damaged"),
    "the manifest's facts": (lambda folder: folder / "manifest.json", other_facts, "it is damaged"),
    "a measurement in the table": ("measurements.csv", number_changed, "not what was written"),
    "the table cut off": ("measurements.csv", cut, "not what was written"),
    "the table lost": ("measurements.csv", Path.unlink, "it is missing"),
}


def test_a_whole_store_has_no_faults(filled):
    found = verify(filled)
    assert (found.faults, found.unsigned, found.busy) == ([], 0, [])
    assert found.files == 3 + 2 + 1 + 1 + 2  # cells, outcomes, adversarials, failure, tables


@pytest.mark.parametrize("what", DAMAGES)
def test_every_damage_is_found_and_can_be_repaired(what, filled):
    where, damage, problem = DAMAGES[what]
    path = where(filled.folder) if callable(where) else only(filled.folder, where)
    damage(path)
    (fault,) = verify(filled).faults
    assert fault.path == path
    assert problem in fault.problem
    assert not fault.harmless
    assert repair(verify(filled)) == []
    assert verify(StudyStore(filled.root, filled.study)).faults == []


@pytest.mark.parametrize(
    "what", [name for name in DAMAGES if "cells" in name or "outcomes" in name]
)
def test_repaired_cells_are_lacking_and_the_others_are_not(what, filled):
    where, damage, _ = DAMAGES[what]
    damage(where(filled.folder) if callable(where) else only(filled.folder, where))
    repair(verify(filled))
    again = StudyStore(filled.root, filled.study)
    assert len(again.keys()) == 3
    assert len(again.measurements()) == 2
    assert len(list(filled.folder.glob("cells/*"))) == 3


def test_what_runs_left_behind_is_named_and_removed_but_is_no_damage(filled):
    folder = filled.folder
    left = [
        folder / "cells" / ".0123.json.9-ab.tmp",
        folder / ".manifest.json.9-ab.tmp",
        filled.root / ".selbench.json.9-ab.tmp",
        folder / "cells" / "0123456789abcdef.parquet",
        folder / "locks" / "0123456789abcdef.lock",
    ]
    (folder / "locks").mkdir(exist_ok=True)
    for path in left:
        path.write_text('{"machine": "", "process": 0}' if path.suffix == ".lock" else "half")
    (folder / "locks" / "0123456789abcdef.lock").write_text(dead_lock())
    faults = verify(filled).faults
    assert {each.path for each in faults} == set(left)
    assert all(each.harmless for each in faults)
    repair(verify(filled))
    assert not any(path.exists() for path in left)
    assert len(filled.keys()) == 5


def dead_lock():
    """Return the lock of a process of this machine that has ended."""
    code = (
        "from selbench._kit.locks import *; l = Locks(Path('x')); l.take('a');"
        "print(l.folder.resolve())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return (Path(done.stdout.strip()) / "a.lock").read_text()


def test_nothing_is_repaired_while_a_run_is_at_work(filled):
    cut(only(filled.folder, "cells/*.parquet"))
    (filled.folder / "cells" / ".x.json.9-ab.tmp").write_text("")  # it may be writing it
    other = Locks(filled.locks.folder)
    other.take("a")
    found = verify(filled)
    assert [each.process for each in found.busy] == [os.getpid()]
    assert len(found.faults) == 1
    with pytest.raises(SelbenchError, match=r"^process \d+ on .* is at work in .*; repair it when"):
        repair(found)
    other.release("a")
    assert len(verify(filled).faults) == 2


def test_a_run_that_begins_while_files_are_checked_is_seen(filled, monkeypatch):
    left = filled.folder / "cells" / ".x.json.9-ab.tmp"
    left.write_text("")
    cut(only(filled.folder, "cells/*.parquet"))
    before, other = verify(filled), Locks(filled.locks.folder)
    assert len(before.faults) == 2
    of_tables = verification._of_tables

    def taking(findings):
        other.take("a")
        return of_tables(findings)

    monkeypatch.setattr(verification, "_of_tables", taking)
    found = verify(filled)
    assert [each.process for each in found.busy] == [os.getpid()]
    assert left not in [each.path for each in found.faults]
    with pytest.raises(SelbenchError, match=r"^process \d+ on .* is at work in .*; repair it when"):
        repair(before)
    assert left.exists()


def test_tables_that_are_older_than_the_cells_are_no_damage(filled):
    filled.write([Result(dataclasses.replace(CELL, level=5.0), [Measurement("accuracy", 1.0, 3)])])
    (fault,) = verify(filled).faults
    assert fault.harmless
    assert "differs from the cells; the same run updates it" in fault.problem
    repair(verify(filled))
    assert verify(filled).faults == []


# Of earlier versions.


@pytest.fixture
def old(filled):
    """Take from the store's files all that earlier versions did not write."""
    for path in filled.folder.glob("cells/*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"made": content["made"], "cells": content["cells"]}))
    (filled.folder / "manifest.json").write_text(json.dumps(FACTS))
    path = only(filled.folder, "adversarials/*")
    save_file(load_file(path), path)
    return StudyStore(filled.root, filled.study)


def test_an_old_store_is_read_and_checked_by_its_form(old):
    found = verify(old)
    assert (found.faults, found.unsigned) == ([], 3)
    assert len(old.keys()) == 5
    assert len(old.outcomes()) == 12


@pytest.mark.parametrize("what", ["cells cut off", "outcomes cut off", "outcomes lost"])
def test_what_is_half_in_an_old_store_is_found(what, old):
    where, damage, _ = DAMAGES[what]
    damage(where(old.folder) if callable(where) else only(old.folder, where))
    assert len(verify(old).faults) == 1


def test_outcomes_of_other_cells_are_found_in_an_old_store(old):
    first, second = sorted(old.folder.glob("cells/*.parquet"))
    shutil.copy(second, first)
    (fault,) = verify(old).faults
    assert (fault.path, fault.problem) == (first, "it lacks the outcomes of 2 cells")


def test_tables_without_cells_are_checked_alone(filled):
    shutil.rmtree(filled.folder / "cells")
    assert verify(filled).faults == []
    number_changed(filled.folder / "measurements.csv")
    (fault,) = verify(filled).faults
    assert repair(verify(filled)) == [fault]
    assert fault.path.exists()


# What a run believes.


def test_half_outcomes_make_their_cells_lack_and_only_these(filled):
    path = only(filled.folder, "cells/*.parquet")
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        assert len(StudyStore(filled.root, filled.study).keys()) == 3
    path.write_bytes(whole)
    assert len(StudyStore(filled.root, filled.study).keys()) == 5


@pytest.mark.parametrize("name", ["0", "f"])
def test_a_cell_that_is_in_two_files_is_read_once_from_the_whole_one(name, filled):
    path = only(filled.folder, "cells/*.parquet")
    path.with_suffix(".json").rename(path.with_name(f"{name * 16}.json"))  # the first, or the last
    lost = pq.read_table(path)["key"].unique().to_pylist()
    path.unlink()
    cells = [
        dataclasses.replace(CELL, level=level, weights=w) for level in (1.0, 2.0) for w in "abc"
    ]
    again = [each for each in cells if each.key in lost or each.weights == "c"]
    filled.write(
        [Result(cell, [Measurement("accuracy", 0.25, 3)]) for cell in again], outcomes(again)
    )
    keys = list(filled.cells()["key"])
    assert len(keys) == len(set(keys)) == 7
    assert sorted(filled.measurements()["value"]) == [0.25] * 4 + [0.5] * 2
    counts = filled.outcomes().to_pandas().groupby("key").size()
    assert set(counts) == {3}
    assert filled.outcomes(set(lost)).num_rows == 6


def test_half_adversarials_are_made_anew(filled):
    path = only(filled.folder, "adversarials/*")
    assert filled.saved(CELL) == 3
    for content in (path.read_bytes()[:-5], b"", b"x" * 100):
        path.write_bytes(content)
        assert filled.saved(CELL) == 0


# The command.


def test_the_command_names_what_is_damaged_and_ends_with_1(selbench, filled):
    assert selbench("verify", "runs").out == "runs/study: 9 files checked; none is damaged\n"
    path = only(filled.folder, "cells/*.parquet")
    bytes_changed(path)
    ended = selbench("verify", "runs/study")
    assert ended.code == 1
    assert ended.out == (
        "runs/study: 9 files checked; 1 damaged\n"
        f"  runs/study/cells/{path.name}: its content is not what was written\n"
    )
    ended = selbench("verify", "--repair")
    assert ended.code == 0
    assert ended.out.endswith("\nruns/study is repaired; run the command that made it again\n")
    assert selbench("verify", "-q").out == ""
    assert selbench("verify", ".", "--repair").code == 2


def test_tables_that_cannot_be_made_anew_stay_damaged(selbench, filled):
    shutil.rmtree(filled.folder / "cells")
    number_changed(filled.folder / "measurements.csv")
    assert selbench("verify", "--repair").code == 1


def test_a_place_without_a_store_is_one_sentence(refused, filled):
    assert refused("verify", "nowhere") == (
        "there are no results in nowhere; name the folder of a store"
    )
    Path("runs/selbench.json").write_text('{"format": 99}')
    assert "the store runs has format 99" in refused("verify")


@pytest.mark.soak
def test_a_damaged_run_repaired_and_run_again_has_the_same_numbers(
    selbench, tiny_study, few_conditions, unpacked
):
    words = ["run", tiny_study, "--suite", "corruptions", "-q"]
    selbench(*words)
    folder = Path("runs/tiny")
    before = (folder / "measurements.csv").read_bytes()
    first, second, third, *_ = sorted(folder.glob("cells/*.parquet"))
    bytes_changed(first)
    second.unlink()
    bytes_changed(third.with_suffix(".json"))
    (folder / "cells" / ".x.json.9-ab.tmp").write_text("")
    assert selbench("verify").code == 1
    assert selbench("verify", "--repair").code == 0
    assert (folder / "measurements.csv").read_bytes() != before
    assert selbench(*words).code == 0
    assert (folder / "measurements.csv").read_bytes() == before
    assert selbench("verify").out.endswith("none is damaged\n")


def test_links_do_not_lead_repair_out_of_the_store(filled, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(filled.folder / "cells", outside)
    (outside / "precious.json").write_text("no cells")
    (filled.folder / "cells").symlink_to(outside)
    with pytest.raises(
        SelbenchError, match=r"precious.json lies outside of .*; remove it yourself"
    ):
        repair(verify(filled))
    assert (outside / "precious.json").exists()


def test_studies_are_found_finished_or_not(filled, tmp_path):
    (tmp_path / "runs" / "begun" / "cells").mkdir(parents=True)
    (tmp_path / "runs" / "other").mkdir()
    assert [each.study for each in studies_at(tmp_path / "runs")] == ["begun", "study"]
    assert [each.study for each in studies_at(filled.folder)] == ["study"]
