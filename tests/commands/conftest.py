"""Quick runs of the command line, and what they evaluate."""

import shutil

import pytest

from selbench.suites import Condition, Validation, corrupted


@pytest.fixture
def evaluated(monkeypatch):
    """Record the name and level of every condition that is evaluated."""
    seen = []

    def record(kind):
        genuine = kind.run

        def recording(work, *rest):
            seen.append((work.name, work.level))
            return genuine(work, *rest)

        monkeypatch.setattr(kind, "run", recording)

    for kind in (Condition, Validation):
        record(kind)
    return seen


@pytest.fixture(scope="session")
def _runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs"), {}


@pytest.fixture
def ran(_runs, selbench, tiny_study):
    """Return a function that runs the tiny study, each way once, and copies what is kept."""
    folder, made = _runs

    def ran(*words, store="runs"):
        key = words, tuple(corrupted.CORRUPTIONS), corrupted.SEVERITIES
        if key not in made:
            kept = folder / str(len(made))
            made[key] = kept, selbench("run", tiny_study, *words, "--store", kept)
            assert made[key][1].code == 0
        kept, ended = made[key]
        shutil.copytree(kept, store)
        return ended

    return ran
