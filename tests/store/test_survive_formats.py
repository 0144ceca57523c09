"""Stores of before: tables are made of them as they are, and they are given the present format."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from selbench._kit.locks import Locks
from selbench.store import StudyStore

# Written by selbench at commit c017190: clean images and brightness for two networks of the digits.
BEFORE = Path(__file__).with_name("format2.tar.gz")
MARK = Path("runs/selbench.json")

pytestmark = pytest.mark.long(6)


@pytest.fixture
def old(tmp_path):
    """Unpack a store of format 2, and a table that the version of before made of it."""
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return StudyStore(Path("runs"), "tiny")


def bytes_in(folder):
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def same_table(text):
    """Say whether a table has the numbers of the version of before, in the columns it had."""
    found, before = pd.read_csv(io.StringIO(text)), pd.read_csv("leaderboard.csv")
    return len(before) == 2 and found[[*before]].equals(before)


def outcomes(store):
    table = store.outcomes().to_pandas().astype({"key": str})
    return table.sort_values(["key", "example"], ignore_index=True)


def test_a_store_of_before_is_read_as_it_is(old, selbench):
    before = bytes_in("runs")
    assert same_table(selbench("leaderboard", "--format", "csv").out)
    assert old.measurements().to_csv(index=False).encode() == before["runs/tiny/measurements.csv"]
    assert selbench("verify").out == "runs/tiny: 14 files checked; none is damaged\n"
    assert old.format == 2
    assert bytes_in("runs") == before


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_run_does_not_go_on_with_it_and_says_what_to_do(more, old, refused):
    before = bytes_in("runs")
    assert refused("run", "digits", "-q", *more) == (
        "the store runs has format 2, which tables are made of but runs do not go on with; give it "
        "format 3 with `selbench verify runs --migrate`"
    )
    assert bytes_in("runs") == before


def test_a_migrated_store_has_few_files_and_the_same_numbers(old, selbench):
    before, keys, rows = outcomes(old), old.keys(), bytes_in("runs")["runs/tiny/measurements.csv"]
    ended = selbench("verify", "runs/tiny", "--migrate")  # all of the store is
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "runs has the present format")
    new = StudyStore(Path("runs"), "tiny")
    assert json.loads(MARK.read_text()) == {"format": 3}
    assert (new.format, new.manifest()["state"]) == (3, "complete")
    assert len([*new.folder.glob("cells/*")]) == 2
    assert (new.folder / "measurements.csv").read_bytes() == rows
    assert new.keys() == keys
    assert outcomes(new).equals(before)
    assert same_table(selbench("leaderboard", "--format", "csv").out)
    assert selbench("verify").out == "runs/tiny: 4 files checked; none is damaged\n"


def test_a_store_is_migrated_once(old, selbench):
    selbench("verify", "--migrate")
    before = bytes_in("runs")
    assert selbench("verify", "--migrate").code == 0
    assert bytes_in("runs") == before


def test_files_without_digests_get_them(old, selbench):
    for path in old.folder.glob("cells/*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"made": content["made"], "cells": content["cells"]}))
    assert "7 of an earlier version, without digests" in selbench("verify").out
    assert selbench("verify", "--migrate").code == 0
    assert selbench("verify").out == "runs/tiny: 4 files checked; none is damaged\n"


def test_a_study_that_was_cut_off_is_migrated_too(old, selbench):
    shutil.move(old.folder / "manifest.json", "manifest.json")
    (old.folder / "measurements.csv").unlink()
    keys = old.keys()
    assert selbench("verify", "--migrate").code == 0
    assert StudyStore(Path("runs"), "tiny").keys() == keys
    assert len([*old.folder.glob("*/*")]) == 2
    assert not old.finished


def test_tables_without_cells_stay_as_they_are(old, selbench):
    shutil.rmtree(old.folder / "cells")
    before = bytes_in(old.folder)
    assert selbench("verify", "--migrate").code == 0
    assert bytes_in(old.folder) == before
    assert selbench("leaderboard").code == 0


def test_a_damaged_store_is_not_migrated_until_it_is_repaired(old, selbench):
    shutil.copytree("runs", "kept")
    path = sorted(old.folder.glob("cells/*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-1])
    before, keys = bytes_in("runs"), old.keys()
    assert selbench("verify", "--migrate").code == 1
    assert bytes_in("runs") == before
    assert selbench("verify", "--repair", "--migrate").code == 0
    new = StudyStore(Path("runs"), "tiny")
    assert new.manifest()["state"] == "incomplete"
    assert new.keys() == keys < StudyStore(Path("kept"), "tiny").keys()


def test_a_store_at_work_is_not_migrated(old, refused):
    other = Locks(old.locks.folder)
    other.take("a")
    assert "is at work in runs/tiny; " in refused("verify", "-q", "--migrate")
    assert json.loads(MARK.read_text()) == {"format": 2}
    other.release("a")


def test_a_folder_of_tables_is_no_store_to_migrate(old, refused):
    MARK.unlink()
    assert refused("verify", "-q", "--migrate") == (
        "runs is no store of runs; tables in it are read as they are"
    )


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_a_killed_migration_goes_on(each, old, selbench, stops, tmp_path):
    before, rows = outcomes(old), bytes_in("runs")["runs/tiny/measurements.csv"]
    shutil.copytree("runs", "kept")
    counted = stops(-1)
    selbench("verify", "-q", "--migrate")
    touches = counted["seen"]
    assert touches > 10
    for moment in range(0, touches, each):
        shutil.rmtree("runs")
        shutil.copytree("kept", "runs")
        stops(moment)
        assert selbench("verify", "-q", "--migrate").code == 70
        stops(-1)
        new = StudyStore(Path("runs"), "tiny")
        assert outcomes(new).equals(before)
        assert selbench("verify", "-q", "--migrate").code == 0
        assert (new.folder / "measurements.csv").read_bytes() == rows
        assert StudyStore(Path("runs"), "tiny").manifest()["state"] == "complete"
        assert len([*new.folder.glob("cells/*")]) == 2
