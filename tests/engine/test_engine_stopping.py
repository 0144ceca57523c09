"""Attacks stop once networks are decided; what was seen is a run with that limit."""

import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from selbench._engine import evaluate, stopping
from selbench._engine.stopping import ABOVE, ALIKE, BELOW, OPEN, Stop, stopped
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT, Progress
from selbench.attacks.gradient import Attacked
from selbench.datasets.dataset import Dataset, make_split
from selbench.networks.network import Network
from selbench.request import Request
from selbench.store import StudyStore
from selbench.suites import Attack, Condition, attacking

CPU = torch.device("cpu")
IMAGES = 400
LEVELS = (1.0, 2.0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    for module in (attacking, stopping):
        monkeypatch.setitem(module.CHUNK, "cpu", 20)


@pytest.fixture
def dataset():
    pixels = torch.zeros(IMAGES, 3, 4, 4, dtype=torch.uint8)
    pixels[:, 0] = (torch.arange(IMAGES) % 97).view(-1, 1, 1)  # the attack sees which image it is
    split = make_split(pixels, torch.arange(IMAGES) % 4)
    return Dataset("numbers", tuple("abcd"), split, split)


@pytest.fixture
def store(tmp_path):
    return StudyStore(tmp_path / "runs", "study", {"command": ["run"]})


class Robust(nn.Module):
    """A network that stands on a share of images; the attack asks it for that."""

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(float(share)))

    def forward(self, images):
        return torch.zeros(len(images), 4)


def network(name, share):
    return Network(
        name=name,
        alpha=None,
        seed=None,
        training="",
        architecture="x",
        weights=name,
        load=lambda: Robust(share),
    )


class Fells:
    """An attack that fells the rest; it counts images, and may raise."""

    def __init__(self, problem=None, at=None):
        self.images, self.problem, self.at = 0, problem, at

    def __call__(self, network, images, labels, examples):
        self.images += len(images)
        if self.at is not None and self.images > self.at:
            raise self.problem
        stands = (examples * 7919 % IMAGES) / IMAGES < network.share
        logits = torch.eye(4)[torch.where(stands, labels, (labels + 1) % 4)]
        found = Attacked(images, logits, ~stands, torch.zeros_like(labels))
        return [found, found]


def work(attack):
    return Attack("attacks-strong", "fells", LEVELS, attack, chunked=True)


class Counted(Progress):
    """Keeps what is announced and what is counted."""

    def __init__(self):
        self.pieces, self.counts = 0, []

    @contextmanager
    def track(self, task, pieces, done=0):
        self.pieces = pieces
        yield lambda count, name="": self.counts.append(count)


def run(networks, attack, dataset, store, stop=None, began=None, progress=SILENT, **asked):
    began = time.monotonic() if began is None else began
    request, pieces = Request(**asked), [work(attack)]
    stop = stop or Stop()
    return stopped(networks, pieces, dataset, store, CPU, request, stop, progress, began)


FAR = [network("a", 0.9), network("b", 0.2), network("c", 0.2)]


def test_far_networks_are_decided_and_alike_ones_are_shown_to_be(dataset, store):
    attack = Fells()
    seen = run(FAR, attack, dataset, store, Stop(margin=10))
    assert {(each.first, each.second): each.decided for each in seen.compared} == {
        ("a", "b"): ABOVE,
        ("a", "c"): ABOVE,
        ("b", "c"): ALIKE,
    }
    assert len(seen.compared) == 3 * len(LEVELS)
    assert attack.images == 3 * seen.images < 3 * IMAGES
    for each in seen.compared:
        assert each.low <= each.value <= each.high
        assert (each.low > 0) == (each.decided == ABOVE)
    reverse = run(FAR[1::-1], Fells(), dataset, store, Stop(margin=10))
    assert {each.decided for each in reverse.compared} == {BELOW}


