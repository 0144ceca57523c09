"""Stable units: counted by hand, by brute force, and told by a run."""

from itertools import product

import pytest
import torch
from torch import nn

import selbench
from selbench.bounds import traced
from selbench.bounds.stability import in_balls, over_images


class Flat(nn.Module):
    """Two hidden layers of three units, on two pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two, self.last = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.relu = nn.ReLU()

    def taken(self, x):
        first = self.one(x)
        return first, self.two(self.relu(first))

    def forward(self, images):
        x = self.relu(self.one(images[:, 0, 0, :2]))
        return self.last(self.relu(self.two(x)))


@pytest.fixture
def network():
    return Flat().eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(12, 3, 1, 2, generator=torch.Generator().manual_seed(0))


def shares(positive):
    """Return shares always and never positive, of (images, points, units)."""
    on, off = positive.all(1).double().mean(), (~positive).all(1).double().mean()
    return float(on), float(off)


def test_over_images_a_unit_counts_once_for_all_of_them(network, images):
    found = over_images(traced(network, images), images.split(5))
    for own, values in zip(found, network.taken(images[:, 0, 0]), strict=True):
        assert (own.active, own.inactive) == shares((values > 0)[None])
        assert own.active + own.inactive + own.undecided == pytest.approx(1)
    assert {0.0} != {each.undecided for each in found}


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.4])
def test_in_balls_the_first_layer_equals_brute_force_and_no_later_one_claims_more(
    network, images, epsilon
):
    found = in_balls(traced(network, images), images.split(5), epsilon)
    steps = torch.linspace(-1, 1, 41)
    grid = torch.tensor(list(product(steps, steps))) * epsilon
    points = (images[:, None, 0, 0] + grid).clamp(0, 1)
    first, second = (shares(values > 0) for values in network.taken(points))
    assert (found[0].active, found[0].inactive) == pytest.approx(first)
    assert found[1].active <= second[0]
    assert found[1].inactive <= second[1]
    if epsilon == 0.01:
        assert (found[1].active, found[1].inactive) == pytest.approx(second)


def test_a_run_tells_layers_and_their_mean_at_every_epsilon(network, images):
    pixels = (images * 255).to(torch.uint8)
    rows = selbench.evaluate(network, (pixels, torch.arange(12) % 2), "stability", name="flat")
    own = rows[(rows["suite"] == "stability") & (rows["condition"] == "balls")]
    undecided = own[own["metric"] == "undecided"].set_index(["level", "layer"])["value"]
    mean = own[(own["metric"] == "undecided") & own["layer"].isna()].set_index("level")["value"]
    for level in (0.25, 16):
        assert mean[level] == pytest.approx((undecided[level, 1] + undecided[level, 2]) / 2)
    assert mean[16] >= mean[0.25]
    assert set(own["layer_name"].dropna()) == {"1.relu", "1.relu:2"}
