"""Training: determinism, resuming, schedules, augmentation, and the effect of alpha."""

import dataclasses
import math
import shutil

import pytest
import torch
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench._kit.files import home
from selbench._kit.randomness import seeded
from selbench.datasets import load_dataset
from selbench.datasets.dataset import make_split
from selbench.models import MODELS, build_model
from selbench.study import DatasetSpec, ModelSpec, Recipe, Study
from selbench.suites import Analysis, Setting
from selbench.suites.index import class_index
from selbench.training import loop, train_or_find
from selbench.training.augment import augment
from selbench.training.loop import make_optimizer, train
from selbench.training.schedule import learning_rate

pytestmark = pytest.mark.long(12)

CPU = torch.device("cpu")
MOMENTS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe(epochs=3, batch_size=100, learning_rate=0.05, precision="float32")
STUDY = Study(
    name="tiny",
    alphas=(-1, 0, 1),
    seeds=(0,),
    dataset=DatasetSpec(name="digits", validation=700),
    model=ModelSpec(name="resnet8", options={"width": 4}),
    recipe=RECIPE,
)


@pytest.fixture(scope="module")
def digits():
    """Return every second pixel, so that training is quick."""
    whole = load_dataset(STUDY.dataset)
    train, test = (
        make_split(split.images[:, :, ::2, ::2].contiguous(), split.labels)
        for split in (whole.train, whole.test)
    )
    return dataclasses.replace(whole, train=train, test=test)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SELBENCH_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def once(digits, tmp_path_factory):
    """Train the study's networks of alpha = 0 and 1, and return the cache that holds them."""
    cache = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(cache))
        for alpha in (0.0, 1.0):
            train_or_find(STUDY, digits, alpha, 0, CPU)
    return cache


@pytest.fixture
def trained(once, digits, tmp_path):
    """Return a function that takes a network of the study, trained before, into the cache."""

    def trained(alpha):
        shutil.copytree(once, tmp_path, dirs_exist_ok=True)
        return train_or_find(STUDY, digits, alpha, 0, CPU)

    return trained


def weights(network):
    return network.weights.read_bytes()


# --- schedule ---


def test_step_schedule_decays_at_every_milestone():
    recipe = Recipe(epochs=200, batch_size=256, learning_rate=0.1, milestones=(100, 150))
    rates = [learning_rate(recipe, epoch) for epoch in (0.0, 99.9, 100.0, 149.9, 150.0, 199.0)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_schedule_warms_up_and_falls_to_zero():
    recipe = Recipe(epochs=10, batch_size=2, learning_rate=0.4, schedule="cosine", warmup_epochs=2)
    rates = [learning_rate(recipe, epoch) for epoch in (0.0, 1.0, 2.0, 6.0, 10.0)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0])


# --- augmentation ---


