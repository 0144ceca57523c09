"""Stores that several tests write alike: written once, then copied."""

import shutil
import tempfile
from functools import wraps
from pathlib import Path

from selbench.store import StudyStore

KEPT = tempfile.TemporaryDirectory(prefix="selbench-tests-")
STUDIES = {}


def written_once(write):
    """Let `write(root, name="study", ...)`, which writes a study, copy what a call alike wrote.

    Where there is such a study already, it is written to. It returns the study's store.
    """

    @wraps(write)
    def call(root, name="study", *args, **facts):
        key = write.__qualname__, name, repr(args), repr(sorted(facts.items()))
        target = Path(root) / name
        if target.exists():
            write(root, name, *args, **facts)
            return StudyStore(Path(root), name)
        if key not in STUDIES:
            kept = Path(KEPT.name) / str(len(STUDIES))
            write(kept, name, *args, **facts)
            STUDIES[key] = kept / name
        shutil.copytree(STUDIES[key], target)
        return StudyStore(Path(root), name)

    return call
