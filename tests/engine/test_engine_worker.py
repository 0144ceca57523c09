"""What a Ray task does, without Ray: whether it computes as the command's machine would."""

import dataclasses

import pytest
import torch

from selbench._engine import ray_worker
from selbench._engine.packed import PackedNetwork, PackedSplit
from selbench._engine.ray_cluster import Share
from selbench._engine.ray_objects import seat_of
from selbench._engine.ray_worker import Job, generated, run_elsewhere
from selbench._kit.device import versions
from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.store import Failure, StudyStore
from selbench.study import ModelSpec
from selbench.suites import Condition, Setting, collect
from selbench.suites.bench import Bench

MODEL = ModelSpec(name="resnet8", options={"width": 4})


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    monkeypatch.setattr(ray_worker, "_networks", {})


@pytest.fixture
def split():
    pixels = torch.randint(256, (9, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return make_split(pixels.to(torch.uint8), torch.arange(9) % 3)


def network():
    torch.manual_seed(0)
    return build_model(MODEL, 3, ((0.5,) * 3, (0.2,) * 3)).eval()


def fetch(names):
    return [PackedNetwork.of(network()) for _ in names]


def subject(weights="w"):
    return Network("mine", None, None, "", "resnet8", weights, network)


def job(split, pieces, **changes):
    seat = dataclasses.replace(seat_of(Share(1, 0), pieces), **changes)
    return Job(seat, PackedSplit.of(split), 3, None, 0)


def group(piece, split, *subjects):
    return list(piece.tasks(subjects or [subject()], split, None))


@pytest.mark.parametrize("name", ["torch", "selbench"])
def test_a_node_with_another_version_is_refused(split, name):
    (clean,) = collect(("clean",), Setting(32, 32))
    other = versions() | {name: "0.0.1"}
    with pytest.raises(SelbenchError, match=f"has {name} .*, this machine 0.0.1; install the same"):
        run_elsewhere(job(split, [clean], versions=other), group(clean, split), fetch)


def test_a_node_with_other_pictures_of_frost_is_refused(split):
    pieces = collect(("corruptions",), Setting(32, 32, corruptions=("frost", "fog")))
    frost, fog = (
        next(piece for piece in pieces if piece.name == name) for name in ("frost", "fog")
    )
    other = job(split, pieces, variants={"frost": "photographs 12345678", "fog": ""})
    with pytest.raises(SelbenchError, match=r"makes frost with other pictures .*\(procedural, not"):
        run_elsewhere(other, group(frost, split), fetch)
    assert len(run_elsewhere(other, group(fog, split), fetch).results) == 1


def test_every_generated_corruption_is_looked_at_for_its_pictures():
    setting = Setting(32, 32, corruptions=("frost",))
    for suite in ("corruptions", "dimensionality", "selectivity"):
        pieces = collect((suite,), setting)
        assert {name for piece in pieces for name in generated(piece)} == {"frost"}
    assert generated(Condition("clean", "clean")) == []


def test_a_task_computes_with_its_threads_and_gives_them_back(split, monkeypatch):
    (clean,) = collect(("clean",), Setting(32, 32))
    counts = []
    monkeypatch.setattr(Bench, "do", lambda bench, tasks: counts.append(torch.get_num_threads()))
    run_elsewhere(job(split, [clean], threads=3), group(clean, split), fetch)
    assert counts == [3]
    assert torch.get_num_threads() == 1


@pytest.fixture
def gpu(monkeypatch):
    """Have a task compute on the CPU as on a GPU; return what is done with the latter's memory."""
    done = []
    monkeypatch.setattr(ray_worker, "choose_device", torch.device)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: done.append(part)
    )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    return done


@pytest.mark.parametrize(("gpus", "part"), [(0.25, 0.25), (2.0, 1.0)])
def test_a_task_takes_its_part_of_a_gpu_and_leaves_nothing_there(gpu, gpus, part):
    ray_worker._networks["w"] = network()
    with ray_worker._seated(seat_of(Share(1, gpus), []), None):
        assert gpu == [part]
    assert gpu == [part, "emptied"]
    assert ray_worker._networks == {}


def test_a_task_of_the_cpu_looks_at_no_gpu(gpu):
    with ray_worker._seated(seat_of(Share(1, 0), []), None) as device:
        assert device.type == "cpu"
    assert gpu == []


def test_networks_are_brought_once_and_others_forgotten(split):
    (clean,) = collect(("clean",), Setting(32, 32))
    brought = []

    def counting(names):
        brought.append(list(names))
        return fetch(names)

    for subjects in ([subject("a")], [subject("a"), subject("b")], [subject("b")]):
        run_elsewhere(job(split, [clean]), group(clean, split, *subjects), counting)
    assert brought == [["a"], ["b"], []]
    assert list(ray_worker._networks) == ["b"]


def test_results_of_every_kind_reach_the_store(split, tmp_path):
    (clean,) = collect(("clean",), Setting(32, 32))
    (task,) = group(clean, split)
    written = run_elsewhere(job(split, [clean]), [task], fetch)
    other = dataclasses.replace(task.cells[0], condition="other")
    written.fail([Failure(other, "ValueError")])
    written.save(other, {"label": torch.zeros(4)})
    store = StudyStore(tmp_path, "study")
    assert written.unload(store) == 1
    assert store.keys() == {task.cells[0].key}
    assert len(store.outcomes()) == 9
    assert store.failed() == {other.key}
    assert store.saved(other) == 4
