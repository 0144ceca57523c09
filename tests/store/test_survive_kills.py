"""Runs that are killed at random moments go on to the numbers of an undisturbed one."""

import json
from pathlib import Path

import pytest
from forked import PROCESSES
from kill_runs import kills

SEED = 5


@pytest.mark.parametrize("moments", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_runs_end_as_an_undisturbed_one(moments, tiny_study):
    words = ["run", str(tiny_study), "--alpha", "0", "--suite", "corruptions"]
    words += ["--corruption", "brightness"]
    process = PROCESSES.Process(target=kills, args=(Path("kills"), moments, SEED, words))
    process.start()
    process.join()
    assert process.exitcode == 0
    found = json.loads(Path("kills/moments.json").read_text())
    rows = found["rows"]
    assert len(rows) == moments
    assert sum(each["killed"] for each in rows) >= moments - 1 - moments // 10
    assert len({each["in flight"] for each in rows}) >= min(moments, 3)
    for each in rows:
        assert each["damaged before"] == 0, each  # half a file is never in the place of a whole one
        assert each["ended"] == 0, each
        assert each["cells after"] == found["cells"], each
        assert each["cells before"] <= found["cells"], each
        assert (each["twice"], each["damaged after"]) == (0, 0), each
        assert each["equal"], each
