"""One process per device: the same command is done on the others too."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selbench._engine import Local, devices
from selbench._engine.devices import also_on
from selbench._engine.engines import opened
from selbench.store import StudyStore

WRITES = "import sys; open(sys.argv[-2], 'w').write(repr(sys.argv[1:]))"
WAITS = "import signal; signal.pause()"


@pytest.fixture
def python(monkeypatch):
    """Return a function that has processes run some lines of Python in place of the command."""

    def python(lines):
        monkeypatch.setattr(devices, "COMMAND", (sys.executable, "-c", lines))

    return python


@pytest.fixture
def started(monkeypatch):
    """Record the processes that are started."""
    processes, genuine = [], subprocess.Popen

    def recording(*words, **options):
        processes.append(genuine(*words, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", recording)
    return processes


def test_the_command_is_done_on_every_other_device(python, monkeypatch):
    python(WRITES)
    monkeypatch.setattr(devices, "check_device", str)
    with also_on("cuda:0", ["cuda:1", "cuda:2"], ["run", "digits", "--device", "cuda:0"]):
        pass  # they are waited for
    for name in ("cuda:1", "cuda:2"):
        words = ["run", "digits", "--device", "cuda:0", "--device", name, "--quiet"]
        assert Path(name).read_text() == repr(words)


def test_processes_are_ended_where_the_block_fails(python, started):
    python(WAITS)
    with pytest.raises(KeyboardInterrupt), also_on("cpu", ["cpu", "cpu"], []):
        raise KeyboardInterrupt
    assert [each.returncode for each in started] == [-15, -15]


def test_no_process_is_started_for_one_device(started):
    with also_on("cpu", [], ["run"]):
        assert started == []


@pytest.mark.parametrize(
    ("first", "others", "threads"),
    [("cpu", ["cpu"], 3), ("cpu", ["cpu", "cpu"], 2), ("cuda:0", ["cpu"], 6), ("cpu", [], 6)],
)
def test_processes_on_a_cpu_share_its_cores(first, others, threads, python, monkeypatch):
    python("import os, sys; open('threads', 'w').write(os.environ['OMP_NUM_THREADS'])")
    set_to = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    with also_on(first, others, []):
        pass
    assert set_to == [threads, 6]
    assert not others or Path("threads").read_text() == str(threads)


@pytest.mark.soak
def test_a_run_on_two_devices_leaves_what_one_leaves(selbench, tiny_study):
    words = ["run", tiny_study, "--suite", "corruptions", "--corruption", "brightness", "-q"]
    assert selbench(*words, "--device", "cpu,cpu", "--store", "two").code == 0
    assert selbench(*words, "--store", "one").code == 0
    tables = [Path(store, "tiny", "measurements.csv").read_bytes() for store in ("two", "one")]
    assert tables[0] == tables[1]
    assert not list(Path("two/tiny/locks").glob("*.lock"))
    assert not StudyStore(Path("two"), "tiny").cells()["key"].duplicated().any()


def test_a_device_that_is_not_there_is_told_before_anything_is_done(refused, tiny_study):
    sentence = refused("run", tiny_study, "--device", "cpu,mps")
    assert sentence.startswith("device 'mps' cannot be used (")
    assert not list(Path("runs").glob("*/cells/*"))


def test_ray_takes_no_list_of_devices(refused):
    assert refused("run", "--engine", "ray", "--device", "cuda:0,cuda:1") == (
        "--engine ray divides the devices itself; name one device, or leave out --device"
    )


def test_a_plan_counts_every_device():
    with opened("local", None, None, 3) as engine:
        assert engine.parallelism(True, torch.device("cuda:0")) == (3, 3)
    assert Local().parallelism(True, torch.device("cuda:0")) == (1, 1)