def pixels(batch=64, side=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    images = pixels(400)
    flipped = augment(images, ("flip",), seeded("flip", 0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


def test_crop_shifts_each_image_within_its_zero_padding():
    images = pixels()
    cropped = augment(images, ("crop",), seeded("crop", 0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    shifts = [(row, column) for row in range(5) for column in range(5)]
    windows = torch.stack([padded[:, :, r : r + 16, c : c + 16] for r, c in shifts], 1)
    matches = (windows == cropped[:, None]).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    assert matches.any(0).sum() > 15  # 64 images use most of the 25 shifts


def test_augmentation_is_pure_and_channels_last():
    images = pixels()
    before = images.clone()
    result = augment(images, ("flip", "crop"), seeded("both", 0))
    assert torch.equal(images, before)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, augment(images, ("flip", "crop"), seeded("both", 0)))


def test_no_augmentation_is_the_identity():
    assert torch.equal(augment(pixels(), (), seeded("none", 0)), pixels())


# --- the loop ---


def curves(digits, alpha, recipe=RECIPE, seed=0):
    torch.manual_seed(0)
    model = build_model(STUDY.model, 10, MOMENTS)
    rest, validation = digits.train.take(torch.arange(500)), digits.test
    epochs = train(
        model, make_optimizer(model, recipe), rest, validation, recipe, alpha=alpha, seed=seed
    )
    return list(epochs), model


@pytest.mark.soak
def test_training_learns(digits):
    changes = {"epochs": 8, "batch_size": 25, "learning_rate": 0.1, "schedule": "cosine"}
    recipe = RECIPE.model_copy(update=changes)
    epochs, _ = curves(digits, 0.0, recipe)
    assert epochs[-1].cross_entropy < 0.3 * epochs[0].cross_entropy
    assert epochs[-1].accuracy > 0.8


def test_alpha_zero_is_plain_cross_entropy(digits):
    _, regularised = curves(digits, 0.0)
    torch.manual_seed(0)
    plain = build_model(STUDY.model, 10, MOMENTS)
    optimizer = make_optimizer(plain, RECIPE)
    rest = digits.train.take(torch.arange(500))
    for number in range(1, 4):
        plain.train()
        order = torch.randperm(500, generator=seeded(f"order/{number}", 0))
        for chosen in order.split(100):
            part = rest.take(chosen)
            loss = torch.nn.functional.cross_entropy(plain(part.images.float() / 255), part.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(regularised.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("epochs", "alphas"),
    [(3, (-2.0, 2.0)), pytest.param(6, (-2.0, 0.0, 2.0), marks=pytest.mark.soak)],
)
def test_measured_selectivity_rises_with_alpha(digits, epochs, alphas):
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    measured = []
    for alpha in alphas:
        _, model = curves(digits, alpha, recipe)
        (analysis,) = class_index(Setting(16, 16))
        assert isinstance(analysis, Analysis)
        rows = analysis.measure(model.eval(), digits.test, 10)
        measured += [r.value for r in rows if r.metric == "selectivity_index" and r.layer is None]
    assert measured == sorted(set(measured))


def test_a_loss_that_is_not_finite_ends_training(digits):
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    epochs, _ = curves(digits, 1.0, recipe)
    assert len(epochs) == 1
    assert not math.isfinite(epochs[0].cross_entropy)


def test_a_batch_larger_than_the_data_is_refused(digits):
    with pytest.raises(
        SelbenchError, match="batch_size = 501 is larger than the 500 training images"
    ):
        curves(digits, 0.0, RECIPE.model_copy(update={"batch_size": 501}))


@pytest.mark.soak
def test_bfloat16_trains_too(digits):
    epochs, model = curves(digits, 1.0, RECIPE.model_copy(update={"precision": "bfloat16"}))
    assert all(math.isfinite(epoch.cross_entropy) for epoch in epochs)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_images_without_variation_do_not_break_training():
    split = make_split(torch.zeros(40, 3, 16, 16, dtype=torch.uint8), torch.arange(40) % 2)
    model = build_model(STUDY.model, 2, MOMENTS)
    recipe = RECIPE.model_copy(update={"batch_size": 20})
    epochs = list(
        train(model, make_optimizer(model, recipe), split, split, recipe, alpha=1.0, seed=0)
    )
    assert all(math.isfinite(epoch.cross_entropy) for epoch in epochs)


# --- the cache ---


@pytest.mark.soak
def test_the_same_seed_trains_the_same_network(digits, trained, tmp_path, monkeypatch):
    first = trained(1.0)
    monkeypatch.setenv("SELBENCH_HOME", str(tmp_path / "other"))
    assert weights(train_or_find(STUDY, digits, 1.0, 0, CPU)) == weights(first)


def dropping(classes: int) -> nn.Module:
    """A network with dropout."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, classes)
    )


def test_a_network_that_draws_at_random_trains_to_the_same_bytes(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(MODELS, "_functions", dict(MODELS._functions))
    MODELS(dropping)
    study = STUDY.model_copy(update={"model": ModelSpec(name="dropping")})
    torch.manual_seed(1)
    first = weights(train_or_find(study, digits, 1, 0, CPU))
    monkeypatch.setenv("SELBENCH_HOME", str(tmp_path / "again"))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert weights(train_or_find(study, digits, 1, 0, CPU)) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_or_alpha_trains_another_network(digits, trained):
    networks = [trained(0.0), trained(1.0), train_or_find(STUDY, digits, 0.0, 1, CPU)]
    assert len({each.manifest["weights"] for each in networks}) == 3


def test_a_trained_network_is_found_again(digits, trained, monkeypatch):
    first = trained(0.0)
    monkeypatch.setattr(loop, "_step", None)  # training again would fail
    assert train_or_find(STUDY, digits, 0.0, 0, CPU) == first


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.sample
def test_interrupted_training_resumes_to_the_same_bytes(
    digits, trained, tmp_path, monkeypatch, last
):
    whole = weights(trained(1.0))
    monkeypatch.setenv("SELBENCH_HOME", str(tmp_path / "interrupted"))
    step, steps = loop._step, 0

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 5 * last + 3:  # five batches an epoch: in the middle of the next one
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_or_find(STUDY, digits, 1.0, 0, CPU)
    resumed = []

    def counted(*arguments):
        resumed.append(1)
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", counted)
    network = train_or_find(STUDY, digits, 1.0, 0, CPU)
    assert weights(network) == whole
    assert len(resumed) == 5 * (3 - last)
    assert [epoch["number"] for epoch in network.manifest["curves"]] == [1, 2, 3]
    assert not list(home().rglob("checkpoint.pt"))


@pytest.mark.parametrize("first", [True, False])
def test_a_training_keeps_its_precision_on_another_kind_of_machine(digits, monkeypatch, first):
    recipe = RECIPE.model_copy(update={"precision": "auto", "epochs": 2})
    study = STUDY.model_copy(update={"recipe": recipe})
    halves, losses = [], loop._losses
    monkeypatch.setattr(loop, "_losses", lambda *given: halves.append(given[-1]) or losses(*given))

    def stopped(epochs, note=""):
        if epochs and note:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "faster_in_bfloat16", lambda device: first)
    with pytest.raises(KeyboardInterrupt):
        train_or_find(study, digits, 0.0, 0, CPU, stopped)
    monkeypatch.setattr(loop, "faster_in_bfloat16", lambda device: not first)
    network = train_or_find(study, digits, 0.0, 0, CPU)
    assert halves == [first] * 10  # five batches an epoch
    assert network.manifest["precision"] == ("bfloat16" if first else "float32")


def test_a_damaged_checkpoint_is_passed_over(digits, trained):
    whole = trained(0.0)
    (whole.weights.parent / "manifest.json").unlink()
    (whole.weights.parent / "checkpoint.pt").write_bytes(b"not a checkpoint")
    assert (
        train_or_find(STUDY, digits, 0.0, 0, CPU).manifest["weights"] == whole.manifest["weights"]
    )


def test_weights_are_those_of_the_best_epoch(trained):
    network = trained(1.0)
    accuracies = [epoch["accuracy"] for epoch in network.manifest["curves"]]
    best = network.manifest["best_epoch"]
    assert accuracies[best - 1] == max(accuracies)
    assert all(accuracy < max(accuracies) for accuracy in accuracies[best:])


def test_of_epochs_that_are_equally_good_the_latest_is_kept(digits, monkeypatch):
    monkeypatch.setattr(loop, "examine", lambda model, split: (0.5, (), ()))
    assert train_or_find(STUDY, digits, 1.0, 0, CPU).manifest["best_epoch"] == RECIPE.epochs


def test_a_diverged_network_is_kept_and_marked(digits):
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    network = train_or_find(STUDY.model_copy(update={"recipe": recipe}), digits, 1.0, 0, CPU)
    assert network.manifest["diverged"] is True
    assert network.manifest["curves"][0]["cross_entropy"] is None


def test_a_diverged_epoch_is_not_the_best_where_there_is_another(digits, monkeypatch):
    step, steps = loop._step, []

    def diverging(*arguments):
        steps.append(step(*arguments))
        return steps[-1] * (torch.nan if len(steps) > 5 else 1)  # five batches an epoch

    monkeypatch.setattr(loop, "_step", diverging)
    monkeypatch.setattr(loop, "examine", lambda model, split: (0.5, (), ()))
    network = train_or_find(STUDY, digits, 1.0, 0, CPU)
    assert network.manifest["diverged"] is True
    assert network.manifest["best_epoch"] == 1
    assert len(network.manifest["curves"]) == 2


def test_epochs_are_plain_numbers(digits):
    epochs, _ = curves(digits, 1.0, RECIPE.model_copy(update={"epochs": 1}))
    told = dataclasses.asdict(epochs[0])
    assert told.pop("gradient") is told.pop("pull") is None  # nobody asked
    values = [*told.pop("dead"), *told.pop("index"), *told.values()]
    assert all(isinstance(value, int | float) for value in values)


@pytest.mark.parametrize("damage", ["flip", pytest.param("cut", marks=pytest.mark.soak), "delete"])
@pytest.mark.sample
def test_damaged_weights_are_trained_anew(digits, trained, damage):
    network = trained(0.0)
    whole = weights(network)
    if damage == "delete":
        network.weights.unlink()
    else:
        kept = whole[:-1] + bytes([whole[-1] ^ 1]) if damage == "flip" else whole[:-9]
        network.weights.write_bytes(kept)
    assert weights(train_or_find(STUDY, digits, 0.0, 0, CPU)) == whole
