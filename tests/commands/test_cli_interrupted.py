"""A command that is interrupted or killed goes on where it stopped, to the same numbers."""

import signal
from pathlib import Path

import pytest
from forked import Forked
from kept import manifest

from selbench.store import StudyStore
from selbench.training import trained as training_run

pytestmark = pytest.mark.long(7)

CONDITIONS = [
    ("clean", None),
    ("gaussian_noise", 1),
    ("gaussian_noise", 5),
    ("brightness", 1),
    ("brightness", 5),
]  # after the analysis of selectivity, in this order
KILLED = """
import os, signal
from corruptions import CORRUPTIONS
from selbench import store
from selbench.commands import cli
from selbench.suites import corrupted
corrupted.CORRUPTIONS = {name: CORRUPTIONS[name] for name in ("gaussian_noise", "brightness")}
corrupted.SEVERITIES = (1, 5)
write, writes = store.StudyStore.write, []
def killing(*arguments):
    write(*arguments)
    writes.append(None)
    if len(writes) == 4:  # selectivity of two networks, clean, gaussian_noise 1
        os.kill(os.getpid(), signal.SIGKILL)
store.StudyStore.write = killing
cli.main()
"""


def test_killed_run_goes_on_to_the_same_numbers(
    selbench, tiny_study, few_conditions, evaluated, fresh_home, monkeypatch
):
    words = ["run", str(tiny_study), "--suite", "corruptions", "--store"]
    code, _, err = Forked(*words, "killed", code=KILLED).ended()
    assert code == -signal.SIGKILL, err
    assert len(StudyStore(Path("killed"), "tiny").keys()) == 6
    assert manifest("killed")["state"] == "running"

    assert selbench(*words, "killed").code == 0
    assert evaluated == CONDITIONS[2:]
    monkeypatch.setenv("SELBENCH_HOME", "another-home")
    assert selbench(*words, "whole").code == 0
    files = [Path(store, "tiny", "measurements.csv") for store in ("killed", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert manifest("killed")["state"] == manifest("whole")["state"] == "complete"


def interrupt_after(monkeypatch, owner, name, how=signal.SIGINT):
    """Press Ctrl-C, or send another signal, whenever the method `name` has done its work."""
    genuine = getattr(owner, name)

    def interrupted(*arguments):
        genuine(*arguments)
        signal.raise_signal(how)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("stage", [(training_run._Session, "keep"), (StudyStore, "write")])
@pytest.mark.parametrize(
    ("how", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.sample
def test_a_signal_ends_with_a_hint_and_without_locks(
    stage, how, code, told, selbench, tiny_study, fresh_home, monkeypatch
):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupt_after(patch, *stage, how)
        ended = selbench("run", tiny_study, "--quiet")
    assert ended.code == code
    assert ended.out == ""
    assert ended.err == f"selbench: {told}; run the same command again to resume\n"
    assert not [path for path in (fresh_home / "locks").rglob("*") if path.is_file()]
    assert not [path for path in Path("runs").rglob("locks/*") if path.is_file()]
    assert signal.getsignal(signal.SIGTERM) is before
    assert selbench("run", tiny_study, "--quiet").code == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "nothing was kept; with --store the same command can resume"),
        (["--store", "kept"], "run the same command again to resume"),
    ],
)
def test_a_baseline_says_what_is_left_of_it(words, hint, selbench, tiny_study, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, StudyStore, "write")
        ended = selbench("baseline", tiny_study, "--suite", "clean", "--alpha", 0, *words)
    assert ended.code == 130
    assert ended.err.endswith(f"selbench: interrupted; {hint}\n")


@pytest.mark.soak
def test_interrupted_training_goes_on_at_the_next_epoch_to_the_same_weights(
    selbench, tiny_study, fresh_home, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_after(patch, training_run._Session, "keep")
        assert selbench("train", tiny_study).code == 130
    first_epochs = []
    genuine = training_run.train

    def recording(*arguments, first_epoch, **options):
        first_epochs.append(first_epoch)
        return genuine(*arguments, first_epoch=first_epoch, **options)

    monkeypatch.setattr(training_run, "train", recording)
    resumed = selbench("train", tiny_study)
    assert first_epochs == [2, 1]
    monkeypatch.setenv("SELBENCH_HOME", "another-home")
    assert selbench("train", tiny_study).out == resumed.out
