"""The engine on a cluster: the same bytes as on one machine, whatever happens."""

import dataclasses
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from selbench._engine import evaluate, opened
from selbench._engine.on_ray import OnRay
from selbench._kit.errors import NotFiniteError, SelbenchError
from selbench._kit.files import home
from selbench._kit.progress import Progress
from selbench.attacks.gradient import Attacked
from selbench.datasets.dataset import Dataset, limited, make_split
from selbench.networks.network import Network
from selbench.request import ANYTHING, Request
from selbench.sets.stored import Stored
from selbench.store import Measurement, StudyStore
from selbench.suites import (
    Analysis,
    Attack,
    Comparison,
    Condition,
    HeldOut,
    Recalibration,
    Validation,
)

pytestmark = pytest.mark.long(40)

CPU = torch.device("cpu")
CLASSES = 3
RUN = ["--suite=corruptions", "--suite=dimensionality", "--corruption=gaussian_noise", "--quiet"]


class Linear(nn.Module):
    """A network quick enough to be run often; each seed is another one."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3 * 8 * 8, generator=generator))

    def forward(self, images):
        return F.relu(images).flatten(1) @ self.weight.T


def subject(seed):
    return Network(
        name=f"alpha=0 seed={seed}",
        alpha=0.0,
        seed=seed,
        training="t",
        architecture="linear",
        weights=f"w{seed}",
        load=lambda: Linear(seed),
    )


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = make_split(pixels, torch.arange(60) % CLASSES)
    return Dataset("noise", tuple("abc"), split, split)


@pytest.fixture
def stores(tmp_path):
    return {name: StudyStore(tmp_path / name, "study") for name in ("local", "ray")}


def content(store):
    """Return what a store holds, by the names of its files."""
    tables = {
        str(path.relative_to(store)): path.read_bytes()
        for pattern in ("*.csv", "cells/*.parquet")
        for path in Path(store).glob(pattern)
    }
    images = {
        path.name: {name: tensor.tolist() for name, tensor in load_file(path).items()}
        for path in Path(store).glob("adversarials/*")
    }
    return tables | images


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("weights/*/*.s*")}


def both(subjects, pieces, dataset, stores, request=ANYTHING):
    """Evaluate on this machine and on the cluster; return how many cells it were."""
    counts = [
        engine(subjects, pieces, dataset, stores[name], CPU, request)
        for name, engine in (("local", evaluate), ("ray", OnRay().evaluate))
    ]
    for store in stores.values():
        store.finish({})
    assert counts[0] == counts[1]
    assert content(stores["local"].folder) == content(stores["ray"].folder)
    return counts[0]


def run_apart(*words):
    """Run the command in a process of its own, which connects to the cluster itself."""
    command = [sys.executable, "-m", "selbench", *words]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("nodes", "apart"),
    [("1 node", False)]
    + [pytest.param("2 nodes", apart, marks=pytest.mark.soak) for apart in (False, True)],
)
def test_a_run_trains_and_evaluates_to_the_same_bytes(
    nodes, apart, cluster, selbench, tiny_study, monkeypatch, request
):
    import ray

    if nodes == "2 nodes":
        request.getfixturevalue("second_node")
    words = ["run", str(tiny_study), *RUN, "--limit", "6", "--store"]
    options = ["--engine", "ray", "--address", ray.get_runtime_context().gcs_address]
    monkeypatch.setenv("SELBENCH_HOME", "home-local")
    assert selbench(*words, "local").code == 0
    monkeypatch.setenv("SELBENCH_HOME", "home-ray")
    if apart:
        run_apart(*words, "ray", *options)
    else:
        assert selbench(*words, "ray", *options).code == 0
    found = content("ray/tiny")
    assert found == content("local/tiny")
    assert {Path(name).suffix for name in found} == {".csv", ".parquet"}
    assert len(weights("home-ray")) == 2
    assert weights("home-ray") == weights("home-local")
    assert weights(cluster) == weights("home-ray")  # a node that is interrupted resumes there
    assert f"by Ray on {nodes}" in Path("ray/tiny/manifest.json").read_text()


def test_images_that_lie_here_are_sent_to_the_nodes(cluster, dataset, stores):
    """Sets on disk, validation images of every seed; and a recalibration, which stays here."""

    def read(places):
        return 255 - dataset.test.take(places).images

    stored = Stored("files", "checksum", dataset.test.labels, read, paired=True)
    condition = Condition("corruptions", "negative", level=1, group="noise", stored=stored)

    def measure(model, split, sets, classes):
        return [[Measurement("mean", each.float().mean().item(), len(split))] for each in sets]

    comparison = Comparison("representation", "negative", (condition,), measure)
    held_out = HeldOut("v", 40, lambda seed: dataset.train.take(torch.arange(seed, seed + 40)))
    validation = Validation(held_out=held_out)
    fit = Recalibration("recalibration", "negative", (condition,), validation)
    pieces = [condition, comparison, validation, fit]
    assert both([subject(0), subject(1)], pieces, dataset, stores, Request(limit=45)) == 8
    metrics = set(stores["ray"].measurements()["metric"])
    assert {"mean", "ks_error_spline", "accuracy"} <= metrics


def fell(images, labels, levels):
    fallen = torch.arange(len(labels)) < 1
    logits = F.one_hot((labels + fallen) % CLASSES, CLASSES).float()
    return [Attacked(images * 0.5, logits, fallen, fallen.long()) for _ in levels]


def test_a_transfer_attack_has_its_helper_and_keeps_its_images(cluster, dataset, stores):
    def run(network, source, images, labels, examples):
        assert not torch.equal(network.weight, source.weight)
        return fell(images, labels, (1.0, 2.0))

    attack = Attack("attacks", "test", (1.0, 2.0), run, transfer=True)
    assert both([subject(0), subject(1)], [attack], dataset, stores, Request(save=3)) == 4
    (path, _) = sorted((stores["ray"].folder / "adversarials").iterdir())
    assert torch.equal(load_file(path)["clean"], dataset.test.images[:3] / 255)


def test_a_perturbed_batch_is_made_once_for_all_networks(cluster, dataset, stores, tmp_path):
    made = str(tmp_path / "made")

    def perturb(images, examples):
        with open(made, "a") as file:  # noqa: PTH123
            file.write(f"{len(images)}\n")
        return images

    condition = Condition("corruptions", "test", perturb, level=1, group="noise")
    subjects = [subject(seed) for seed in range(3)]
    assert OnRay().evaluate(subjects, [condition], dataset, stores["ray"], CPU) == 3
    assert Path(made).read_text() == "60\n"


def dies(model, split, classes):
    if torch.equal(model.weight, Linear(1).weight):
        os._exit(1)
    return [Measurement("alive", 1.0, len(split))]


@pytest.mark.soak
def test_a_lost_worker_costs_its_network_s_cells_alone(cluster, dataset, stores):
    pieces = [Analysis("clean", "deadly", dies), Condition("clean", "clean")]
    subjects, store = [subject(0), subject(1)], stores["ray"]
    assert OnRay().evaluate(subjects, pieces, dataset, store, CPU) == 3
    rows = store.measurements()
    assert set(rows[rows["metric"] == "alive"]["subject"]) == {"alpha=0 seed=0"}
    (failure,) = store.failures(store.failed())
    assert (failure.cell.condition, failure.cell.seed) == ("deadly", 1)
    assert failure.reason.startswith("WorkerCrashedError: ")
    assert OnRay().evaluate(subjects, pieces, dataset, store, CPU) == 0
    assert not list((store.folder / "locks").glob("*.lock"))


def not_finite(model, split, classes):
    raise NotFiniteError("its activity is NaN")


def faulty(model, split, classes):
    raise ArithmeticError("no number")


def test_what_networks_do_is_told_here(cluster, dataset, stores):
    pieces = [Analysis("clean", "wild", not_finite), Analysis("clean", "faulty", faulty)]
    with pytest.warns(RuntimeWarning, match="alpha=0 seed=0 is left out of clean: its activity"):
        assert OnRay().evaluate([subject(0)], pieces, dataset, stores["ray"], CPU) == 1
    (failure,) = stores["ray"].failures(stores["ray"].failed())
    assert failure.reason == "ArithmeticError: no number"
    assert failure.place.endswith("in faulty")


def mendable(model, split, classes):
    raise SelbenchError("the photograph is damaged; replace it")


def test_what_the_user_can_mend_ends_the_run(cluster, dataset, stores):
    pieces = [Analysis("clean", "bad", mendable)]
    with pytest.raises(SelbenchError, match="the photograph is damaged; replace it"):
        OnRay().evaluate([subject(0)], pieces, dataset, stores["ray"], CPU)
    assert not stores["ray"].failed()
    assert not list((stores["ray"].folder / "locks").glob("*.lock"))


def test_an_interruption_keeps_what_has_arrived(cluster, dataset, stores):
    class Impatient(Progress):
        def track(self, task, pieces, done=0):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            return None

        def __call__(self, pieces=1, note=""):
            raise KeyboardInterrupt

    pieces = [Condition("clean", "clean"), Condition("clean", "other")]
    with pytest.raises(KeyboardInterrupt):
        OnRay().evaluate([subject(0)], pieces, dataset, stores["ray"], CPU, progress=Impatient())
    assert len(stores["ray"].keys()) == 1
    assert not list((stores["ray"].folder / "locks").glob("*.lock"))
    assert OnRay().evaluate([subject(0)], pieces, dataset, stores["ray"], CPU) == 1


class Locked(Linear):
    def __init__(self):
        super().__init__(0)
        self.lock = Lock()


def test_a_network_that_cannot_be_sent_is_refused(cluster, dataset, stores):
    odd = dataclasses.replace(subject(0), name="mine.py:odd", load=Locked)
    with pytest.raises(SelbenchError, match=r"mine[.]py:odd cannot be sent to other processes "):
        OnRay().evaluate([odd], [Condition("clean", "clean")], dataset, stores["ray"], CPU)


def test_a_cluster_without_gpus_says_so(cluster):
    engine = opened("ray", None, 0.25)
    with pytest.raises(SelbenchError, match=r"no node of the Ray cluster has 0\.25 GPU"):
        engine.__enter__()


@pytest.mark.soak
def test_limited_images_are_those_of_the_whole_set(cluster, dataset, stores):
    pieces = [Condition("clean", "clean")]
    assert both([subject(0)], pieces, dataset, stores, Request(limit=20)) == 1
    kept = stores["ray"].outcomes()["example"].to_pylist()
    assert kept == limited(dataset.test, 20).examples.tolist()
    assert home() != cluster


@pytest.fixture
def pipes(tmp_path):
    """Make two named pipes, over which tasks that are at work at the same time can meet."""
    paths = [str(tmp_path / name) for name in ("left", "right")]
    for path in paths:
        os.mkfifo(path)
    return paths


def meet(own, other):
    """Say whether another task comes to the same pipes while this one waits there."""
    with open(own, "r+b", 0) as mine, open(other, "r+b", 0) as theirs:  # noqa: PTH123
        theirs.write(b"!")
        ready, _, _ = select.select([mine], [], [], 60)
    return bool(ready)


@pytest.mark.soak
@pytest.mark.usefixtures("second_node")
def test_networks_of_one_analysis_are_on_both_nodes_at_the_same_time(
    cluster, dataset, stores, pipes
):
    def measure(model, split, classes):
        first = torch.equal(model.weight, Linear(0).weight)  # each node has one CPU
        met = meet(*pipes) if first else meet(*reversed(pipes))
        return [Measurement("met", float(met), len(split))]

    pieces = [Analysis("clean", "clean", measure)]
    OnRay().evaluate([subject(0), subject(1)], pieces, dataset, stores["ray"], CPU)
    assert stores["ray"].measurements()["value"].tolist() == [1.0, 1.0]


def once(marker):
    """Say whether this is the first call with a path."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@pytest.mark.soak
