"""Cells that somebody removes while a run is at work are missed before it ends."""

import warnings
from pathlib import Path

import pytest
import torch
from kept import manifest

import selbench as package
from selbench.store import StudyStore

WORDS = ("--alpha", "0", "--suite", "corruptions", "--corruption", "brightness,contrast", "--quiet")


def removing(name, after):
    """Return `after`, at whose end all files of cells of a condition are removed."""

    def wrapped(store, *rest, **options):
        result = after(store, *rest, **options)
        for path in (store.folder / "cells").glob("*.json"):
            if f'"condition":"{name}"' in path.read_text():
                path.unlink()
        return result

    return wrapped


@pytest.mark.parametrize(("method", "named"), [("write", "contrast/1"), ("finish", "brightness/1")])
@pytest.mark.sample
def test_a_cell_removed_meanwhile_is_named(method, named, selbench, tiny_study, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(StudyStore, method, removing("contrast", getattr(StudyStore, method)))
        ended = selbench("run", tiny_study, *WORDS)
    assert ended.code == 3
    gone = "are not in runs/tiny any more, removed while this run was at work:\n  alpha=0 seed=0: "
    assert gone in ended.err
    assert f"corruptions/{named}" in ended.err
    assert "Traceback" not in ended.err
    assert manifest()["state"] == "incomplete"
    ended = selbench("run", tiny_study, *WORDS)
    assert (ended.code, ended.err) == (0, "")
    assert manifest()["state"] == "complete"


def test_evaluate_warns_of_a_cell_removed_meanwhile(monkeypatch):
    monkeypatch.setattr(StudyStore, "finish", removing("brightness", StudyStore.finish))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    words = {"suites": ["clean", "corruptions"], "corruptions": ["brightness"], "limit": 20}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        package.evaluate(network, "digits", store="runs", **words)
    assert any("are not in runs/digits any more" in str(each.message) for each in told)
    assert Path("runs/digits/manifest.json").is_file()
