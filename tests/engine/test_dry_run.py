"""What `--dry-run` says: the cells that a run then evaluates, and passes that attacks keep to."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from selbench._engine.dry_run import DryRun, described
from selbench._engine.probing import Pace, per_image
from selbench.datasets.dataset import make_split
from selbench.store import StudyStore
from selbench.study import MechanismSpec
from selbench.suites import SUITES, Attack, HeldOut, Passes, Setting, collect

pytestmark = pytest.mark.long(12)

HELD_OUT = HeldOut("checksum", 100, lambda seed: None)


def cells(text):
    """Return the cells to do and those kept, by suite."""
    found = re.findall(r"^(\S+) +([\d,]+) cells to do, ([\d,]+) kept$", text, re.MULTILINE)
    return {suite: (int(left), int(kept)) for suite, left, kept in found}


def test_it_tells_the_cells_that_the_run_then_evaluates(
    selbench, tiny_study, few_conditions, fresh_home
):
    words = ["run", tiny_study, "--suite", "corruptions", "--quiet"]
    before = selbench(*words, "--dry-run")
    assert before.code == 0
    assert before.out.startswith("2 networks, 2 of them to train\n")
    assert cells(before.out) == {"selectivity": (2, 0), "clean": (2, 0), "corruptions": (8, 0)}
    assert f"{2 * (1 + 1 + 4) * 18} images forward through networks" in before.out
    assert not Path("runs").exists()
    assert not (fresh_home / "weights").exists()

    assert selbench(*words).code == 0
    counts = StudyStore(Path("runs"), "tiny").cells()["suite"].value_counts()
    assert counts.to_dict() == {suite: left for suite, (left, _) in cells(before.out).items()}

    after = selbench(*words, "--dry-run")
    assert after.out.startswith("2 networks, 0 of them to train\n")
    assert cells(after.out) == {"selectivity": (0, 2), "clean": (0, 2), "corruptions": (0, 8)}
    assert "\n0 images forward through networks" in after.out
    assert "about 0 s" in after.out


def test_it_tells_what_is_left_of_networks_some_of_which_are_trained(
    selbench, tiny_study, fresh_home
):
    assert selbench("run", tiny_study, "--alpha", "0").code == 0
    told = selbench("run", tiny_study, "--seed", "0,1", "--dry-run").out
    assert told.startswith("4 networks, 3 of them to train\n")
    assert cells(told) == {"clean": (3, 1)}


def test_it_times_attacks_and_analyses(selbench, tiny_study, few_conditions):
    words = ["--suite", "attacks", "--suite", "dimensionality", "--limit", "6", "--dry-run"]
    told = selbench("run", tiny_study, *words).out
    # FGSM, the papers' 40 steps, 40 steps from two points for 7 + 5 budgets; a check before each;
    # checks for masked gradients; PGD of the representations.
    passes = 1 + 40 + 2 * 40 * 12 + 4 + 220 + 40
    assert f"at most {2 * 6 * passes:,} images forward and back" in told
    duration = r"\d+ (s|min)"
    line = rf"^about {duration} \(at most {duration}, if no image falls\), 1 network at once$"
    assert re.search(line, told, re.MULTILINE), told
    assert not Path("runs").exists()


def test_a_brought_network_is_no_network_to_train(selbench, tiny_study, checkpoint):
    told = selbench("run", tiny_study, "--checkpoint", checkpoint, "--dry-run").out
    assert told.startswith("1 network, 0 of them to train\n")


def test_what_a_network_without_gradients_does_not_allow_is_not_known(selbench, tiny_study):
    Path("mine.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = torch.nn.Linear(3072, 3)\n"
        "    def forward(self, images):\n"
        "        return self.head(images.flatten(1)).detach()\n"
        "def net():\n"
        "    return Net()\n"
    )
    words = ["--model", "mine.py:net", "--suite", "attacks", "--suite", "corruptions"]
    words += ["--corruption", "fog"]
    told = selbench("run", tiny_study, *words, "--limit", "6", "--dry-run")
    assert told.code == 0, told.err
    last = told.out.splitlines()[-1]
    assert last == "not known how long: fgsm-linf, paper-pgd, pgd-linf, pgd-l2, masking"


def test_what_takes_how_long_is_not_known_is_named():
    plan = DryRun({"mine": (7, 0)}, 1, 0, Passes(10), ("odd", "new"), 7500.0, 7500.0, 2)
    assert described(plan)[-2:] == ["about 2 h, 2 networks at once", "not known how long: odd, new"]


class Counting(nn.Module):
    """Never errs on images of class 0, and counts the images that it sees."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(10, 3 * 8 * 8, generator=generator) * 1e-3)
        self.bias = torch.nn.functional.one_hot(torch.tensor(0), 10) * 1000.0
        self.forwards = self.backs = 0

    def forward(self, images):
        if torch.is_grad_enabled() and images.requires_grad:
            self.backs += len(images)
        else:
            self.forwards += len(images)
        return torch.relu(images).flatten(1) @ self.weight.T + self.bias


QUICK = [
    piece
    for piece in collect(("attacks-strong",), Setting(32, 32))
    if isinstance(piece, Attack) and not piece.name.startswith("autoattack")
]


@pytest.mark.parametrize("attack", QUICK, ids=lambda attack: attack.name)
@pytest.mark.sample
def test_an_attack_passes_no_more_often_than_it_says(attack):
    network = Counting().eval()
    images, labels = torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    networks = [network, network] if attack.transfer else [network]
    attack.attack(*networks, images, labels, torch.arange(2))
    assert network.forwards <= 2 * attack.each.forward
    assert network.backs <= 2 * attack.each.backward
    assert network.backs >= 1.5 * (attack.each.backward - 1)  # and they are no wild guesses


def test_every_attack_says_how_often_it_passes():
    pieces = collect(("attacks-strong",), Setting(32, 32))
    assert all(piece.each for piece in pieces if isinstance(piece, Attack))


@pytest.fixture
def split():
    return make_split(torch.zeros(400, 3, 8, 8, dtype=torch.uint8), torch.arange(400) % 2)


def test_every_suite_says_how_often_its_images_pass(split):
    network = Counting()
    exact = MechanismSpec(estimator="exact")
    setting = Setting(32, 32, mechanism=exact, validation=HELD_OUT, seeds=2)
    for piece in collect(tuple(SUITES), setting):
        passes = piece.passes(network, split, 10, None)
        assert passes is not None, piece.name
        taken = passes.forward + passes.backward + passes.double + passes.seconds
        assert taken > 0 or piece.reads_outcomes, piece.name


def test_a_pace_tells_the_seconds_of_passes_that_a_network_can_make():
    pace = Pace(forward=1.0, backward=3.0, double=5.0, standing=0.5)
    assert pace.seconds(Passes(2, 1, 1) + Passes(1, seconds=2) * 4) == 2 + 3 + 5 + 4 + 8
    assert replace(pace, backward=None).seconds(Passes(2, 1)) is None
    assert replace(pace, backward=None).seconds(Passes(2)) == 2


def test_batches_grow_until_they_take_a_moment(split, monkeypatch):
    seen, now = [], [0.0]
    monkeypatch.setattr("selbench._engine.probing.time.perf_counter", lambda: now[0])

    def call(part):
        seen.append(len(part))
        now[0] += 0.001 * len(part)

    assert per_image(call, split) == pytest.approx(0.001)
    assert seen == [8, 8, 64, 250]  # the first time is not counted

    def slow(part):
        seen.append(len(part))
        now[0] += len(part)

    assert per_image(slow, split) == pytest.approx(1)
    assert seen == [8, 8, 64, 250, 8, 8]
