"""Devices: how they are chosen, and torch's settings while networks are measured."""

from functools import partial

import pytest
import torch
from torch import nn

from selbench import class_selectivity, evaluate
from selbench._engine.devices import also_on
from selbench._engine.packed import PackedNetwork, PackedSplit
from selbench._engine.ray_cluster import Share
from selbench._engine.ray_objects import seat_of
from selbench._engine.ray_worker import Job, run_elsewhere
from selbench._kit.device import check_device, choose_device, faster_in_bfloat16, measuring
from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.networks.network import Network
from selbench.pytest_plugin import assert_robust
from selbench.suites import Setting, collect
from selbench.training.loop import accuracy

BACKENDS = torch.backends
OPERATIONS = [
    *(BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.cuda.matmul),
    *(BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn, BACKENDS.mkldnn.matmul),
]


def settings():
    cudnn = BACKENDS.cudnn.deterministic, BACKENDS.cudnn.benchmark
    return [BACKENDS.fp32_precision, *cudnn, *(each.fp32_precision for each in OPERATIONS)]


def set_older_names():
    torch.set_float32_matmul_precision("medium")
    BACKENDS.cudnn.benchmark = True


def set_newer_names():
    BACKENDS.cuda.matmul.fp32_precision = "tf32"
    BACKENDS.mkldnn.conv.fp32_precision = "bf16"


def set_all_at_once():
    BACKENDS.fp32_precision = "tf32"


@pytest.fixture
def _usual():
    """Put torch's settings back."""
    yield
    BACKENDS.fp32_precision = "none"
    for each in OPERATIONS[2:]:
        each.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    BACKENDS.cudnn.benchmark = False


@pytest.mark.usefixtures("_usual")
@pytest.mark.parametrize(
    "choose", [lambda: None, set_older_names, set_newer_names, set_all_at_once]
)
def test_float32_is_full_while_networks_are_measured_and_as_it_was_afterwards(choose):
    choose()
    before = settings()
    with measuring(), measuring():
        assert all(each.fp32_precision in ("none", "ieee") for each in OPERATIONS)
        assert BACKENDS.cudnn.deterministic
        assert not BACKENDS.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "highest"  # others' code may ask
        assert not BACKENDS.cudnn.allow_tf32
    assert settings() == before


def test_the_last_of_several_threads_puts_settings_back():
    before, first, second = settings(), measuring(), measuring()
    with first:
        second.__enter__()
    assert BACKENDS.cudnn.deterministic
    second.__exit__(None, None, None)
    assert settings() == before


SEEN = []  # torch's settings, at every call of a network


class Watching(nn.Module):
    """Tells classes apart by a ReLU of the corner's pixels; keeps what torch was set to."""

    def forward(self, images):
        SEEN.append((torch.get_float32_matmul_precision(), BACKENDS.cudnn.deterministic))
        return images[:, :, 0, 0].sub(0.1).relu()


def pixels(count=12):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 32, 32), generator=generator).to(torch.uint8)


def evaluated(tmp_path):
    evaluate(
        Watching(), (pixels(), torch.arange(12) % 3), ["clean", "attacks"], attacks="fgsm-linf"
    )


def checked(tmp_path):
    robust = partial(assert_robust, Watching(), (pixels(), torch.arange(12) % 3), suites="clean")
    robust(tmp_path / "baseline.json", update=True)
    robust(tmp_path / "baseline.json")


def done_by_ray(tmp_path):
    (clean,) = collect(("clean",), Setting(32, 32))
    split = make_split(pixels(), torch.arange(12) % 3)
    subject = Network("mine", None, None, "", "watching", "w", Watching)
    job = Job(seat_of(Share(1, 0), [clean]), PackedSplit.of(split), 3, None, 0)
    found = run_elsewhere(
        job, list(clean.tasks([subject], split, None)), lambda _: [PackedNetwork.of(Watching())]
    )
    assert not found.failed


def validated(tmp_path):
    accuracy(Watching(), make_split(pixels(), torch.arange(12) % 3))


def analysed(tmp_path):
    class_selectivity(Watching(), pixels(), torch.arange(12) % 3)


@pytest.mark.usefixtures("_usual")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("door", [evaluated, checked, done_by_ray, validated, analysed])
def test_every_door_leads_to_full_float32(door, tmp_path):
    set_older_names()
    SEEN.clear()
    door(tmp_path)
    assert set(SEEN) == {("highest", True)}
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.fixture
def gpus(monkeypatch):
    """Have this machine seem to hold two GPUs; return what was done with which of them."""
    done = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("current", device)))
    monkeypatch.setattr(torch, "empty", lambda size, device: done.append(("put", device)))
    return done


def test_a_gpu_is_the_current_one_before_anything_is_put_there(gpus):
    device = torch.device("cuda:1")
    assert choose_device("cuda:1") == device
    assert gpus == [("current", device), ("put", device)]


def test_nothing_is_put_on_the_gpus_of_other_processes(gpus, monkeypatch):
    monkeypatch.setattr("selbench._engine.devices._process", lambda *command: _Ended())
    with also_on("cpu", ["cuda:0", "cuda:1"], []):
        pass
    assert gpus == []


@pytest.mark.parametrize("amx", [True, False])
def test_of_cpus_those_with_amx_are_faster_in_bfloat16(monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert faster_in_bfloat16(torch.device("cpu")) is amx


def test_a_cpu_of_which_torch_says_nothing_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not faster_in_bfloat16(torch.device("cpu"))


class _Ended:
    def wait(self):
        """Return at once."""


def test_a_gpu_that_is_not_there_is_refused(gpus):
    with pytest.raises(SelbenchError, match=r"'cuda:2' .*\(there is cuda:0, cuda:1\); try --dev"):
        check_device("cuda:2")
    assert gpus == []
