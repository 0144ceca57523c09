"""The command as a process: how soon it answers, how much memory it takes."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

GIB = 2**30 / 1024  # ru_maxrss counts KiB

# Runs a command and prints the largest resident set, in KiB, of it and its children.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""

CIFAR_SIZE = """
    import torch
    from pathlib import Path
    from selbench.datasets.dataset import Dataset, make_split
    from selbench._engine import evaluate
    from selbench.store import StudyStore
    from selbench.study import DatasetSpec, ModelSpec, Recipe, Study
    from selbench.networks.network import trained_network
    from selbench.suites import Setting, collect
    def split(n):
        pixels = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
        return make_split(pixels, torch.arange(n) % 10)
    dataset = Dataset("noise", tuple("0123456789"), split(50_000), split(10_000))
    study = Study(
        name="memory", alphas=(1,), seeds=(0,), model=ModelSpec(name="resnet20"),
        dataset=DatasetSpec(name="folder", validation=45_000),
        recipe=Recipe(epochs=1, batch_size=256, learning_rate=0.1, augment=("flip", "crop")),
    )
    cpu = torch.device("cpu")
    subject = trained_network(study, dataset, 1.0, 0, cpu)
    pieces = [p for p in collect(("corruptions-all",), Setting(32, 32)) if p.level in (None, 3)]
    evaluate([subject], pieces, dataset, StudyStore(Path("runs"), "memory"), cpu)
"""


@pytest.fixture
def environment(tmp_path):
    return os.environ | {"SELBENCH_HOME": str(tmp_path / "home")}


def selbench(*words):
    return [sys.executable, "-m", "selbench", *words]


def peak(command, environment, folder):
    watched = [sys.executable, "-c", WATCH, *command]
    out = subprocess.run(
        watched, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return int(out.stdout.splitlines()[-1])


def test_help_beside_importing_torch(race, benchmark, environment, tmp_path):
    """Target: under 0.5 s; that it does not import torch shows in the ratio."""

    def run(command):
        return lambda: subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
        )

    importing = [sys.executable, "-c", "import torch"]
    assert race(run(selbench("--help")), run(importing)) > 2
    assert benchmark.stats.stats.median < 0.5


def test_digits_run_its_repetition_and_its_memory(benchmark, environment, tmp_path):
    """Targets: the run in 4 minutes and under 2 GiB, its repetition under 5 s."""
    command = selbench("run", "--suite", "corruptions", "-q")
    began = time.perf_counter()
    memory = peak(command, environment, tmp_path)
    seconds = time.perf_counter() - began

    def again():
        subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
        )

    benchmark.pedantic(again, rounds=5)
    benchmark.extra_info["peak GiB"] = memory / GIB
    sys.stderr.write(f"\ndigits: {seconds:.0f} s, peak {memory / GIB:.2f} GiB\n")
    assert seconds < 240
    assert memory < 2 * GIB
    assert benchmark.stats.stats.median < 5


def test_memory_of_a_run_of_cifars_size(environment, tmp_path):
    """Target: under 3 GiB; no array of corrupted data sets is ever made."""
    memory = peak([sys.executable, "-c", textwrap.dedent(CIFAR_SIZE)], environment, tmp_path)
    sys.stderr.write(f"\nCIFAR size: peak {memory / GIB:.2f} GiB\n")
    assert memory < 3 * GIB
