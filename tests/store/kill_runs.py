"""Kill a run at random moments, give its command again, and compare with an undisturbed run.

    python tests/store/kill_runs.py FOLDER MOMENTS SEED WORDS...

FOLDER is filled. WORDS are those of `selbench`, without --store. Writes FOLDER/moments.json: what
came of every moment. A moment is a touch of the disk - a file of the store or of the cache that is
opened for writing, renamed or removed - or a little after it; the process ends by SIGKILL.

selbench is imported once; every run is a fork.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from itertools import count
from pathlib import Path

import torch
import torch._dynamo  # an optimiser would import it in every fork

import selbench.session  # noqa: F401  and `main` this
from selbench.commands.cached import verify_home
from selbench.commands.cli import main
from selbench.commands.verification import studies_at, verify
from selbench.store import StudyStore

LATEST = 0.01  # seconds after a touch of the disk
TOUCHES = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0}  # which argument is the path


def run(folder, store, home, words, moment=None, delay=0.0):
    """Run a command in a process of its own; return how it ended and what it touched last.

    Args:
        moment: the touch of the disk at which it is killed; None leaves it alone.
        delay: seconds that it lives on.

    Returns:
        its status as `os.waitpid` has it, the number of touches, and the last one in words.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.environ["SELBENCH_HOME"] = str(home)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.addaudithook(killer(folder, writer, moment, delay))
        sys.argv = ["selbench", *words, "--store", str(store), "--quiet"]
        try:
            main()
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        os._exit(99)
    os.close(writer)
    with os.fdopen(reader) as told:
        lines = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    return status, len(lines), lines[-1] if lines else "nothing"


def killer(folder, writer, moment, delay):
    """Return an audit hook that tells of every touch of the disk, and kills at one of them."""
    numbers = count(1)

    def hook(event, arguments):
        if event not in TOUCHES or not isinstance(path := arguments[TOUCHES[event]], str | Path):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if not str(path).startswith(str(folder)):
            return
        os.write(writer, f"{event} {kind_of(Path(path))}\n".encode())
        if next(numbers) == moment:
            if not delay:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=kill_after, args=(delay,), daemon=True).start()

    return hook


def kill_after(delay):
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def kind_of(path):
    """Name what a path is, without what differs between runs."""
    name = re.sub(r"^\.(.*)\.\d+-[0-9a-f]+\.tmp$", r"\1 (temporary)", path.name)
    name = re.sub(r"[0-9a-f]{16}", "<key>", name)
    return f"{re.sub('[0-9a-f]{16}', '<key>', path.parent.name)}/{name}"


def state_of(store):
    """Return the keys of the cells in a store, how many are there twice, and what is damaged."""
    if not store.is_dir() or not any(store.glob("*/cells")):
        return set(), 0, 0, 0
    (study,) = studies_at(store)
    records = [
        record["key"]
        for path in study.folder.glob("cells/*.json")
        for record in json.loads(path.read_text())["cells"]
    ]
    faults = verify(study).faults
    damaged = sum(not each.harmless for each in faults)
    keys = StudyStore(store, study.study).keys()
    return keys, len(records) - len(set(records)), damaged, len(faults) - damaged


def cached_damage(home):
    """Return how many files of the cache are damaged."""
    return sum(not each.harmless for each in verify_home(home).faults)


def numbers(store):
    (path,) = store.glob("*/measurements.csv")
    return path.read_bytes()


def tried(folder, words, moment, delay, whole):
    """Kill a run, give its command again, and return what came of it."""
    store, home = folder / "killed", folder / "home-killed"
    for each in (store, home):
        shutil.rmtree(each, ignore_errors=True)
    status, _, flight = run(folder, store, home, words, moment, delay)
    before, _, damaged, left = state_of(store)
    damaged += cached_damage(home)
    again, *_ = run(folder, store, home, words)
    after, twice, damaged_after, left_after = state_of(store)
    damaged_after += cached_damage(home)
    return {
        "moment": moment,
        "delay": round(delay * 1000, 1),
        "in flight": flight,
        "killed": os.WIFSIGNALED(status),
        "cells before": len(before),
        "damaged before": damaged,
        "left before": left,
        "ended": os.waitstatus_to_exitcode(again),
        "cells after": len(after),
        "twice": twice,
        "damaged after": damaged_after,
        "left after": left_after,
        "equal": numbers(store) == whole,
    }


def kills(folder, moments, seed, words):
    """Kill a run at moments drawn with a seed, and write what came of them."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)  # so that networks are trained and evaluated side by side
    status, touches, _ = run(folder, folder / "whole", folder / "home-whole", words)
    assert status == 0, (folder / "log.txt").read_text()
    whole = numbers(folder / "whole")
    cells = len(state_of(folder / "whole")[0])
    drawn, rows = random.Random(seed), []
    for _ in range(moments):
        moment, delay = drawn.randint(1, touches), drawn.choice([0, drawn.uniform(0, LATEST)])
        rows.append(tried(folder, words, moment, delay, whole))
        found = {"touches": touches, "cells": cells, "rows": rows}
        (folder / "moments.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    folder, moments, seed, *words = sys.argv[1:]
    kills(Path(folder), int(moments), int(seed), words)
