"""Work that takes long: finished chunks of images are kept, and nobody can tell afterwards."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from selbench._engine import evaluate
from selbench._kit.randomness import seeded
from selbench.attacks.gradient import Attacked
from selbench.commands.verification import repair, verify
from selbench.datasets import growing, limited
from selbench.datasets.dataset import chosen, stratified_order
from selbench.request import Request
from selbench.store import StudyStore
from selbench.study import ProbabilitySpec, SmoothingSpec
from selbench.suites import SUITES, Attack, Setting, attacking

CPU = torch.device("cpu")
LEVELS = (8.0, 64.0)
LIMITS = (10, 18)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setitem(attacking.CHUNK, "cpu", 4)


class Shift:
    """An attack that counts the images it is given, and ends the command at the `last` call."""

    def __init__(self, last=None, problem=KeyboardInterrupt):
        self.last, self.problem = last, problem
        self.seen = []

    def __call__(self, network, images, labels, examples):
        self.seen.append(len(images))
        if len(self.seen) == self.last:
            raise self.problem
        return [self.shifted(network, images, labels, examples, level) for level in LEVELS]

    def shifted(self, network, images, labels, examples, level):
        signs = (examples % 3 - 1).view(-1, 1, 1, 1)
        points = (images + level / 255 * signs).clamp(0, 1)
        logits = network(points)
        fallen = logits.argmax(1) != labels
        return Attacked(points, logits, fallen, fallen.long(), checks={"odd": examples % 2 == 1})

    def run(self, store, subject, dataset, limit=None, save=0):
        work = Attack("attacks-strong", "shift", LEVELS, self, chunked=True)
        request = Request(limit=limit, save=save)
        return evaluate([subject(0)], [work], dataset, store, CPU, request)


def left_by(store):
    """Return all that a store holds of an attack, in bytes or numbers."""
    outcomes = store.outcomes().to_pandas().astype({"key": str})
    found = {path.name: load_file(path) for path in store.folder.glob("adversarials/*")}
    saved = {name: {n: t.tolist() for n, t in each.items()} for name, each in found.items()}
    return store.measurements().to_csv(), outcomes.to_csv(), saved


@pytest.mark.parametrize(("limit", "save"), [(None, 0), (10, 7)])
def test_a_killed_attack_loses_a_chunk_and_ends_the_same(
    limit, save, subject, dataset, store, tmp_path
):
    whole = StudyStore(tmp_path / "whole", "study", {"command": ["run"]})
    undisturbed = Shift()
    undisturbed.run(whole, subject, dataset, limit, save)
    with pytest.raises(KeyboardInterrupt):
        Shift(last=3).run(store, subject, dataset, limit, save)
    assert len(store.parts.files()) == 2
    assert verify(store).faults == []
    again = Shift()
    again.run(store, subject, dataset, limit, save)
    assert again.seen == undisturbed.seen[2:]
    assert left_by(store) == left_by(whole)
    kept = 0 if limit is None else 3  # a larger limit may come
    assert len(store.parts.files()) == kept


def test_a_larger_limit_takes_the_whole_chunks_of_a_smaller_one(subject, dataset, store, tmp_path):
    small, large = LIMITS
    Shift().run(store, subject, dataset, small)
    more, alone = Shift(), Shift()
    more.run(store, subject, dataset, large)
    assert more.seen == [4, 4, 2]  # of 4, 4, 2 those of 4 serve
    fresh = StudyStore(tmp_path / "fresh", "study", {"command": ["run"]})
    alone.run(fresh, subject, dataset, large)
    assert alone.seen == [4, 4, 4, 4, 2]
    own = store.outcomes(fresh.keys()).to_pandas()
    assert own.equals(fresh.outcomes().to_pandas())


def test_chunks_follow_the_order_in_which_limits_grow(dataset):
    labels = dataset.test.labels
    order = stratified_order(labels, seeded("limit", 0))
    for limit in (*LIMITS, None):
        taken = limited(dataset.test, limit).examples[growing(labels, limit)]
        assert torch.equal(taken, order[:limit])
        assert torch.equal(taken.sort().values, chosen(labels, limit or 20))


def changed(path):
    tensors = load_file(path)
    tensors["0 margin"] += 1
    save_file(tensors, path, {"name": path.stem, "digest": "0"})


def other_name(path):
    another = next(each for each in path.parent.iterdir() if each != path)
    path.write_bytes(another.read_bytes())


@pytest.mark.parametrize(
    "damage", [changed, other_name, lambda path: path.write_bytes(path.read_bytes()[:-9])]
)
def test_a_damaged_chunk_is_named_and_attacked_again(damage, subject, dataset, store):
    Shift().run(store, subject, dataset, 10)
    path = sorted(store.folder.glob("parts/*"))[0]
    content = path.read_bytes()
    damage(path)
    (fault,) = verify(store).faults
    assert (fault.path, fault.harmless) == (path, False)
    again = Shift()
    again.run(store, subject, dataset, 12)
    assert sum(again.seen) in (2 + 2, 4 + 4)  # the chunk, and that which the limit made whole
    if path.read_bytes() != content:  # that of the smaller limit alone
        repair(verify(store))
    assert verify(store).faults == []


def test_images_to_be_saved_that_a_chunk_lacks_are_made(subject, dataset, store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Shift(last=3).run(store, subject, dataset, 10)
    Shift().run(store, subject, dataset, 10, save=5)
    whole = StudyStore(tmp_path / "whole", "study", {"command": ["run"]})
    Shift().run(whole, subject, dataset, 10, save=5)
    assert left_by(store) == left_by(whole)


def test_a_failed_attack_keeps_its_chunks(subject, dataset, store):
    Shift(last=3, problem=RuntimeError("no")).run(store, subject, dataset)
    assert len(store.failed()) == len(LEVELS)
    again = Shift()
    work = Attack("attacks-strong", "shift", LEVELS, again, chunked=True)
    evaluate([subject(0)], [work], dataset, store, CPU, Request(retry=True))
    assert again.seen == [4, 4, 4]


def dropping():
    torch.manual_seed(0)
    layers = nn.AvgPool2d(8), nn.Flatten(), nn.Dropout(0.3), nn.Linear(48, 5), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(5, 5))


@pytest.mark.parametrize("suite", ["bounds", "smoothing", "probability"])
def test_a_killed_suite_loses_a_chunk_of_a_network_and_ends_the_same(
    suite, subject, dataset, store, tmp_path, monkeypatch
):
    spec = ProbabilitySpec(error=0.5, confidence=0.5, method="interval")
    smoothing = SmoothingSpec(draws=10)
    *_, work = SUITES[suite](Setting(32, 32, smoothing=smoothing, probability=spec))
    monkeypatch.setattr(import_module(f"selbench.suites.{suite}"), "GROUP", 4)
    genuine, seen = type(work)._outcomes, []

    def outcomes(self, *given):
        seen.append(len(given[-1]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return genuine(self, *given)

    def run(where, limit=18):
        network = replace(subject(0), load=dropping)
        return evaluate([network], [work], dataset, where, CPU, Request(limit=limit))

    whole = StudyStore(tmp_path / "whole", "study", {"command": ["run"]})
    run(whole)
    monkeypatch.setattr(type(work), "_outcomes", outcomes)
    with pytest.raises(KeyboardInterrupt):
        run(store)
    assert len(store.parts.files()) == 2
    assert verify(store).faults == []
    run(store)
    assert seen == [4, 4, 4, 4, 4, 2]  # the third was interrupted and is made again
    assert left_by(store) == left_by(whole)
    assert len(store.outcomes()) == 18 * len(work.levels)
    run(store, None)
    assert seen[6:] == [4]  # the last two of 18 images, and two more
    assert not store.parts.files()


def test_chunks_that_a_kill_left_beside_the_cells_of_all_images_are_removed(
    subject, dataset, store, monkeypatch
):
    monkeypatch.setattr(type(store.parts), "remove", lambda *_: None)
    Shift().run(store, subject, dataset)
    faults = verify(store).faults
    assert len(faults) == 5
    assert all(each.harmless and "its work is finished" in each.problem for each in faults)
    repair(verify(store))
    assert not [*store.folder.glob("parts/*")]


def test_attacks_that_take_long_are_chunked():
    strong = SUITES["attacks-strong"](Setting(32, 32))
    chunked = {work.name for work in strong if isinstance(work, Attack) and work.chunked}
    assert chunked == {work.name for work in strong if work.suite == "attacks-strong"}
