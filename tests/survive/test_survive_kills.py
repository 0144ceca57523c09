"""Runs that are killed at random moments go on to the numbers of an undisturbed one."""

import json
import subprocess
import sys
from pathlib import Path

MOMENTS, SEED = 4, 5


def test_killed_runs_end_as_an_undisturbed_one(tiny_study):
    script = Path(__file__).with_name("kill_runs.py")
    words = ["run", str(tiny_study), "--alpha", "0", "--suite", "corruptions"]
    words += ["--corruption", "brightness"]
    command = [sys.executable, str(script), "kills", str(MOMENTS), str(SEED), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(Path("kills/moments.json").read_text())
    rows = found["rows"]
    assert len(rows) == MOMENTS
    assert sum(each["killed"] for each in rows) >= MOMENTS - 1  # one may be at its end
    assert len({each["in flight"] for each in rows}) > 2
    for each in rows:
        assert each["damaged before"] == 0, each  # half a file is never in the place of a whole one
        assert each["ended"] == 0, each
        assert each["cells after"] == found["cells"], each
        assert each["cells before"] <= found["cells"], each
        assert (each["twice"], each["damaged after"]) == (0, 0), each
        assert each["equal"], each
