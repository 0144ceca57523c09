"""Input-unit gradients: closed forms, finite differences, and probes that keep their promises."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench._kit import chunks
from selbench._kit.errors import SelbenchError
from selbench.analyses import derivatives, gradients
from selbench.analyses.gradients import Estimate, gradient_norms, input_gradients
from selbench.analyses.layers import recording, units_of

SIDE = 6
QUANTITIES = ("norm", "cv_across_samples", "cv_across_units")

each_estimator = pytest.mark.parametrize("estimator", ["exact", "probes"])


class Positive(nn.Module):
    """Units that are linear in images above 0; 2 answers none of them, 3 is 0 doubled."""

    def __init__(self):
        super().__init__()
        weight = torch.rand(5, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(0))
        weight[2], weight[3] = -weight[2], 2 * weight[0]
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return F.relu(images.flatten(1) @ self.weight.T)


class Convolutions(nn.Module):
    """A residual network with batch norms that have seen images, and ReLUs of every kind."""

    def __init__(self, relu=F.relu):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None)
        self.conv3, self.bn3 = nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6, momentum=None)
        self.act = nn.ReLU(inplace=True)
        self.linear = nn.Linear(6, 3)
        self.relu = relu

    def forward(self, images):
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.act(self.bn2(self.conv2(x)) + x)
        x = self.relu(self.bn3(self.conv3(x)))
        return self.linear(x.mean((2, 3)))


def convolutions(relu=F.relu, dtype=torch.float32, dead=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Convolutions(relu)
        with torch.no_grad():
            for norm in (network.bn1, network.bn2, network.bn3):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(-0.5, 0.3)
            network(torch.rand(64, 3, SIDE, SIDE))
            if dead:
                network.bn3.weight[1], network.bn3.bias[1] = 0.0, -1.0
    return network.to(dtype).eval()


def pictures(count=12, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator).to(dtype)


def along(network, images, direction, bump=1e-5):
    """Return all units' slopes along a direction, by central differences."""
    ends = []
    for step in (bump, -bump):
        with torch.no_grad(), recording(network, None, units_of) as units:
            network(images + step * direction)
        ends.append(torch.cat(list(units), 1))
    return (ends[0] - ends[1]) / (2 * bump)


def full_jacobian(network, images):
    """Return what each pixel does to each unit, (batch, units, pixels)."""
    points = images.clone().requires_grad_()
    with recording(network, None, units_of) as layers:
        network(points)
    units = torch.cat(list(layers), 1)
    rows = [torch.autograd.grad(unit.sum(), points, retain_graph=True)[0] for unit in units.T]
    return torch.stack(rows, 1).flatten(2)


def values_of(layers, value=lambda estimate: estimate.value):
    return [value(getattr(layer, name)) for layer in layers for name in QUANTITIES]


def test_a_linear_layer_has_the_norms_of_its_weights():
    network = Positive()
    (layer,) = input_gradients(network, pictures())
    lengths = network.weight.detach().double().norm(dim=1)
    lengths[2] = 0
    torch.testing.assert_close(layer.unit_norms, lengths, rtol=1e-6, atol=0)
    assert layer.dead.tolist() == [False, False, True, False, False]
    live = lengths[~layer.dead]
    across = live.std(correction=0) / live.mean()
    expected = [live.mean().item(), 0, across.item()]
    assert values_of([layer]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert layer.unit_cvs.isnan().tolist() == layer.dead.tolist()
    assert (layer.samples, layer.layer.units) == (12, 5)


def test_exact_norms_are_those_of_finite_differences():
    network, images = convolutions(dtype=torch.float64), pictures(5, torch.float64)
    found = gradient_norms(network, images)
    assert [part.shape for part in found] == [(5, 4), (5, 4), (5, 6)]
    pixels = torch.eye(images[0].numel(), dtype=images.dtype).view(-1, *images.shape[1:])
    slopes = torch.stack([along(network, images, pixel) for pixel in pixels])
    expected = slopes.square().sum(0).sqrt()
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=1e-6, atol=1e-9)


