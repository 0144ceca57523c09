"""Processes that begin with selbench imported: each is a fork of one that imported it once."""

import multiprocessing
import os
import sys
from itertools import count
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "selbench.session", "selbench.tables"])
COMMAND = "from selbench.commands.cli import main; main()"
NUMBERS = count()


class Forked:
    """Python with one thread at `code` and `words`, in a process of its own which has begun."""

    def __init__(self, *words, code=COMMAND):
        number = next(NUMBERS)
        self._said = [Path(f"said-{number}-{name}").resolve() for name in ("out", "err")]
        for path in self._said:
            path.touch()
        given = (code, list(map(str, words)), dict(os.environ), self._said)
        self._process = PROCESSES.Process(target=_run, args=given)
        self._process.start()

    def ended(self):
        """Wait for its end; return its exit code, and what it wrote to its two streams."""
        self._process.join()
        return self._process.exitcode, *(path.read_text() for path in self._said)


def _run(code, words, environment, said):
    import torch

    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})
