"""The regulariser: beside an independent sketch, its layers, its controls, and what curves tell."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.selectivity import class_means, mean_selectivity, selectivity_index
from selbench.study import ModelSpec, Recipe
from selbench.training import loop
from selbench.training.loop import make_optimizer, train
from selbench.training.regulariser import Regulariser, relu_calls

CLASSES = 10
MOMENTS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe(epochs=1, batch_size=16, learning_rate=0.1, precision="float32")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    model = build_model(ModelSpec(name="resnet8", options={"width": 4}), CLASSES, MOMENTS)
    return model.to(dtype)


@pytest.fixture(scope="module")
def batch():
    """Return images of seven of ten classes, some of which have one image alone."""
    images = torch.rand(16, 3, 8, 8, generator=generator(1), dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 3, 3, 3, 5, 5, 6, 6, 8, 8, 9])
    return images, labels


def maps_of(model, images):
    """Record by hooks what every ReLU module returns, call by call."""
    found = []
    handles = [
        module.register_forward_hook(lambda _, __, output: found.append(output))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return found


def sketch(maps, labels, relative=None):
    """Follow the papers' definition with numpy alone, one unit at a time."""
    layers = []
    for each in maps:
        units = each.detach().numpy().mean((2, 3))
        means = [units[labels.numpy() == label].mean(0) for label in np.unique(labels)]
        epsilon = 1e-7 if relative is None else max(relative * np.mean(means), 1e-7)
        values = []
        for unit in np.transpose(means):
            largest = unit.argmax()
            rest = np.delete(unit, largest).mean()
            values.append((unit[largest] - rest) / (unit[largest] + rest + epsilon))
        layers.append(np.mean(values))
    return np.mean(layers)


def value(model, images, labels, **changes):
    recipe = RECIPE.model_copy(update=changes)
    regulariser = Regulariser(recipe, 1.0, relu_calls(model, images))
    with regulariser.recorded() as recorded:
        model(images)
    return regulariser.selectivity(recorded.layers, labels, CLASSES)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relative", [None, 1e-2])
def test_value_is_that_of_an_independent_sketch(batch, layout, relative):
    images, labels = batch
    model = network().to(memory_format=layout)
    expected = sketch(maps_of(model, images.contiguous(memory_format=layout)), labels, relative)
    found = value(model, images.contiguous(memory_format=layout), labels, epsilon=relative)
    assert abs(found.item() - expected) < 1e-9
    assert abs(found.item() - sketch(maps_of(model, images), labels, 1.0)) > 1e-3


@pytest.mark.parametrize("layers", [None, "first 3", "last 3", "layer2"])
def test_gradient_is_that_of_finite_differences(batch, layers):
    images, labels = batch
    model, step = network().eval(), 1e-6
    (gradient,) = torch.autograd.grad(
        value(model, images, labels, layers=layers), model.network.bn1.weight
    )
    for unit in range(len(gradient)):
        with torch.no_grad():
            ends = []
            for change in (step, -2 * step):
                model.network.bn1.weight[unit] += change
                ends.append(value(model, images, labels, layers=layers))
            model.network.bn1.weight[unit] += step
        assert gradient[unit].item() == pytest.approx(
            ((ends[0] - ends[1]) / (2 * step)).item(), rel=1e-5, abs=1e-9
        )


def test_gradient_is_that_of_the_sketch_at_every_class_mean():
    # d SI / d mu of the largest class and of the others, by hand.
    units = torch.tensor([[4.0], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(mean_selectivity([units], torch.arange(3), 5), units)
    top, rest, epsilon = 4.0, 1.5, 1e-7
    square = (top + rest + epsilon) ** 2
    expected = [(2 * rest + epsilon) / square, *[-(2 * top + epsilon) / square / 2] * 2]
    torch.testing.assert_close(
        gradient.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_a_relative_epsilon_bounds_the_gradient_of_a_unit_that_is_nearly_dead():
    labels = torch.arange(10)
    alive = torch.ones(10, 1, dtype=torch.float64)
    faint = torch.full((10, 1), 1e-6, dtype=torch.float64)
    faint[0] = 2e-6
    steep = {}
    for relative in (None, 1e-2):
        units = torch.cat([alive, faint], 1).requires_grad_()
        index = mean_selectivity([units], labels, CLASSES, relative)
        (gradient,) = torch.autograd.grad(index, units)
        steep[relative] = gradient[:, 1].abs().max().item()
    assert steep[None] > 1e5
    assert steep[1e-2] < 1 / (2 * 0.01 * 0.5) + 1  # 1 / epsilon, of half a mean over two units


def test_layers_are_told_by_place_or_name(batch):
    images, labels = batch
    model = network()
    calls = relu_calls(model, images)
    maps = maps_of(model, images)
    assert len(calls) == len(maps) == 7
    for layers, chosen in {
        "first 3": maps[:3],
        "last 3": maps[-3:],
        "first 99": maps,
        r"layer2|^network\.relu$": [
            m
            for m, name in zip(maps, calls, strict=True)
            if name in ("network.relu", "network.layer2.0.relu")
        ],
    }.items():
        found = value(model, images, labels, layers=layers)
        assert abs(found.item() - sketch(chosen, labels)) < 1e-9


def test_layers_that_no_relu_has_are_an_error_before_training():
    split = make_split(torch.zeros(16, 3, 8, 8, dtype=torch.uint8), torch.arange(16) % 10)
    model = network(torch.float32)
    recipe = RECIPE.model_copy(update={"layers": "conv"})
    message = (
        r"^recipe.layers = 'conv' is none of the network's ReLUs; choose among network.relu, "
        r"network.layer1.0.relu, .*, or \"first 3\" or \"last 3\" of them$"
    )
    for alpha in (0.0, 1.0):
        with pytest.raises(SelbenchError, match=message):
            list(
                train(
                    model, make_optimizer(model, recipe), split, split, recipe, alpha=alpha, seed=0
                )
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "("}, "is no regular expression"),
        ({"layers": ""}, "at least 1 character"),
        ({"epsilon": 0}, "greater than 0"),
        ({"clip_norm": -1}, "greater than 0"),
        ({"ramp_epochs": 0}, "greater than 0"),
        ({"ramp_epochs": 2}, "ramp_epochs = 2 is more than the 1 epochs"),
    ],
)
def test_controls_out_of_range_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(epochs=1, batch_size=16, learning_rate=0.1, **changes)