def test_summaries_follow_their_definitions():
    network, images = convolutions(dead=True), pictures()
    matrices = [part.double() for part in gradient_norms(network, images)]
    for norms, layer in zip(matrices, input_gradients(network, images), strict=True):
        live = norms.mean(0) > 0
        assert torch.equal(layer.dead, ~live)
        means, cvs = norms.mean(0)[live], (norms.std(0) / norms.mean(0))[live]
        torch.testing.assert_close(layer.unit_norms[live], means)
        torch.testing.assert_close(layer.unit_cvs[live], cvs)
        assert layer.norm.value == pytest.approx(means.mean().item())
        assert layer.cv_across_samples.value == pytest.approx(cvs.mean().item())
        across = means.std(correction=0) / means.mean()
        assert layer.cv_across_units.value == pytest.approx(across.item())
        assert layer.norm.error == layer.norm.half_width() == 0


@each_estimator
def test_dead_units_are_counted_and_left_out(estimator):
    layer = input_gradients(convolutions(dead=True), pictures(), estimator=estimator, probes=8)[2]
    assert layer.dead.tolist() == [False, True, False, False, False, False]
    assert layer.unit_norms[1] == 0
    assert layer.unit_cvs.isnan().tolist() == layer.dead.tolist()
    assert all(math.isfinite(getattr(layer, name).value) for name in QUANTITIES)


@each_estimator
def test_a_layer_of_dead_units_has_no_averages(estimator):
    network = Positive()
    network.weight.data.neg_()
    network.weight.data[2] *= -1
    layer = input_gradients(network, pictures(), estimator=estimator, probes=8)[0]
    assert layer.dead.all()
    assert all(math.isnan(getattr(layer, name).value) for name in QUANTITIES)


