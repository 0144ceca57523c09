"""Training methods: what a network is shown, what its loss adds, and that it all repeats."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError

from selbench._kit.randomness import dice, seeded
from selbench.datasets import load_dataset
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.selectivity import RecordedUnits, mean_selectivity
from selbench.study import DatasetSpec, ModelSpec, Recipe
from selbench.training import make_optimizer, methods, train
from selbench.training.augmix import ALIKE, mixtures
from selbench.training.methods import CONSISTENCY, EPSILON, inconsistency, to_images, views

MODEL = ModelSpec(name="resnet8", options={"width": 4})
MOMENTS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe(epochs=2, batch_size=100, learning_rate=0.05, precision="float32")


@pytest.fixture(scope="module")
def digits():
    """Return every second pixel, so that training is quick."""
    whole = load_dataset(DatasetSpec(name="digits", validation=700))
    few = make_split(whole.train.images[:, :, ::2, ::2].contiguous(), whole.train.labels)
    return dataclasses.replace(whole, train=few)


def network(seed=0):
    with dice(seed):
        return build_model(MODEL, 10, MOMENTS)


def trained(digits, alpha=0.0, images=400, **changes):
    """Return the epochs of a short training, and the network."""
    model, recipe = network(), RECIPE.model_copy(update=changes)
    part = digits.train.take(torch.arange(images))
    optimizer = make_optimizer(model, recipe)
    return list(train(model, optimizer, part, part, recipe, alpha=alpha, seed=0)), model


def shown(method, digits, model=None, name="views"):
    part = digits.train.take(torch.arange(40))
    model = model or network()
    return part, views(method, model.train(), part.images, part.labels, seeded(name, 0))


def test_standard_training_shows_the_images(digits):
    part, images = shown("standard", digits)
    assert torch.equal(images, to_images(part.images))


# --- AugMix ---


def test_augmix_shows_each_image_and_two_mixtures_of_it(digits):
    part, images = shown("augmix", digits)
    assert images.shape == (120, 3, 16, 16)
    assert 0 <= images.min() <= images.max() <= 1
    plain, first, second = images.split(40)
    assert torch.equal(plain, to_images(part.images))
    changed = [(mixed != plain).flatten(1).any(1).float().mean() for mixed in (first, second)]
    assert min(changed) > 0.9
    assert not torch.equal(first, second)
    # They are of the same image: nearer to it than to the next one.
    own = (first - plain).flatten(1).norm(dim=1)
    other = (first - plain.roll(1, 0)).flatten(1).norm(dim=1)
    assert (own < other).float().mean() > 0.9


def test_images_that_share_operations_are_mixed_in_proportions_of_their_own(digits):
    same = digits.train.images[:1].expand(2 * ALIKE, -1, -1, -1)
    mixed = views(
        "augmix", network(), same, torch.zeros(2 * ALIKE, dtype=torch.int64), seeded("views", 0)
    )
    assert len(mixed[2 * ALIKE :].flatten(1).unique(dim=0)) > 3 * ALIKE


def test_augmix_draws_from_its_generator_and_leaves_the_global_one(digits):
    before = torch.get_rng_state()
    _, first = shown("augmix", digits)
    torch.rand(3)
    state = torch.get_rng_state()
    _, again = shown("augmix", digits)
    _, other = shown("augmix", digits, name="other")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_mixtures_are_torchvisions_of_a_few_images_at_a_time(digits):
    from torchvision.transforms.v2 import AugMix

    pixels, seeds, mix = digits.train.images[:21], seeded("mix", 0), AugMix(all_ops=False)
    mix._sample_dirichlet = lambda like: torch._sample_dirichlet(like.clone())
    expected = []
    for _ in range(2):
        seed = int(torch.randint(2**62, (), generator=seeds))
        with dice(seed):
            expected.append(torch.cat([mix(part) for part in pixels.split(ALIKE)]))
    found = mixtures(pixels, seeded("mix", 0), 2)
    assert all(map(torch.equal, found, expected))


def test_disagreement_of_views_is_trained_on(digits, monkeypatch):
    states = []
    for weight in (CONSISTENCY, 0.0):
        monkeypatch.setattr(methods, "CONSISTENCY", weight)
        _, model = trained(digits, method="augmix", images=100, epochs=1)
        states.append(next(model.parameters()))
    assert not torch.equal(*states)


def test_views_that_agree_cost_nothing():
    logits = torch.randn(5, 10)
    assert inconsistency(logits.repeat(3, 1), 5).item() == pytest.approx(0, abs=1e-5)
    assert inconsistency(logits, 5).item() == 0


def test_three_views_that_are_each_sure_of_another_class_differ_by_the_log_of_three():
    logits = 100 * torch.eye(3)  # one image, three views
    expected = CONSISTENCY * torch.tensor(3.0).log().item()
    assert inconsistency(logits, 1).item() == pytest.approx(expected, rel=1e-5)


def test_inconsistency_is_a_mean_over_images():
    apart, alike = 100 * torch.eye(3), torch.zeros(3, 3)
    both = torch.stack([apart, alike], 1).flatten(0, 1)  # views first, then images
    assert inconsistency(both, 2).item() == pytest.approx(inconsistency(apart, 1).item() / 2)


# --- adversarial training ---


def test_pgd_shows_images_of_the_ball_on_which_the_network_does_worse(digits):
    _, model = trained(digits, images=200, epochs=10, batch_size=25)
    part, images = shown("pgd", digits, model)
    plain = to_images(part.images)
    distance = (images - plain).abs()
    assert distance.max() <= EPSILON + 1e-6
    assert distance.max() > 0.99 * EPSILON
    assert 0 <= images.min() <= images.max() <= 1
    loss = torch.nn.CrossEntropyLoss()
    with torch.no_grad():
        model.eval()
        noise = plain + EPSILON * (2 * torch.rand(plain.shape, generator=seeded("n", 0)) - 1)
        noisy = loss(model(noise.clamp(0, 1)), part.labels)
        assert loss(model(images), part.labels) > 2 * noisy


def test_pgd_leaves_the_network_as_it_was(digits):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shown("pgd", digits, model)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# --- training ---


@pytest.mark.parametrize("method", ["augmix", "pgd"])
@pytest.mark.sample
def test_methods_repeat_and_differ_from_standard_training(digits, method):
    few = {"images": 100, "batch_size": 50}
    epochs, first = trained(digits, method=method, **few)
    _, again = trained(digits, method=method, **few)
    _, standard = trained(digits, **few)
    states = [next(model.parameters()) for model in (first, again, standard)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert epochs[-1].cross_entropy < epochs[0].cross_entropy


@pytest.mark.parametrize("method", ["augmix", "pgd"])
@pytest.mark.soak
def test_a_method_can_be_regularised(digits, method):
    low, high = (
        trained(digits, method=method, alpha=alpha, images=200)[0][-1] for alpha in (-3.0, 3.0)
    )
    assert low.selectivity < high.selectivity


# --- the index of fewer images ---


def test_the_index_of_parts_of_a_batch_is_their_mean(digits):
    epochs, _ = trained(digits, alpha=1e-12, index_batch=25, epochs=1, batch_size=400)
    order = torch.randperm(400, generator=seeded("order/1", 0))
    part = digits.train.take(order)
    with RecordedUnits() as recorded, torch.no_grad():
        network().train()(to_images(part.images))
    expected = [
        mean_selectivity([units[rows] for units in recorded.layers], part.labels[rows], 10)
        for rows in torch.arange(400).split(25)
    ]
    assert epochs[0].selectivity == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    (whole,), _ = trained(digits, alpha=1e-12, epochs=1, batch_size=400)
    assert whole.selectivity < 0.8 * epochs[0].selectivity  # the fewer images, the more noise


def test_a_batch_that_is_no_multiple_is_refused():
    with pytest.raises(
        ValidationError, match="batch_size = 100 is no multiple of index_batch = 30"
    ):
        Recipe(epochs=1, batch_size=100, learning_rate=1, index_batch=30)


def test_networks_of_standard_training_keep_their_keys():
    # A key is a hash of this dump, so what says nothing must not be in it.
    quiet = {"method", "ball", "index_batch", "layers", "epsilon", "ramp_epochs", "clip_norm"}
    quiet |= {"gradients"}
    assert RECIPE.model_dump(mode="json").keys() == Recipe.model_fields.keys() - quiet
    told = Recipe(
        epochs=1,
        batch_size=100,
        learning_rate=1,
        index_batch=50,
        method="ibp",
        ball=2,
        layers="first 3",
        epsilon=0.01,
        ramp_epochs=1,
        clip_norm=1,
        gradients=True,
    )
    assert told.model_dump(mode="json").keys() == Recipe.model_fields.keys()