def test_alpha_rises_linearly_and_stays():
    ramped = Regulariser(RECIPE.model_copy(update={"ramp_epochs": 4.0}), -2.0, ["relu"])
    assert [ramped.strength(epoch) for epoch in (0, 1, 4, 9)] == [0, -0.5, -2, -2]
    assert Regulariser(RECIPE, -2.0, ["relu"]).strength(0) == -2


def epochs_of(alpha, **changes):
    pixels = torch.randint(256, (32, 3, 8, 8), generator=generator(2), dtype=torch.uint8)
    split = make_split(pixels, torch.arange(32) % CLASSES)
    model = network(torch.float32)
    before = [each.detach().clone() for each in model.parameters()]
    recipe = RECIPE.model_copy(update=changes)
    told = list(
        train(model, make_optimizer(model, recipe), split, split, recipe, alpha=alpha, seed=0)
    )
    return told, model, before


def test_clipping_bounds_a_step():
    changes = {"momentum": 0.0, "weight_decay": 0.0, "batch_size": 32, "learning_rate": 1.0}
    steps = {}
    for clip in (None, 0.01):
        _, model, before = epochs_of(1.0, clip_norm=clip, **changes)
        moved = zip(model.parameters(), before, strict=True)
        steps[clip] = math.sqrt(sum((one - other).square().sum().item() for one, other in moved))
    assert steps[0.01] == pytest.approx(0.01, rel=1e-3)
    assert steps[None] > 0.1


def test_curves_tell_the_gradients_of_both_losses():
    changes = {"batch_size": 32, "gradients": True, "momentum": 0.0, "weight_decay": 0.0}
    told, _, _ = epochs_of(-2.0, **changes)
    model = network(torch.float32).train()  # as it was before its only step
    pixels = torch.randint(256, (32, 3, 8, 8), generator=generator(2), dtype=torch.uint8)
    labels = torch.arange(32) % CLASSES
    maps, logits = [], []
    model.network.linear.register_forward_hook(lambda _, __, output: logits.append(output))
    maps = maps_of(model, pixels.float() / 255)
    units = [each.mean((2, 3)) for each in maps]
    losses = {
        "gradient": F.cross_entropy(logits[0], labels),
        "pull": 2 * mean_selectivity(units, labels, CLASSES),
    }
    for name, loss in losses.items():
        found = torch.autograd.grad(
            loss, list(model.parameters()), retain_graph=True, allow_unused=True
        )
        norm = torch.cat([each.flatten() for each in found if each is not None]).norm().item()
        assert getattr(told[0], name) == pytest.approx(norm, rel=1e-4)
    (told, *_), _, _ = epochs_of(0.0, gradients=True)
    assert told.gradient > 0
    assert told.pull is None


def test_telling_gradients_does_not_change_the_training():
    states = [epochs_of(1.0, gradients=asked)[1].state_dict() for asked in (False, True)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_dead_units_are_those_that_respond_to_no_image_of_any_batch():
    model = network(torch.float32).eval()
    pixels = torch.randint(256, (30, 3, 8, 8), generator=generator(2), dtype=torch.uint8)
    pixels[:20] = 0  # the first batch
    split = make_split(pixels, torch.arange(30) % CLASSES)
    with torch.no_grad():
        model.network.bn1.bias[:3] = -1e6
    _, dead, index = loop.examine(model, split, batch_size=20)
    maps = maps_of(model, pixels.float() / 255)
    assert dead == tuple(int((each.amax((0, 2, 3)) == 0).sum()) for each in maps)
    assert dead[0] == 3
    first = [int((each[:20].amax((0, 2, 3)) == 0).sum()) for each in maps]
    assert sum(first) > sum(dead)  # some are silent in that batch alone
    units = [each.double().mean((2, 3)) for each in maps]
    expected = [selectivity_index(*class_means(each, split.labels, CLASSES)) for each in units]
    assert index == pytest.approx([each.mean().item() for each in expected], abs=1e-6)
