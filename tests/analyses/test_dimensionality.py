"""Dimensionality of a network's layers: streamed, paired, of units and of flattened maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench._kit import chunks
from selbench._kit.errors import SelbenchError
from selbench.analyses import dimensionality as module
from selbench.analyses.dimension import components, participation_ratio, two_nn
from selbench.analyses.dimensionality import dimensionality, perturbed_dimensionality
from selbench.selectivity import RecordedUnits


class Small(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(width, 4)

    def forward(self, images):
        x = self.relu(self.second(self.relu(self.first(images))))
        return self.linear(x.mean((2, 3)))


def pictures(count=60, seed=0, side=6):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def brute_force(points):
    """Follow the definitions on all points at once, by another way: singular values."""
    points = points.double()
    spectrum = torch.linalg.svdvals(points - points.mean(0)) ** 2
    counts = [components(spectrum, fraction) for fraction in (0.9, 0.95, 0.99)]
    return counts, participation_ratio(spectrum), two_nn(points).dimension


def recorded(model, images, keep=None):
    with torch.no_grad(), RecordedUnits(keep) as layers:
        model(images)
    return layers.layers


def same(found, points):
    counts, ratio, neighbours = brute_force(points)
    assert list(found.components.values()) == counts
    assert found.participation_ratio == pytest.approx(ratio, rel=1e-5)
    assert found.two_nn == pytest.approx(neighbours, rel=1e-4)  # of distances in float32
    assert (found.samples, found.columns) == tuple(points.shape)


@pytest.mark.parametrize("count", [60, 5])  # more and fewer samples than columns
@pytest.mark.parametrize("batch", [7, 250])
def test_units_dimensionality_equals_the_definition_whatever_the_batch(count, batch, monkeypatch):
    monkeypatch.setitem(chunks.BATCH, "cpu", batch)
    model, images = Small(), pictures(count)
    for found, points in zip(dimensionality(model, images), recorded(model, images), strict=True):
        same(found, points)


@pytest.mark.parametrize("memory", [2**30, 2000])  # all layers in one pass, or one in each
def test_maps_dimensionality_equals_the_definition(memory, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", memory)
    model, images = Small(), pictures()
    layers = recorded(model, images, lambda maps: maps.flatten(1).clone())
    found = dimensionality(model, images, columns="maps")
    assert [each.columns for each in found] == [216, 24]
    for each, points in zip(found, layers, strict=True):
        same(each, points)


@pytest.mark.parametrize("columns", ["units", "maps"])
def test_perturbed_and_change_are_those_of_the_pairs(columns):
    model, images = Small(), pictures()
    moved = (images + 0.1 * pictures(seed=1)).clamp(0, 1)
    keep = None if columns == "units" else lambda maps: maps.flatten(1).clone()
    before, after = recorded(model, images, keep), recorded(model, moved, keep)
    perturbed, change = perturbed_dimensionality(model, images, moved, columns=columns)
    for place in range(2):
        same(perturbed[place], after[place])
        same(change[place], after[place] - before[place])


def test_order_does_not_matter():
    model, images = Small(), pictures()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    for one, other in zip(
        dimensionality(model, images), dimensionality(model, images[order]), strict=True
    ):
        assert one.components == other.components
        assert one.participation_ratio == pytest.approx(other.participation_ratio, rel=1e-5)
        assert one.two_nn == pytest.approx(other.two_nn, rel=1e-5)


def test_fractions_are_of_the_columns():
    found = dimensionality(Small(), pictures())[0]
    assert found.fraction(0.95) == found.components[0.95] / 6


def test_nearest_neighbours_are_looked_for_among_so_many_points_at_most(monkeypatch):
    monkeypatch.setattr(module, "NEIGHBOURS", 20)
    model, images = Small(), pictures()
    chosen = torch.linspace(0, 59, 20).round().long()
    found = dimensionality(model, images)[1]
    points = recorded(model, images)[1]
    assert found.two_nn == pytest.approx(two_nn(points[chosen]).dimension, rel=1e-5)
    assert found.components[0.99] == brute_force(points)[0][2]


class Dead(nn.Module):
    def forward(self, images):
        return F.relu(F.relu(images.flatten(1)) * 0 + 0.3)


def test_a_constant_layer_has_dimension_zero_and_says_so():
    message = (
        r"^the activity of layer 2 \(\(network\):2\) is the same for all 60 samples: its dimension "
        "is 0$"
    )
    with pytest.warns(RuntimeWarning, match=message):
        varying, constant = dimensionality(Dead(), pictures())
    assert varying.participation_ratio > 1
    assert list(constant.components.values()) == [0, 0, 0]
    assert (constant.participation_ratio, constant.two_nn) == (0, 0)
    assert constant.fraction(0.95) == 0


def test_a_single_image_is_refused():
    with pytest.raises(SelbenchError, match=r"^dimensionality needs at least 2 samples, got 1$"):
        dimensionality(Small(), pictures(1))


def test_unpaired_sets_are_refused():
    message = "^60 images and 59 perturbed ones are no pairs; give the same images in the same"
    with pytest.raises(SelbenchError, match=message):
        perturbed_dimensionality(Small(), pictures(), pictures(59))


def test_activations_that_are_not_finite_name_the_layer():
    model = Small()
    model.second.bias.data[0] = torch.inf
    with pytest.raises(SelbenchError, match=r"^layer 2 \(relu:2\) returns NaN or infinity"):
        dimensionality(model, pictures())


def test_what_does_not_change_is_not_called_a_constant_layer():
    message = r"^the change of layer 1 \(relu\), 2 \(relu:2\) is the same for all 60 samples: its"
    with pytest.warns(RuntimeWarning, match=message):
        perturbed, change = perturbed_dimensionality(Small(), pictures(), pictures())
    assert [each.participation_ratio for each in change] == [0, 0]
    assert all(each.participation_ratio > 1 for each in perturbed)
