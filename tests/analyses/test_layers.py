"""Layers: which outputs they are, what they are called, and when they cannot be looked at."""

import pytest
import torch
import torch.nn.functional as F
from quick_models import each_model
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.analyses.layers import (
    activations,
    as_images,
    check_finite,
    find_layers,
    recording,
    thirds,
    units_of,
)
from selbench.models import build_model
from selbench.selectivity import spatial_mean
from selbench.study import ModelSpec

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """One ReLU module called twice, one functional call, tokens in between."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.gelu = nn.GELU()
        self.linear = nn.Linear(4, 2)

    def forward(self, images):
        x = self.relu(self.convolution(images))
        x = self.relu(x - 0.1)
        tokens = self.gelu(x.flatten(2).transpose(1, 2))
        return self.linear(F.relu(tokens.mean(1)))


PARTLY = "ignore:3 of 4 activations are analysed:RuntimeWarning"


@pytest.mark.filterwarnings(PARTLY)
def test_layers_are_named_and_numbered_in_calling_order():
    layers = find_layers(Mixed(), IMAGES)
    assert [(layer.number, layer.name) for layer in layers] == [
        (1, "relu"),
        (2, "relu:2"),
        (3, "(network)"),
    ]
    assert [layer.shape for layer in layers] == [(4, 30, 30), (4, 30, 30), (4,)]


@pytest.mark.parametrize(
    ("name", "relus", "last"),
    [("resnet20", 19, "network.layer3.2.relu:2"), ("resnet18", 17, "network.layer4.1.relu:2")],
)
def test_the_layers_of_residual_networks_are_their_relus(name, relus, last):
    model = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    layers = find_layers(model, IMAGES)
    assert len(layers) == relus
    assert layers[-1].name == last
    assert len({layer.name for layer in layers}) == relus


@each_model
@pytest.mark.usefixtures("quick_weights")
def test_every_model_has_layers_whose_units_are_those_recorded(name):
    model = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    layers = find_layers(model, IMAGES)
    ((units,),) = activations(model, (IMAGES,), None, "units", layers)
    assert [tuple(each.shape) for each in units] == [(3, layer.units) for layer in layers]


def test_a_pattern_chooses_modules_and_tokens_are_averaged():
    layers = find_layers(Mixed(), IMAGES, "gelu|^lin")
    assert [layer.name for layer in layers] == ["gelu", "linear"]
    assert layers[0].shape == (900, 4)
    assert layers[0].units == 4
    with recording(model := Mixed(), "gelu") as recorded:
        model(IMAGES)
    assert recorded[0].shape == (3, 4)


@pytest.mark.parametrize("shape", [(3, 4), (3, 7, 4), (3, 4, 5, 6)])
def test_units_are_means_over_space_or_tokens(shape):
    outputs = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = outputs
    if len(shape) == 3:
        expected = torch.stack([outputs[:, :, u].mean(1) for u in range(4)], 1)
    if len(shape) == 4:
        expected = torch.stack([outputs[:, u].flatten(1).mean(1) for u in range(4)], 1)
    torch.testing.assert_close(units_of(outputs), expected)
    torch.testing.assert_close(spatial_mean(outputs), expected)


@pytest.mark.filterwarnings(PARTLY)
def test_flattened_maps_are_all_values_and_only_of_the_layers_wanted():
    model = Mixed()
    _, second, third = find_layers(model, IMAGES)
    ((maps,),) = activations(model, (IMAGES,), None, "maps", [second, third])
    assert [tuple(each.shape) for each in maps] == [(3, 3600), (3, 4)]
    ((units,),) = activations(model, (IMAGES,), None, "units", [second])
    torch.testing.assert_close(maps[0].view(3, 4, 900).mean(2), units[0])


def test_pixels_become_images_in_zero_to_one():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert as_images(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert as_images(IMAGES).equal(IMAGES)


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3072, 2)
        self.tanh = nn.Tanh()

    def forward(self, images):
        return self.tanh(self.linear(images.flatten(1)))


def test_a_network_without_relus_says_how_to_name_layers():
    message = (
        "^the network calls no ReLU or other activation that is never negative; name the modules "
        "to look at with --layers REGEX, among linear, tanh$"
    )
    with pytest.raises(SelbenchError, match=message):
        find_layers(Smooth(), IMAGES)
    assert [layer.name for layer in find_layers(Smooth(), IMAGES, "tanh")] == ["tanh"]


def test_a_pattern_that_matches_nothing_says_what_there_is():
    message = "^no module matches 'conv'; name the modules .* among linear, tanh$"
    with pytest.raises(SelbenchError, match=message):
        find_layers(Smooth(), IMAGES, "conv")


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(SelbenchError, match=r"^--layers '\*' is no regular expression: nothing"):
        find_layers(Smooth(), IMAGES, "*")


class Pair(nn.Module):
    def forward(self, images):
        return images, images


def test_a_module_that_returns_no_tensor_is_refused():
    model = nn.Sequential(Pair())
    with pytest.raises(SelbenchError, match=r"^0 returns a tuple, not a tensor; choose other"):
        find_layers(model, IMAGES, "0")


def test_hooks_are_gone_afterwards():
    model = Mixed()
    find_layers(model, IMAGES, "gelu")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.filterwarnings(PARTLY)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_layer_that_is_not_finite_is_named(bad):
    layers = find_layers(Mixed(), IMAGES)
    values = [torch.ones(2, 4), torch.tensor([[1.0, bad]]), torch.ones(1)]
    with pytest.raises(SelbenchError, match=r"^layer 2 \(relu:2\) returns NaN or infinity; has"):
        check_finite(layers, values)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 17, 19])
def test_thirds_part_the_layers_in_order(count):
    parts = thirds(count)
    if count > 1:
        assert [n for numbers in parts.values() for n in numbers] == list(range(1, count + 1))
    assert len(parts["early"]) == len(parts["late"]) == max(1, count // 3)


class Head(nn.Module):
    """A layer of vectors that what follows changes in place."""

    def __init__(self, inplace):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3072, 5)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, images):
        return self.relu(self.first(images.flatten(1) - 0.5))


def test_what_follows_in_place_does_not_change_what_was_recorded():
    recorded = []
    for inplace in (False, True):
        for keep in (spatial_mean, units_of):
            with torch.no_grad(), recording(model := Head(inplace), "first", keep) as kept:
                model(IMAGES)
            recorded.append(kept[0])
    assert recorded[0].min() < 0
    assert all(torch.equal(each, recorded[0]) for each in recorded)


def test_a_network_in_training_mode_is_looked_at_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    model[3].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = find_layers(model, IMAGES)
    ((training,),) = activations(model, (IMAGES,), None, "units", layers)
    assert [module.training for module in model] == [True, True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    ((evaluation,),) = activations(model.eval(), (IMAGES,), None, "units", layers)
    assert torch.equal(training[0], evaluation[0])
