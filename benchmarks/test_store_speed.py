"""How long a large store takes to be checked and opened."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from written import CELL, FACTS

from selbench.store import Measurement, Result, StudyStore, packs

CELLS = 10_000
VERIFY, OPEN = 10.0, 5.0  # seconds
PACK, PACKED = 30.0, 1.0


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Write a study of 10,000 cells, each in files of its own, with 100 outcomes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "SMALL", 0)  # as a run that was cut off leaves them
        return _written(tmp_path_factory)


def _written(tmp_path_factory):
    store = StudyStore(tmp_path_factory.mktemp("large"), "study", {"command": ["run"]})
    store.prepare()
    for number in range(CELLS):
        cell = dataclasses.replace(CELL, weights=f"w{number}")
        table = pa.table({"key": [cell.key] * 100, "example": range(100), "loss": [0.5] * 100})
        store.write([Result(cell, [Measurement("accuracy", 0.5, 100)])], table)
    store.finish(FACTS)
    return store


def test_ten_thousand_cells_are_verified(large: StudyStore, benchmark, tmp_path: Path):
    """Target: under 10 s, the command's start included."""
    command = [sys.executable, "-m", "selbench", "verify"]
    environment = os.environ | {"SELBENCH_HOME": str(tmp_path)}
    rounds = 3

    def verify():
        done = subprocess.run(
            [*command, large.root], env=environment, check=True, text=True, capture_output=True
        )
        assert f"{2 * CELLS + 2} files checked; none is damaged" in done.stdout

    before = os.times()
    benchmark.pedantic(verify, rounds=rounds)
    after, seconds = os.times(), benchmark.stats.stats.median
    busy = sum(after[2:4]) - sum(before[2:4])  # of a core, whatever else the machine does
    sys.stderr.write(f"\nverify of {CELLS} cells: {seconds:.1f} s, {busy / rounds:.1f} of a core\n")
    assert seconds < VERIFY


def test_ten_thousand_cells_are_opened(large: StudyStore):
    """Target: under 5 s until it is known which cells there are, and far less the second time."""
    store = StudyStore(large.root, large.study)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        assert len(store.keys()) == CELLS
        seconds.append(time.perf_counter() - began)
    sys.stderr.write(f"\nkeys of {CELLS} cells: {seconds[0]:.2f} s, again {seconds[1]:.2f} s\n")
    assert seconds[0] < OPEN
    assert seconds[1] < seconds[0] / 5


def test_ten_thousand_cells_are_packed_and_opened(large: StudyStore, tmp_path: Path):
    """Targets: under 30 s to pack them at the end of a run, 1 s until what they hold is known."""
    shutil.copytree(large.root, tmp_path / "runs")
    began = time.perf_counter()
    StudyStore(tmp_path / "runs", large.study).finish(FACTS)
    seconds = [time.perf_counter() - began]
    store = StudyStore(tmp_path / "runs", large.study)
    began = time.perf_counter()
    assert len(store.keys()) == CELLS
    seconds.append(time.perf_counter() - began)
    files = len([*store.folder.glob("cells/*")])
    sys.stderr.write(
        f"\n{CELLS} cells packed in {seconds[0]:.1f} s to {files} files, keys {seconds[1]:.2f} s\n"
    )
    assert files <= 6
    assert seconds[0] < PACK
    assert seconds[1] < PACKED
