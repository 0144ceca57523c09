"""The Jacobian of the logits: closed forms, finite differences, and projections without bias."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench._kit import chunks
from selbench._kit.errors import SelbenchError
from selbench.analyses import jacobian
from selbench.analyses.jacobian import jacobian_norms

SIDE, CLASSES = 5, 6
FIELDS = ("frobenius", "square", "spectral", "margin", "margin_gradient")

each_way = pytest.mark.parametrize("projections", [None, 3])


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, 3 * SIDE * SIDE, generator=generator))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Half(Linear):
    """Linear, with logits of float16 and bfloat16 such as autocast leaves."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, images):
        return super().forward(images).to(self.dtype)


class Scaled(nn.Module):
    """A network with its logits multiplied."""

    def __init__(self, network, scale):
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, images):
        return self.network(images) * self.scale


def convolutions(relu=F.relu, dtype=torch.float32, classes=CLASSES):
    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=None)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, momentum=None)
            self.linear = nn.Linear(8, classes)

        def forward(self, images):
            x = relu(self.bn1(self.conv1(images)))
            x = relu(self.bn2(self.conv2(x)))
            return self.linear(x.mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Convolutions()
        with torch.no_grad():
            network(torch.rand(64, 3, SIDE, SIDE))
    return network.to(dtype).eval()


def pictures(count=12, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator).to(dtype)


def jacobians(network, images, bump=1e-5):
    """Follow the definition with central differences: (batch, classes, pixels)."""
    columns = []
    with torch.no_grad():
        for pixel in torch.eye(images[0].numel(), dtype=images.dtype):
            step = bump * pixel.view_as(images[0])
            columns.append((network(images + step) - network(images - step)) / (2 * bump))
    return torch.stack(columns, 2)


def values_of(norms):
    return {name: getattr(norms, name) for name in FIELDS}


def test_a_linear_network_has_the_norms_of_its_weights():
    network, images = Linear(), pictures()
    weight = network.weight.detach().double()
    found = jacobian_norms(network, images)
    ones = torch.ones(12, dtype=torch.float64)
    logits = network(images).detach().double()
    best, runner_up = logits.argsort(1, descending=True)[:, :2].T
    gaps = (weight[best] - weight[runner_up]).norm(dim=1)
    margins = logits.amax(1) - logits.gather(1, runner_up[:, None])[:, 0]
    expected = {
        "frobenius": weight.norm() * ones,
        "square": weight.square().sum() * ones,
        "spectral": torch.linalg.matrix_norm(weight, 2) * ones,
        "margin": margins,
        "margin_gradient": gaps,
    }
    torch.testing.assert_close(values_of(found), expected, rtol=1e-5, atol=1e-6)
    assert found.mean_frobenius.value == pytest.approx(weight.norm().item(), rel=1e-5)
    assert found.mean_square.value == pytest.approx(weight.square().sum().item(), rel=1e-5)
    assert found.mean_frobenius.half_width() == found.mean_square.error == 0


@pytest.mark.parametrize("relu", [F.relu, torch.relu_, nn.ReLU(inplace=True)])
def test_exact_norms_are_those_of_finite_differences(relu):
    network, images = convolutions(relu, torch.float64), pictures(dtype=torch.float64)
    rows = jacobians(network, images)
    best, runner_up = network(images).detach().argsort(1, descending=True)[:, :2].T
    every = torch.arange(len(images))
    expected = {
        "frobenius": torch.linalg.matrix_norm(rows),
        "square": torch.linalg.matrix_norm(rows).square(),
        "spectral": torch.linalg.matrix_norm(rows, 2),
        "margin_gradient": (rows[every, best] - rows[every, runner_up]).norm(dim=1),
    }
    found = jacobian_norms(network, images)
    torch.testing.assert_close(
        {name: getattr(found, name) for name in expected}, expected, rtol=1e-6, atol=1e-9
    )


@pytest.mark.soak
def test_projections_have_no_bias_and_say_how_far_off_they_are():
    """200 runs of 12 images: the square without bias, the norm nearly so, errors as they are."""
    network, images, runs, count = convolutions(), pictures(), 200, 12
    exact = jacobian_norms(network, images)
    many, places = images.repeat(runs, 1, 1, 1), torch.arange(runs * count)
    found = jacobian_norms(network, many, projections=4, examples=places)
    for name, slack in (("square", 0.0), ("frobenius", 0.01)):
        truth = getattr(exact, name)
        off = (getattr(found, name).view(runs, count) - truth) / truth
        bias, doubt = off.mean(), off.std() / off.numel() ** 0.5
        assert abs(bias) < slack + 3.5 * doubt
        errors = getattr(found, f"{name}_error").view(runs, count) / truth
        assert errors.square().mean().sqrt() == pytest.approx(off.std().item(), rel=0.12)
        means = off.mean(1)  # of one run's images
        stated = errors.square().sum(1).sqrt() / count
        assert (means.abs() <= 1.96 * stated).double().mean() >= 0.9


def test_the_norm_is_corrected_for_the_bias_of_a_root():
    """The worst case, a Jacobian of rank one among many classes: uncorrected, 6 % too small."""
    normal = torch.randn(100_000, 4, generator=torch.Generator().manual_seed(0)).double()
    norm, _, square, _ = jacobian._frobenius(normal.square())
    assert square.sqrt().mean().item() == pytest.approx(0.940, abs=0.004)
    assert norm.mean().item() == pytest.approx(4 * 0.93999 - 3 * 0.92132, abs=0.004)


def test_projections_are_unit_vectors():
    """So that they are exact where all directions in the space of classes are alike."""
    network = Linear()
    network.weight.data = 3 * torch.linalg.qr(network.weight.data.T)[0].T
    found = jacobian_norms(network, pictures(), projections=2)
    expected = torch.full((12,), 9.0 * CLASSES, dtype=torch.float64)
    torch.testing.assert_close(found.square, expected, rtol=1e-5, atol=0)
    assert (found.square_error < 1e-4).all()


def test_the_error_of_a_mean_takes_images_as_independent():
    found = jacobian_norms(convolutions(), pictures(), projections=4)
    for estimate, errors in (
        (found.mean_square, found.square_error),
        (found.mean_frobenius, found.frobenius_error),
    ):
        assert estimate.error == pytest.approx((errors.square().sum().sqrt() / 12).item())
        assert estimate.freedom == 36
    assert found.mean_square.value == found.square.mean()


def test_the_spectral_norm_of_power_iterates_is_a_close_lower_bound():
    network, images = convolutions(classes=30), pictures()
    exact = jacobian_norms(network, images).spectral
    found = jacobian_norms(network, images, projections=2).spectral
    assert (found <= exact * (1 + 1e-6)).all()
    assert (found >= exact * 0.99).all()


@each_way
def test_a_factor_of_the_logits_cancels_where_it_should(projections):
    network, images = convolutions(), pictures()
    found = jacobian_norms(network, images, projections=projections)
    scaled = jacobian_norms(Scaled(network, 7.0), images, projections=projections)
    for name in ("distance", "relative", "spectral_relative"):
        torch.testing.assert_close(getattr(scaled, name), getattr(found, name), rtol=1e-4, atol=0)
    for name in ("frobenius", "spectral", "margin", "margin_gradient"):
        expected = 7 * getattr(found, name)
        torch.testing.assert_close(getattr(scaled, name), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.relative, found.frobenius / found.margin)
    torch.testing.assert_close(found.spectral_relative, found.spectral / found.margin)


@each_way
@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.sample
def test_norms_depend_on_neither_batch_nor_order(monkeypatch, projections, size):
    network, images = convolutions(), pictures()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    options = {"projections": projections}
    found = jacobian_norms(network, images, **options)
    monkeypatch.setitem(chunks.CHUNK, "cpu", size)
    other = jacobian_norms(network, images[order], examples=order, **options)
    for name, values in values_of(other).items():
        torch.testing.assert_close(values, getattr(found, name)[order], rtol=1e-5, atol=1e-6)


def test_other_examples_get_other_projections():
    network, images = convolutions(), pictures()
    found = jacobian_norms(network, images, projections=3)
    other = jacobian_norms(network, images, projections=3, examples=torch.arange(12) + 12)
    assert (found.square != other.square).all()
    torch.testing.assert_close(found.margin_gradient, other.margin_gradient)


@each_way
def test_the_network_stays_as_it_is(projections):
    network = convolutions().train()
    before = copy.deepcopy(network.state_dict())
    jacobian_norms(network, pictures(), projections=projections)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Constant(nn.Module):
    def forward(self, images):
        return torch.arange(4.0).expand(len(images), 4)


def test_the_nearest_boundary_need_not_be_the_runner_ups():
    network, images = Linear(), pictures()
    with torch.no_grad():
        network.weight[0] += 0.5  # the first class wins, and the second is much the same
        network.weight[1] = 0.9 * network.weight[0]
    weight, logits = network.weight.detach().double(), network(images).detach().double()
    best, runner_up = logits.argsort(1, descending=True)[:, :2].T
    slopes = (weight[best][:, None] - weight).norm(dim=2)
    distances = (logits.amax(1, keepdim=True) - logits) / slopes
    first = distances.gather(1, runner_up[:, None])[:, 0]
    nearest = distances.scatter(1, best[:, None], torch.inf).amin(1)
    assert (nearest < 0.99 * first).any()
    exact = jacobian_norms(network, images).distance
    torch.testing.assert_close(exact, nearest, rtol=1e-4, atol=1e-6)
    bound = jacobian_norms(network, images, projections=4).distance
    torch.testing.assert_close(bound, first, rtol=1e-4, atol=1e-6)


@each_way
def test_logits_that_no_image_moves_have_a_jacobian_of_zeros(projections):
    found = jacobian_norms(Constant(), pictures(), projections=projections)
    assert (found.frobenius == 0).all()
    assert (found.spectral == 0).all()
    assert found.distance.isinf().all()


@each_way
def test_what_cannot_be_measured_is_refused_in_a_sentence(projections):
    images = pictures()
    for network, sentence in (
        (Linear(classes=1), "a margin needs at least 2 logits, the network returns 1"),
        (
            Scaled(Linear(), torch.nan),
            "the network returns NaN or infinity; has its training diverged?",
        ),
    ):
        with pytest.raises(SelbenchError) as refused:
            jacobian_norms(network, images, projections=projections)
        assert str(refused.value) == sentence


def test_an_error_takes_two_projections():
    with pytest.raises(SelbenchError) as refused:
        jacobian_norms(Linear(), pictures(), projections=1)
    assert str(refused.value) == "standard errors need at least 2 projections, got 1"


@each_way
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_are_taken(dtype, projections):
    images = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    half = jacobian_norms(Half(dtype), images, projections=projections)
    full = jacobian_norms(Linear(), images, projections=projections)
    for name in FIELDS:
        close = {"rtol": 0.02, "atol": 0.05}
        torch.testing.assert_close(getattr(half, name), getattr(full, name), **close)


def test_bytes_may_be_given_by_keyword():
    pixels = (255 * torch.rand(4, 3, SIDE, SIDE)).to(torch.uint8)
    named = jacobian_norms(model=Linear(), images=pixels)
    assert torch.equal(named.frobenius, jacobian_norms(Linear(), pixels).frobenius)


def test_no_images_are_refused():
    with pytest.raises(SelbenchError, match=r"^the Jacobian needs an image, got none; give at"):
        jacobian_norms(Linear(), torch.zeros(0, 3, SIDE, SIDE))
