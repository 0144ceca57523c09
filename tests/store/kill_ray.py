"""Kill workers, nodes or drivers of runs on Ray at random moments, and look what came of the runs.

    python tests/store/kill_ray.py FOLDER KIND MOMENTS SEED WORDS...

FOLDER is filled. KIND is `worker`, `node` or `driver`. WORDS are those of `selbench`, without
--store and --engine. Writes FOLDER/KIND.json: what came of every moment. A moment is drawn from the
time that an undisturbed run takes from its first task on, for drivers also from the time until
then; who is killed ends by SIGKILL.

A cluster of two nodes with one CPU each runs on this machine. The run whose worker or node was
killed goes on alone. The command whose driver was killed is given again; every other one of these
had a cluster of its own, of which nothing may stay behind.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from kill_runs import numbers, state_of

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
IDLE = ("ray::IDLE", "starting")  # workers that are at nothing
PATIENCE = 90  # seconds in which processes that were orphaned must end; Ray's agents take a minute
LOOK = 0.02  # seconds between two looks at the processes


def command(words, home, log):
    """Be the command `selbench`."""
    from selbench.commands.cli import main

    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["SELBENCH_HOME"] = str(home)
    sys.argv = ["selbench", *words]
    main()


def descendants(pid):
    """Return the processes that a process started, and those that these did."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        own = children.get(left.pop(), [])
        found += own
        left += own
    return found


def titles(pids):
    """Return the workers among processes, with what they are at: `ray::` and their task's name."""
    found = {}
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0].startswith("ray::") and "Agent" not in words[0]:  # a node ends with its agents
            found[pid] = words[0].strip()
        elif any(word.endswith("default_worker.py") for word in words[1:4]):
            found[pid] = IDLE[1]
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Trial:
    """Runs of one command, each with folders and a cluster for it."""

    def __init__(self, folder, words):
        from ray.cluster_utils import Cluster

        self.folder, self.words = folder, words
        self.orphans = []
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(["selbench.session", "selbench._engine.on_ray"])
        self.whole, _ = self.ended(self.run("whole", ["--engine", "local"]))
        os.environ["SELBENCH_HOME"] = str(folder / "home-nodes")
        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        self.node = self.cluster.add_node(**NODE)
        self.joined = ["--engine", "ray", "--address", self.cluster.address]

    def run(self, name, engine):
        """Start the command with the store, or what there is of it, called `name`."""
        words = [*self.words, *engine, "--store", str(self.folder / name), "--quiet"]
        arguments = (words, self.folder / f"home-{name}", self.folder / "log.txt")
        process = self.processes.Process(target=command, args=arguments)
        process.start()
        return process

    def ended(self, process):
        """Wait for a run, and return its exit code and when it ended."""
        process.join()
        return process.exitcode, time.monotonic()

    def anew(self):
        """Forget the run before; nodes too."""
        for name in ("killed", "home-killed", "home-nodes"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def busy(self, process):
        """Wait until workers of a run are at tasks; return them, or none if it ends before."""
        while process.is_alive():
            workers = titles(descendants(os.getpid()))
            found = {pid: title for pid, title in workers.items() if title not in IDLE}
            if found:
                return found
            time.sleep(LOOK)
        return {}

    def left_behind(self):
        """Wait for orphans to end, and return how many do not."""
        deadline = time.monotonic() + PATIENCE
        while any(map(alive, self.orphans)) and time.monotonic() < deadline:
            time.sleep(LOOK)
        return sum(map(alive, self.orphans))

    def undisturbed(self):
        """Return how long a run takes until its first task, and from there."""
        self.anew()
        began, process = time.monotonic(), self.run("killed", self.joined)
        self.busy(process)
        first = time.monotonic()
        code, end = self.ended(process)
        assert code == 0, (self.folder / "log.txt").read_text()
        assert numbers(self.folder / "killed") == numbers(self.folder / "whole")
        return first - began, end - first


def seen(workers):
    """Say in a word what workers are at."""
    tasks = {title.removeprefix("ray::") for title in workers.values() if title not in IDLE}
    return ", ".join(sorted(tasks)) or "no task"


def kill_worker(trial, process, drawn):
    """Kill a worker that is at a task."""
    busy = trial.busy(process)
    if not busy:
        return None
    victim = drawn.choice(sorted(busy))
    kill([victim])
    return seen({victim: busy[victim]})


def kill_node(trial, process, drawn):
    """Kill all processes of the node that is not the head."""
    started = [each.process.pid for kind in trial.node.all_processes.values() for each in kind]
    every = started + [pid for own in started for pid in descendants(own)]
    own, runs = titles(every), process.is_alive()
    kill(every)
    return seen(own) if runs else None


def kill_driver(trial, process, drawn):
    """Kill the command; the cluster that it started, if it did, must end too."""
    own = descendants(process.pid)
    at = seen(titles(descendants(os.getpid())))
    if not process.is_alive():
        return None
    kill([process.pid])
    process.join()
    trial.orphans += own
    return at


KINDS = {"worker": kill_worker, "node": kill_node, "driver": kill_driver}


def tried(trial, kind, number, phases, drawn):
    """Kill once, and return what came of it; None where the run was at its end already."""
    trial.anew()
    store = trial.folder / "killed"
    alone = kind == "driver" and number % 2 == 0
    engine = ["--engine", "ray"] if alone else trial.joined
    process, began = trial.run("killed", engine), time.monotonic()
    starting, working = phases
    if kind == "driver" and drawn.random() < starting / (starting + working):
        moment = drawn.uniform(0, starting)
    else:
        moment = drawn.uniform(0, working)
        trial.busy(process)
    time.sleep(moment)
    at = KINDS[kind](trial, process, drawn)
    before, _, damaged, _ = state_of(store)
    if kind == "driver" and at is not None:
        process = trial.run("killed", engine)
    code, end = trial.ended(process)
    if kind == "node":
        trial.cluster.remove_node(trial.node, allow_graceful=False)
        trial.node = trial.cluster.add_node(**NODE)
    if at is None:
        return None
    after, twice, damaged_after, left = state_of(store)
    return {
        "moment": round(moment, 2),
        "own cluster": alone,
        "in flight": at,
        "cells before": len(before),
        "damaged before": damaged,
        "ended": code,
        "seconds": round(end - began, 1),
        "cells after": len(after),
        "twice": twice,
        "failed": len(list(store.glob("*/failed/*"))),
        "damaged after": damaged_after,
        "left after": left,
        "equal": code == 0 and numbers(store) == numbers(trial.folder / "whole"),
    }


def main():
    folder, kind, moments, seed, *words = sys.argv[1:]
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    trial, drawn, rows = Trial(folder, words), random.Random(int(seed)), []
    cells = len(state_of(folder / "whole")[0])
    phases = trial.undisturbed()
    for number in range(2 * int(moments)):
        row = tried(trial, kind, number, phases, drawn)
        rows += [row] if row is not None else []
        found = {"seconds": phases, "cells": cells, "rows": rows}
        (folder / f"{kind}.json").write_text(json.dumps(found, indent=1))
        if len(rows) == int(moments):
            break
    found["left behind"] = trial.left_behind()
    (folder / f"{kind}.json").write_text(json.dumps(found, indent=1))
    trial.cluster.shutdown()


if __name__ == "__main__":
    main()
