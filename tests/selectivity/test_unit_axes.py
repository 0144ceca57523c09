"""Units are where weights made them, in whatever layout: known widths, known values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench.analyses.gradients import gradient_norms, input_gradients
from selbench.analyses.layers import activations, find_layers, missed_activations, recording
from selbench.analyses.selectivity import class_selectivity
from selbench.selectivity import RecordedUnits

UNITS = 6
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Acting(nn.Module):
    """Patches of 4 x 4 pixels, each a vector of 5, and what a subclass makes of them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 5, 4, stride=4)
        self.linear, self.norm = nn.Linear(5, UNITS), nn.LayerNorm(UNITS)
        self.conv, self.sequence = nn.Conv2d(5, UNITS, 1), nn.Conv1d(5, UNITS, 1)
        self.group, self.batch = nn.GroupNorm(2, UNITS), nn.BatchNorm1d(UNITS)
        self.tokens, self.relu = nn.Linear(4, UNITS), nn.ReLU()
        self.weight = nn.Parameter(torch.randn(5, UNITS))
        self.register_buffer("table", torch.rand(1, 2, 2, 5))

    def forward(self, images):
        return self.acted(self.patches(images))


class ChannelsLast(Acting):
    def acted(self, x):  # images, height, width, units
        return self.relu(self.linear(x.permute(0, 2, 3, 1)))

    expected = staticmethod(lambda y: y.mean((1, 2)))


class Normalised(Acting):
    def acted(self, x):
        return self.relu(self.norm(self.linear(x.permute(0, 2, 3, 1))))

    expected = staticmethod(lambda y: y.mean((1, 2)))


class PermutedBack(Acting):
    def acted(self, x):  # images, units, height, width
        return self.relu(self.linear(x.movedim(1, -1)).permute(0, 3, 1, 2))

    expected = staticmethod(lambda y: y.mean((2, 3)))


class Maps(Acting):
    def acted(self, x):
        return self.relu(self.group(self.conv(x)))

    expected = staticmethod(lambda y: y.mean((2, 3)))


class TurnedMaps(Acting):
    def acted(self, x):  # images, height, width, units, made by a convolution
        return self.relu(self.conv(x).permute(0, 2, 3, 1))

    expected = staticmethod(lambda y: y.mean((1, 2)))


class Tokens(Acting):
    def acted(self, x):  # images, tokens, units
        return self.relu(self.linear(x.flatten(2).transpose(1, 2)))

    expected = staticmethod(lambda y: y.mean(1))


class MixedTokens(Acting):
    def acted(self, x):  # images, channels, units: weights mix tokens
        return self.relu(self.tokens(x.flatten(2)))

    expected = staticmethod(lambda y: y.mean(1))


class Sequence(Acting):
    def acted(self, x):  # images, units, tokens
        return self.relu(self.batch(self.sequence(x.flatten(2))))

    expected = staticmethod(lambda y: y.mean(2))


class TokensFirst(Acting):
    def acted(self, x):  # tokens, images, units
        return self.relu(self.linear(x.flatten(2).permute(2, 0, 1)))

    expected = staticmethod(lambda y: y.mean(0))


class Windows(Acting):
    def acted(self, x):  # images with windows, tokens, units
        x = x.permute(0, 2, 3, 1).reshape(-1, 2, 5)
        return self.relu(self.linear(x))

    expected = staticmethod(lambda y: y.reshape(-1, 2, 2, UNITS).mean((1, 2)))


class Rows(Acting):
    def acted(self, x):  # images with tokens, units
        return self.relu(self.linear(x.permute(0, 2, 3, 1).reshape(-1, 5)))

    expected = staticmethod(lambda y: y.reshape(-1, 4, UNITS).mean(1))


class Einsum(Acting):
    def acted(self, x):
        return self.relu(torch.einsum("bchw,cu->bhuw", x, self.weight))

    expected = staticmethod(lambda y: y.mean((1, 3)))


class Product(Acting):
    def acted(self, x):
        return self.relu(x.flatten(2).mT @ self.weight)

    expected = staticmethod(lambda y: y.mean(1))


class ProductFromTheLeft(Acting):
    def acted(self, x):
        return self.relu(self.weight.T @ x.flatten(2))

    expected = staticmethod(lambda y: y.mean(2))


class Heads(Acting):
    def acted(self, x):  # images, heads, tokens, units of a head
        x = self.linear(x.flatten(2).mT).reshape(len(x), -1, 2, UNITS // 2)
        return self.relu(x.transpose(1, 2))

    expected = staticmethod(lambda y: y.mean(2).flatten(1))


class Pooled(Acting):
    def acted(self, x):
        return self.relu(F.avg_pool1d(self.linear(x.flatten(2).mT).mT, 2).mean(2))

    expected = staticmethod(lambda y: y)


class Beside(Acting):
    """Also activates a table that is the same for all images, as Swin's second version does."""

    def acted(self, x):
        bias = self.relu(self.linear(self.table)).mean()
        return self.relu(self.linear(x.permute(0, 2, 3, 1)) + bias)

    expected = staticmethod(lambda y: y.mean((1, 2)))


LAYOUTS = [each for each in Acting.__subclasses__() if each.__module__ == __name__]


@pytest.mark.parametrize("batch", [1, UNITS])
@pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.__name__)
@pytest.mark.sample("kind")
def test_units_are_found_where_weights_made_them(kind, batch):
    model = kind().eval()
    images = IMAGES[torch.arange(batch) % len(IMAGES)]
    (layer,) = find_layers(model, images)
    assert layer.units == UNITS
    with torch.no_grad():
        expected = model.expected(model(images))
        with RecordedUnits() as recorded:
            model(images)
    if kind is not Beside:  # without the network at hand, its table could be images
        assert len(recorded.layers) == 1
        torch.testing.assert_close(recorded.layers[0], expected)
    ((units,),) = activations(model, (images,), None, "units", [layer])
    torch.testing.assert_close(units[0], expected)
    ((named,),) = activations(model, (images,), "relu", "units", [layer])
    assert torch.equal(named[0], units[0])
    ((maps,),) = activations(model, (images,), None, "maps", [layer])
    assert len(maps[0]) == batch


@pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.__name__)
def test_every_analysis_finds_the_same_units(kind):
    model = kind().eval()
    (index,) = class_selectivity(model, IMAGES, torch.tensor([0, 0, 1, 1]))
    (exact,) = gradient_norms(model, IMAGES)
    (probed,) = input_gradients(model, IMAGES, estimator="probes", probes=8)
    assert len(index.index) == exact.shape[1] == len(probed.unit_norms) == UNITS
    assert probed.unit_norms.tolist() == pytest.approx(exact.mean(0).tolist(), rel=0.5, abs=1e-6)
    points = IMAGES.clone().requires_grad_()
    unit = model.expected(model(points))[:, 2].sum()
    (gradient,) = torch.autograd.grad(unit, points)
    torch.testing.assert_close(exact[:, 2], gradient.flatten(1).norm(dim=1))


def test_the_regulariser_pulls_at_the_same_units():
    model = ChannelsLast()
    with RecordedUnits() as recorded:
        output = model(IMAGES)
    recorded.layers[0].square().sum().backward()
    found = model.linear.weight.grad.clone()
    model.zero_grad()
    model.expected(model(IMAGES)).square().sum().backward()
    torch.testing.assert_close(found, model.linear.weight.grad)
    assert output.shape == (4, 2, 2, UNITS)


class Ending(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, UNITS, 3), act

    def forward(self, images):
        return self.act(self.conv(images)).mean((2, 3))


@pytest.mark.parametrize(
    "act",
    [
        nn.ReLU6(),
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        nn.Softplus(),
        nn.Hardtanh(0, 2),
        nn.Threshold(0.1, 0.0),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp_(0, 1),
        lambda x: torch.clamp(x, 0),
        lambda x: x.clip(min=0.0),
        lambda x: x.clamp_min(0),
        lambda x: torch.maximum(x, torch.zeros(())),
        lambda x: torch.max(x, torch.zeros_like(x)),
        F.relu6,
        torch.sigmoid_,
        torch.special.expit,
    ],
)
def test_activations_that_are_never_negative_are_layers(act):
    (layer,) = find_layers(Ending(act), IMAGES)
    assert layer.shape == (UNITS, 6, 6)
    assert missed_activations(Ending(act), IMAGES) == {}


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (nn.GELU(), "gelu"),
        (nn.SiLU(inplace=True), "silu"),
        (nn.Hardswish(), "hardswish"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.PReLU(), "prelu"),
        (nn.ELU(inplace=True), "elu"),
        (nn.Tanh(), "tanh"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.Mish(), "mish"),
        (nn.LogSigmoid(), "log_sigmoid"),
        (F.softsign, "softsign"),
        (lambda x: x.tanh_(), "tanh"),
    ],
)
def test_activations_that_can_be_negative_are_named(act, kind):
    assert missed_activations(Ending(act), IMAGES) == {kind: 1}
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Sequential(Ending(act)))
    model[2][0].conv = nn.Conv2d(4, 4, 3)
    where = "2.0.act" if isinstance(act, nn.Module) else "2.0"
    message = rf"^1 of 2 activations are analysed; not {kind} in {where}, which can be negative: "
    with pytest.warns(RuntimeWarning, match=message):
        find_layers(model, IMAGES)


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-6),
        lambda x: x.clamp(-1, 1),
        lambda x: x.clamp(max=1),
        F.normalize,
        lambda x: x.softmax(1),
    ],
)
def test_what_only_keeps_numbers_in_range_is_no_activation(act):
    assert missed_activations(Ending(act), IMAGES) == {}
    model = nn.Sequential(Ending(act), nn.ReLU())
    assert [layer.name for layer in find_layers(model, IMAGES)] == ["1"]


def test_images_that_are_clamped_are_no_layer():
    class Clamping(Ending):
        def forward(self, images):
            return super().forward(images.clamp(0, 1))

    assert [layer.name for layer in find_layers(Clamping(nn.ReLU()), IMAGES)] == ["act"]


def test_a_module_that_looks_at_no_image_is_left_out_of_a_pattern():
    model = Beside().eval()
    assert [layer.name for layer in find_layers(model, IMAGES, "linear")] == ["linear"]
    with torch.no_grad(), recording(model, "linear") as recorded:
        model(IMAGES)
    assert [each.shape for each in recorded] == [(4, UNITS)]
