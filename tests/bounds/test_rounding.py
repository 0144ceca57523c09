"""Intervals in float32: they contain those in float64, and hardly anything else."""

import pytest
import torch
from torch import nn

from selbench.bounds import ball, bounded_margins, traced
from selbench.bounds.certified import margin_bounds
from selbench.bounds.linear import interval_bounded, quickly_bounded
from selbench.bounds.rounding import UNIT, added, relu, sums_directly
from selbench.models import MODELS, build_model
from selbench.study import ModelSpec

SOAK = pytest.mark.soak


class Branches(nn.Module):
    """Sums, a difference, parts, padding, pooling and another function than a ReLU."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1, bias=False)
        self.norm, self.deep = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=4, dilation=2)
        self.up, self.last = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Linear(8, 4)

    def forward(self, images):
        x, y = self.one((images - 0.45) / 0.22), self.norm(self.two(images))
        x = torch.cat([(x - y).relu()[:, :4], nn.functional.pad(x + 2 * y, (0,) * 4 + (0, 4))], 1)
        x = nn.functional.max_pool2d(self.deep(x[:, :8]).relu() - 3, 2)
        x = torch.cat([self.up(x).mean((2, 3)), x.mean((2, 3))[:, :4]], 1)
        return self.last(x.sigmoid().relu())


def deep(scale, layers=12, width=6):
    """Return convolutions whose weights, and so whose values, grow or shrink layer by layer."""
    made = []
    for layer in range(layers):
        convolution = nn.Conv2d(3 if layer == 0 else width, width, 3, padding=1)
        made += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        nn.init.normal_(convolution.weight, std=scale * (9 * width) ** -0.5)
        nn.init.normal_(made[-2].weight)
        made[-2].running_var.uniform_(1e-6, 2)
        made[-2].running_mean.normal_(std=scale)
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


def cancelling():
    """Return a network whose sums are 10,000 times as small as their terms."""
    wide = nn.Linear(192, 400)
    with torch.no_grad():
        wide.weight[:, 1::2] = -wide.weight[:, ::2] + 1e-4 * wide.weight[:, 1::2]
        wide.weight.mul_(1e4)
    return nn.Sequential(nn.Flatten(), wide, nn.ReLU(), nn.Linear(400, 4))


NETWORKS = {
    "branches": Branches,
    "cancelling": cancelling,
    **{f"deep {scale:g}": lambda scale=scale: deep(scale) for scale in (1e-3, 1.0, 30.0)},
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def check_contained(network, images, epsilon):
    """Check that all intervals in float32 contain those in float64; return both."""
    found, box = traced(network, images), ball(images, epsilon)
    precise, quick = interval_bounded(found, box), quickly_bounded(found, box)
    assert precise.before.keys() == quick.before.keys() != set()
    for place, own in precise.before.items():
        wide = quick.before[place]
        assert (wide.double().low <= own.low).all()
        assert (wide.double().high >= own.high).all()
    return precise, quick


@pytest.mark.parametrize("epsilon", [0, 1e-6, 0.01])
def test_an_interval_in_float32_contains_that_in_float64(network, images, epsilon):
    _, quick = check_contained(network, images, epsilon)
    assert {each.radius.dtype for each in quick.before.values()} == {torch.float32}


def test_what_a_long_sum_loses_is_in_the_radius():
    first, last = nn.Linear(3 * 64 * 64, 8), nn.Linear(8, 4)
    with torch.no_grad():
        first.weight.fill_(2.0**-25).fill_diagonal_(1.0)  # too small to change a sum above 1
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).requires_grad_(False)
    precise, quick = check_contained(network, torch.ones(1, 3, 64, 64), 0)
    (own,), (wide,) = precise.before.values(), quick.before.values()
    assert ((wide.centre - own.centre).abs() > 4 * UNIT).all()


def test_what_a_sum_of_two_loses_is_in_the_radius():
    one, other = torch.tensor([1.0, 1.0]), torch.tensor([2.0**-25, -(2.0**-26)])
    centre, radius = added((one, torch.zeros(2)), (other, torch.zeros(2)))
    assert ((centre.double() - (one.double() + other)).abs() <= radius).all()
    assert not torch.equal(centre.double(), one.double() + other)


def test_it_is_hardly_wider(images):
    torch.manual_seed(0)
    network = deep(1.0, layers=6).eval().requires_grad_(False)
    precise, quick = check_contained(network, images, 0.01)
    for place, own in precise.before.items():
        assert (quick.before[place].radius <= 1.002 * own.radius + 1e-6).all()


@pytest.mark.parametrize("close", [True, False])
def test_margins_near_0_and_no_others_are_bounded_again_in_float64(images, close):
    torch.manual_seed(0)
    network, labels = deep(1.0, layers=4).eval().requires_grad_(False), torch.zeros(5).long()
    box = ball(images, 1e-3)

    def margins(bounded):
        return margin_bounds(bounded(traced(network, images), box), labels, relaxed=False)

    network[-1].bias[0] += (0.0 if close else 1.0) - margins(quickly_bounded).amin(1).median()
    own = bounded_margins(traced(network, images), box, labels, "interval")
    again = (own != margins(quickly_bounded)).any(1)
    assert again.any() == close
    assert torch.equal(own[again], margins(interval_bounded)[again])


@pytest.mark.parametrize("layers", [16, 60])
def test_intervals_that_grow_beyond_float32_are_in_float64(images, layers):
    torch.manual_seed(0)
    network = deep(3.0, layers).eval().requires_grad_(False)
    found, box = traced(network, images), ball(images, 0.3)
    precise, quick = interval_bounded(found, box).before, quickly_bounded(found, box).before
    largest = max(each.radius.max() for each in precise.values())
    assert largest.isfinite()
    assert (largest > torch.finfo(torch.float32).max) == (layers == 60)
    kinds = {each.radius.dtype for each in quick.values()}
    assert kinds == {torch.float64 if layers == 60 else torch.float32}


def test_numbers_beyond_float32_give_no_certificate(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.ReLU(), nn.Linear(9, 4))
    network.requires_grad_(False)[1].weight.mul_(1e38)
    found, labels = traced(network, images), network(images).argmax(1)
    margins = bounded_margins(found, ball(images, 0.5), labels, "interval")
    assert not (margins.amin(1) > 0).any()


def test_networks_whose_sums_may_not_be_direct_have_intervals_in_float64(images, monkeypatch):
    monkeypatch.setattr("selbench.bounds.linear.sums_directly", lambda device: False)
    found, box = traced(deep(1.0, 2).eval(), images), ball(images, 0.01)
    quick = quickly_bounded(found, box).before
    for place, own in interval_bounded(found, box).before.items():
        assert torch.equal(own.radius, quick[place].radius)


def test_a_relu_contains_its_values_at_both_ends():
    centre = torch.tensor([1.0, -1.0, 0.1, 3e-39, 1e30]).repeat(7)
    radius = torch.tensor([0.0, 1e-9, 0.1, 0.3, 0.99999994, 1.0, 5.0]).repeat_interleave(5)
    middle, reach = (each.double() for each in relu((centre, radius)))
    low, high = (centre.double() - radius.double()).relu(), (centre.double() + radius).relu()
    assert (middle - reach <= low + 1e-37).all()
    assert (middle + reach >= high - 1e-37).all()
    assert (reach <= (high - low) / 2 + 1e-6 * high + 1e-37).all()


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted({*MODELS} - {"resnet50"}))
def test_shipped_architectures_have_intervals_in_float32(name):
    torch.manual_seed(0)
    network = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for epsilon in (0, 1e-3):
        check_contained(network.requires_grad_(False), images, epsilon)


def test_onednn_sums_the_products_of_convolutions_directly(capfd):
    mkldnn = torch.backends.mkldnn
    if not sums_directly(torch.device("cpu")):
        pytest.skip("this build of PyTorch has no oneDNN")
    network = build_model(ModelSpec(name="resnet8"), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = traced(network.requires_grad_(False), images)
    with mkldnn.verbose(mkldnn.VERBOSE_ON):
        quickly_bounded(found, ball(images, 1e-3))
    lines = [each for each in capfd.readouterr().out.splitlines() if ",convolution," in each]
    assert len(lines) >= 14  # a centre and a radius for each of seven
    assert all("alg:convolution_direct" in each for each in lines), lines