def test_probes_are_derivatives_along_their_directions():
    network, images = convolutions(dtype=torch.float64), pictures(5, torch.float64)
    prepared = gradients._prepared(network, images, None)
    directions = torch.randn(3, *images.shape, generator=torch.Generator().manual_seed(1)).double()
    slopes = gradients._slopes(prepared, images, directions)
    expected = [along(network, images, direction) for direction in directions]
    torch.testing.assert_close(slopes, torch.stack(expected), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("runs", [80, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.soak
def test_intervals_hold_the_exact_value_as_often_as_they_say(runs, monkeypatch):
    """Of 9 quantities each, on images enough for the variation to stand out of the noise.

    Runs take the network's Jacobian as it is, computed once, for its slopes along probes.
    """
    count, probes = 60, 16
    network, images = convolutions(), pictures(count)
    exact = torch.tensor(values_of(input_gradients(network, images)))
    jacobian = full_jacobian(network, images)

    def slopes(network, images, directions):
        return torch.einsum("bup,kbp->kbu", jacobian, directions.flatten(2))

    prepared = gradients._prepared(network, images, None)
    monkeypatch.setattr(gradients, "_prepared", lambda *_: prepared)
    monkeypatch.setattr(gradients, "_slopes", slopes)
    monkeypatch.setitem(chunks.CHUNK, "cpu", count * probes)  # all images in one call
    options = {"estimator": "probes", "probes": probes}
    found = [
        input_gradients(network, images, examples=torch.arange(count) + run * count, **options)
        for run in range(runs)
    ]
    off = torch.tensor([values_of(each) for each in found]) - exact
    half = torch.tensor([values_of(each, Estimate.half_width) for each in found])
    errors = torch.tensor([values_of(each, lambda e: e.error) for each in found])
    slack = 0.02 * (200 / runs) ** 0.5
    assert abs((off.abs() <= half).double().mean() - 0.95) <= slack
    bias = off.mean(0) / (off.std(0) / runs**0.5)
    assert bias.abs().max() < 3.5, bias
    ratio = errors.square().mean(0).sqrt() / off.std(0)
    assert ((ratio > 0.7) & (ratio < 1.4)).all(), ratio


def test_means_and_variances_across_two_samples_have_no_bias(monkeypatch):
    """50,000 units with norms of 1 and 20, whose variance is nearly never estimated below 0."""
    units, probes, norms = 50_000, 8, torch.tensor([1.0, 20.0])
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(probes, 2, units, generator=generator)
    monkeypatch.setattr(gradients, "_slopes", lambda *_: normal * norms[:, None])
    network = gradients._prepared(Positive(), pictures(2), None)
    sums = gradients._probed_sums(network, probes, pictures(2), torch.arange(2))
    layer = gradients.Layer(1, "many", (units,))
    (found,) = gradients._by_layer([layer], *(each.sum(0) for each in sums), 2, probes)
    variances = (found.unit_cvs * found.unit_norms).square()
    for values, expected in ((found.unit_norms, 10.5), (variances, 19**2 / 2)):
        doubt = values.std() / units**0.5
        assert abs(values.mean() - expected) < 3.5 * doubt


@pytest.mark.soak
def test_a_small_variation_is_not_swamped_by_the_noise_of_probes():
    network, images = Positive(), pictures(100)
    (layer,) = input_gradients(network, images, estimator="probes", probes=32)
    (exact,) = input_gradients(network, images)
    assert layer.cv_across_samples.value < 0.06  # 0.18 were its noise not subtracted
    assert layer.cv_across_units.value == pytest.approx(exact.cv_across_units.value, rel=0.03)
    torch.testing.assert_close(layer.unit_norms, exact.unit_norms, rtol=0.03, atol=0)


def test_a_variation_lost_in_the_noise_is_small_and_its_error_says_so():
    network, images = Positive(), pictures(60)
    (exact,) = input_gradients(network, images)
    true, options = exact.cv_across_samples.value, {"estimator": "probes", "probes": 16}
    for start in range(0, 240, 60):
        (layer,) = input_gradients(network, images, examples=torch.arange(60) + start, **options)
        found = layer.cv_across_samples
        assert found.value >= 0
        assert abs(found.value - true) < 3.5 * found.error


def test_estimates_depend_on_neither_batch_nor_order(monkeypatch):
    network, images, order = convolutions(), pictures(), torch.randperm(12)
    options = {"estimator": "probes", "probes": 4}
    expected = input_gradients(network, images, **options)
    monkeypatch.setitem(chunks.CHUNK, "cpu", 3)
    shuffled = input_gradients(network, images[order], examples=order, **options)
    for layer, other in zip(expected, shuffled, strict=True):
        torch.testing.assert_close(layer.unit_norms, other.unit_norms, rtol=1e-5, atol=0)
        torch.testing.assert_close(layer.unit_cvs, other.unit_cvs, rtol=1e-4, atol=1e-6)
    assert values_of(expected) == pytest.approx(values_of(shuffled), rel=1e-4, abs=1e-6)
    others = input_gradients(network, images, examples=order + 12, **options)
    assert values_of(expected) != pytest.approx(values_of(others), rel=1e-3)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_exact_norms_do_not_depend_on_the_batch(monkeypatch, size):
    network, images = convolutions(), pictures(7)
    expected = gradient_norms(network, images)
    monkeypatch.setitem(chunks.CHUNK, "cpu", size)
    for part, other in zip(expected, gradient_norms(network, images), strict=True):
        torch.testing.assert_close(part, other, rtol=1e-5, atol=1e-7)


@each_estimator
@pytest.mark.parametrize("relu", [torch.relu_, lambda x: F.relu(x, inplace=True), nn.ReLU(True)])
def test_networks_that_work_in_place_are_measured_alike(estimator, relu):
    images, options = pictures(), {"estimator": estimator, "probes": 4}
    expected = values_of(input_gradients(convolutions(), images, **options))
    found = values_of(input_gradients(convolutions(relu), images, **options))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


@each_estimator
def test_folded_batch_norms_change_nothing(monkeypatch, estimator):
    network, images = convolutions(), pictures()
    options = {"estimator": estimator, "probes": 4}
    expected = values_of(input_gradients(network, images, **options))
    monkeypatch.setattr(derivatives, "folded", lambda network, images: network)
    found = values_of(input_gradients(network, images, **options))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


@each_estimator
def test_a_pattern_chooses_modules_as_they_are(estimator):
    """A convolution's output is its own, not that of the batch norm folded into it."""
    network, images = convolutions(), pictures()
    options = {"estimator": estimator, "probes": 16}
    (layer,) = input_gradients(network, images, layers="^conv1$", **options)
    assert layer.layer.name == "conv1"
    points = images.clone().requires_grad_()
    rows = [
        torch.autograd.grad(unit.sum(), points, retain_graph=True)[0][0].norm()
        for unit in units_of(network.conv1(points)).T
    ]
    rtol = 1e-5 if estimator == "exact" else 0.25
    torch.testing.assert_close(layer.unit_norms, torch.stack(rows).double(), rtol=rtol, atol=0)


@each_estimator
def test_the_network_stays_as_it_is(estimator):
    network, images = convolutions().train(), pictures()
    before = copy.deepcopy(network.state_dict())
    input_gradients(network, images, estimator=estimator, probes=8)
    assert network.training
    assert network.act.inplace
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Detached(nn.Module):
    def forward(self, images):
        return F.relu((images > 0.5).float().mean(1).flatten(1))


@each_estimator
def test_units_that_no_gradient_reaches_are_dead(estimator):
    (layer,) = input_gradients(Detached(), pictures(), estimator=estimator, probes=8)
    assert layer.dead.all()


def refusal(function, *args, **options):
    with pytest.raises(SelbenchError) as refused:
        function(*args, **options)
    return str(refused.value)


@each_estimator
def test_what_cannot_be_measured_is_refused_in_a_sentence(estimator):
    network, images = convolutions(), pictures()
    options = {"estimator": estimator}
    told = refusal(input_gradients, network, images[:1], **options)
    assert told == "variation across samples needs at least 2 images, got 1"
    told = refusal(input_gradients, nn.Flatten(), images, **options)
    assert told.startswith("the network calls no ReLU or other activation that is never negative; ")
    images[3, 0, 0, 0] = torch.nan
    told = refusal(input_gradients, network, images, **options)
    assert told == (
        "layer 1 ((network)) returns NaN or infinity; has the network's training diverged?"
    )
    told = refusal(input_gradients, network, images, probes=3, **options)
    assert told == "standard errors need at least 4 probes, got 3"


def test_an_unknown_estimator_gets_the_nearest_known_one():
    told = refusal(input_gradients, convolutions(), pictures(), estimator="probe")
    assert told == "unknown estimator 'probe'; did you mean 'probes'?"


def test_half_widths_are_students():
    assert Estimate(1.0, 2.0, 4).half_width() == pytest.approx(2 * 2.7764, rel=1e-4)
    assert Estimate(1.0).half_width() == 0


class Branched(nn.Module):
    """A convolution that both a batch norm and a ReLU take, which the logits do not need."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_var.fill_(100.0)
        self.linear = nn.Linear(4, 3)

    def forward(self, images):
        maps = self.convolution(images)
        torch.relu(maps)
        return self.linear(torch.relu(self.norm(maps)).mean((2, 3)))


def test_a_convolution_that_others_take_too_is_not_folded():
    network, images = Branched().eval(), pictures()
    (side, _) = gradient_norms(network, images)
    points = images.clone().requires_grad_()
    units = torch.relu(network.convolution(points)).mean((2, 3))
    expected = [torch.autograd.grad(u.sum(), points, retain_graph=True)[0] for u in units.T]
    torch.testing.assert_close(side, torch.stack([e.flatten(1).norm(dim=1) for e in expected], 1))


def test_inference_mode_outside_does_not_make_gradients_zero():
    expected = gradient_norms(convolutions(), pictures())
    with torch.inference_mode():
        found = gradient_norms(convolutions(), pictures())
    torch.testing.assert_close(found, expected)
    assert found[0].max() > 0


def test_no_images_have_no_gradients():
    with pytest.raises(SelbenchError, match="gradients need an image, got none; give at least 1"):
        gradient_norms(convolutions(), pictures(0))


def test_more_probes_are_drawn_where_errors_are_large(monkeypatch):
    monkeypatch.setattr("selbench.analyses.gradients.MOST_PROBES", 80)
    network, images = convolutions(), pictures()
    few = input_gradients(network, images, estimator="probes", probes=8)
    assert max(each.cv_across_samples.error / each.cv_across_samples.value for each in few) > 0.2
    same = input_gradients(network, images, estimator="probes", probes=8, tolerance=10.0)
    assert [each.norm for each in same] == [each.norm for each in few]
    many = input_gradients(network, images, estimator="probes", probes=8, tolerance=0.3)
    assert {8 < each.norm.freedom + 1 < 80 for each in many} == {True}
    most = input_gradients(network, images, estimator="probes", probes=8, tolerance=1e-3)
    assert {each.norm.freedom + 1 for each in most} == {80}