def test_every_image_of_a_network_is_counted_once(dataset, store):
    progress = Counted()
    seen = run(FAR, Fells(), dataset, store, Stop(margin=10), progress=progress)
    assert progress.pieces == 3 * IMAGES
    assert seen.images > 20  # several chunks
    assert progress.counts == [20] * (3 * seen.images // 20)


def test_what_was_seen_is_a_run_with_that_limit_and_costs_no_attack(dataset, store):
    seen = run(FAR, Fells(), dataset, store, Stop(margin=10), save=3)
    again = Fells()
    request = Request(limit=seen.images, save=3)
    assert evaluate(FAR, [work(again)], dataset, store, CPU, request) == 3 * len(LEVELS)
    assert again.images == 0
    rows = store.measurements()
    left = rows[(rows["metric"] == "accuracy") & (rows["level"] == 1)].set_index("subject")["value"]
    values = {(each.first, each.second): each.value for each in seen.compared}
    assert 100 * (left["a"] - left["b"]) == pytest.approx(values["a", "b"])


def test_a_killed_command_goes_on_to_the_same_decisions(dataset, store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(FAR, Fells(KeyboardInterrupt(), at=130), dataset, store, Stop(margin=10))
    attack = Fells()
    seen = run(FAR, attack, dataset, store, Stop(margin=10))
    fresh = StudyStore(tmp_path / "fresh", "study", {"command": ["run"]})
    assert seen == run(FAR, Fells(), dataset, fresh, Stop(margin=10))
    assert attack.images == 3 * seen.images - 120


@pytest.mark.soak
def test_without_time_one_chunk_is_attacked_and_the_next_command_goes_on(dataset, store):
    pair = [network("b", 0.3), network("c", 0.301)]
    stop = Stop(margin=1, seconds=1.0)
    seen = run(pair, Fells(), dataset, store, stop, began=time.monotonic() - 9)
    assert (seen.images, {each.decided for each in seen.compared}) == (20, {OPEN})
    attack = Fells()
    seen = run(pair, attack, dataset, store, Stop(margin=1, seconds=1e6))
    assert attack.images == 2 * (seen.images - 20) > 0
    assert {each.decided for each in seen.compared} == {ALIKE}


@pytest.mark.parametrize(("threshold", "decided"), [(50, ABOVE), (99, BELOW), (90, ALIKE)])
@pytest.mark.sample
def test_one_network_is_compared_with_a_threshold(threshold, decided, dataset, store):
    seen = run(FAR[:1], Fells(), dataset, store, Stop(margin=8, threshold=threshold))
    assert {each.decided for each in seen.compared} == {decided}


def test_a_network_that_fails_leaves_the_others_to_be_compared(dataset, store):
    class OfOne(Fells):
        def __call__(self, network, *given):
            if network.share < 0.5:
                raise RuntimeError("no")
            return super().__call__(network, *given)

    trio = [FAR[0], FAR[1], network("d", 0.6)]
    seen = run(trio, OfOne(), dataset, store, Stop(margin=10))
    assert seen.failed == ["b"]
    assert {(each.first, each.second, each.decided) for each in seen.compared} == {
        ("a", "d", ABOVE)
    }


def uneven(dataset):
    labels = torch.cat([torch.zeros(200), torch.arange(1, 201)]).long()
    split = make_split(dataset.test.images, labels)
    return Dataset("uneven", tuple("abcd"), split, split)


def test_what_cannot_be_compared_is_refused(dataset, store):
    with pytest.raises(SelbenchError, match=r"^--margin compares networks, and there is one; comp"):
        run(FAR[:1], Fells(), dataset, store)
    with pytest.raises(SelbenchError, match=r"^--threshold is for one network, and there are 3, "):
        run(FAR, Fells(), dataset, store, Stop(threshold=50))
    with pytest.raises(SelbenchError, match=r"^the classes of uneven differ so much in size"):
        run(FAR, Fells(), uneven(dataset), store)
    with pytest.raises(SelbenchError, match=r"none is asked for; add --suite attacks-strong"):
        stopping.slow([Condition("clean", "clean")])