def test_a_run_goes_on_without_the_worker_and_the_node_that_were_killed(
    node_to_lose, dataset, stores, pipes, tmp_path
):
    """A worker dies in the middle of a condition; then a node while both are at work."""
    markers = [str(tmp_path / name) for name in ("condition", "first", "second")]
    lost = node_to_lose.node_id

    def perturb(images, examples):
        if once(markers[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        return 255 - images

    def measure(model, split, classes):
        number = int(torch.equal(model.weight, Linear(1).weight))
        if once(markers[1 + number]):
            meet(*pipes) if number else meet(*reversed(pipes))
            import ray

            if ray.get_runtime_context().get_node_id() == lost:
                os.kill(os.getppid(), signal.SIGKILL)  # the node's chief, which its others follow
                os.kill(os.getpid(), signal.SIGKILL)
        return [Measurement("alive", 1.0, len(split))]

    pieces = [
        Condition("corruptions", "negative", perturb, level=1),
        Analysis("clean", "clean", measure),
    ]
    subjects = [subject(0), subject(1)]
    assert OnRay().evaluate(subjects, pieces, dataset, stores["ray"], CPU) == 4
    assert evaluate(subjects, pieces, dataset, stores["local"], CPU) == 4  # nobody is killed now
    for store in stores.values():
        store.finish({})
    assert content(stores["local"].folder) == content(stores["ray"].folder)
    assert not stores["ray"].failed()
    assert not list((stores["ray"].folder / "locks").glob("*.lock"))
    assert [name for name, _ in node_to_lose.dead_processes()] == ["raylet"]
