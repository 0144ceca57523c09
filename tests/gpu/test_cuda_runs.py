"""Whole runs on a real GPU beside the same on the CPU: `tox -e cuda`."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_cuda import NAME, network, pixels

from corruptions import CORRUPTIONS, corrupt
from selbench import evaluate
from selbench._kit.device import choose_device, deterministic
from selbench._kit.types import to_images
from selbench.attacks.gradient import logits_of, pgd
from selbench.attacks.norms import NORMS
from selbench.datasets.dataset import make_split
from selbench.study import Recipe
from selbench.training import weights_hash
from selbench.training.loop import make_optimizer, train

KEY = ["suite", "condition", "level", "metric", "layer"]
RUN = ["--suite=clean", "--suite=dimensionality", "--suite=attacks", "--attack=pgd-linf", "--quiet"]


def measured(suites, device, **options):
    images = pixels(60)
    given = network("resnet8")
    labels = given(to_images(images)).argmax(1)
    labels[::6] = (labels[::6] + 1) % 10  # wrong from the start: an untrained network has one class
    found = evaluate(given, (images, labels), suites, device=device, **options)
    return found.set_index([each for each in KEY if each in found])["value"].sort_index()


@pytest.mark.parametrize("suite", ["mechanism", "ablation", "attacks"])
def test_a_suite_comes_to_the_cpus_numbers(suite):
    options = {"attacks": "pgd-linf"} if suite == "attacks" else {}
    here, there = measured(suite, "cpu", **options), measured(suite, NAME, **options)
    assert here.index.equals(there.index)
    images = 1 / 60  # one of them may fall on the other side
    apart = (here - there).abs() > images + 2e-3 * here.abs()
    assert apart.mean() < 0.02, pd.DataFrame({"cpu": here, "gpu": there})[apart]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_batch_of_2000_is_corrupted_as_its_parts(name):
    device = choose_device(NAME)
    images, numbers = pixels(2000).to(device), torch.arange(2000, device=device)
    whole = corrupt(images, name, 5, examples=numbers)
    for part in (slice(0, 1), slice(700, 785), slice(1800, 2000)):
        assert torch.equal(corrupt(images[part], name, 5, examples=numbers[part]), whole[part])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_examples_fall_as_to_foolbox(norm):
    import foolbox

    device = choose_device(NAME)
    images, given = to_images(pixels(64)).to(device), network("resnet8").to(device)
    labels = logits_of(given, images).argmax(1)
    epsilon = {"linf": 0.5 / 255, "l2": 0.06}[norm]
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    theirs = attack(rel_stepsize=0.25, steps=10, random_start=False)
    wrapped = foolbox.PyTorchModel(given, bounds=(0, 1), device=device)
    _, _, (expected,) = theirs(wrapped, images, labels, epsilons=[epsilon])
    found = pgd(
        given, images, labels, epsilon, NORMS[norm], step=epsilon / 4, steps=10, early=False
    )
    assert (found.fallen != expected).sum() <= 1


def test_autoattack_finds_what_it_finds_on_the_cpu():
    options = {"attacks": "autoattack-linf", "limit": 8}
    here, there = (measured("attacks-strong", each, **options) for each in ("cpu", NAME))
    accuracy = here.index.get_level_values("metric") == "accuracy"
    assert (here - there)[accuracy].abs().max() <= 1 / 8 + 1e-9


def test_no_operator_of_a_training_step_waits():
    device = choose_device(NAME)
    split = make_split(pixels(640), torch.arange(640) % 10).to(device)
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.1, augment=("flip", "crop"))
    model = network("resnet8").to(device).requires_grad_(True)
    optimizer = make_optimizer(model, recipe)
    strict = torch.cuda.set_sync_debug_mode

    def begins(module, _):
        if module is model:  # not the copy that looks ahead
            strict("error" if module.training else "default")

    model.register_forward_pre_hook(begins)
    optimizer.register_step_post_hook(lambda *_: strict("default"))
    try:
        with deterministic(device):
            epochs = train(model, optimizer, split, split, recipe, alpha=0.5, seed=0)
            assert len(list(epochs)) == 2
    finally:
        strict("default")
    assert weights_hash(model.state_dict())


def run(study, store, *words, count=1):
    """Run the command in processes of its own, at the same time; return what the store holds."""
    code = "from selbench.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(study), *RUN, f"--store={store}", *words]
    every = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(count)]
    for each in every:
        _, errors = each.communicate()
        assert each.returncode == 0, errors
    (path,) = Path(store).glob("*/measurements.csv*")
    return pd.read_csv(path).set_index([*KEY, "subject"])["value"].sort_index()


def test_two_processes_share_a_gpu_and_a_store(tiny_study, tmp_path):
    both = run(tiny_study, tmp_path / "both", f"--device={NAME}", count=2)
    alone = run(tiny_study, tmp_path / "alone", f"--device={NAME}")
    pd.testing.assert_series_equal(both, alone)


def test_ray_computes_on_half_a_gpu_what_one_process_does(tiny_study, tmp_path):
    pytest.importorskip("ray")
    halves = run(tiny_study, tmp_path / "ray", "--engine=ray", "--gpus-per-task=0.5")
    alone = run(tiny_study, tmp_path / "alone", f"--device={NAME}")
    pd.testing.assert_series_equal(halves, alone, rtol=1e-3)
