"""The class selectivity index, its regulariser and its measurement."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.selectivity import (
    RecordedUnits,
    class_means,
    mean_selectivity,
    recording,
    selectivity_index,
    spatial_mean,
)

ALL = torch.ones(4, dtype=torch.bool)


def test_tests_check_the_shapes_that_annotations_say():
    with pytest.raises(TypeCheckError, match=r"checking the parameters of .*class_means"):
        class_means(torch.ones(6, 4), torch.zeros(5, dtype=torch.long), 3)


def brute_force_index(units, labels):
    """Follow the definition word by word, one unit at a time."""
    values = []
    for unit in units.T:
        means = [unit[labels == label].mean().item() for label in labels.unique()]
        largest = max(means)
        means.remove(largest)
        rest = sum(means) / len(means)
        values.append((largest - rest) / (largest + rest + 1e-7))
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("means", "index"),
    [
        ([1.0, 0, 0, 0], 1.0),
        ([3.0, 3, 3, 3], 0.0),
        ([0.0, 0, 0, 0], 0.0),
        ([3.0, 1, 1, 1], 0.5),
        ([0.0, 2, 6, 1], (6 - 1) / (6 + 1)),
    ],
)
def test_index_has_its_closed_form(means, index):
    assert selectivity_index(torch.tensor(means)[:, None], ALL).item() == pytest.approx(
        index, abs=1e-6
    )


def test_index_leaves_absent_classes_out():
    means = torch.tensor([[3.0], [1.0], [0.0], [0.0]])
    present = torch.tensor([True, True, False, False])
    assert selectivity_index(means, present).item() == pytest.approx(0.5)


def test_one_class_alone_tells_no_selectivity():
    units, labels = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)), torch.ones(6)
    means, present = class_means(units, labels.long(), 4)
    assert torch.equal(selectivity_index(means, present), torch.zeros(3))
    assert mean_selectivity([units], labels.long(), 4) == 0


def test_index_is_invariant_to_scale_and_class_order():
    means = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)) + 0.1
    index = selectivity_index(means, ALL)
    torch.testing.assert_close(selectivity_index(1000 * means, ALL), index, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(selectivity_index(means.flip(0), ALL), index)


def test_class_means_are_means_not_sums():
    units = torch.tensor([[1.0], [1.0], [1.0], [4.0]])
    labels = torch.tensor([0, 0, 0, 2])
    means, present = class_means(units, labels, 3)
    assert means.flatten().tolist() == [1, 0, 4]
    assert present.tolist() == [True, False, True]


def test_regulariser_averages_within_layers_before_it_averages_layers():
    labels = torch.tensor([0, 1])
    selective, flat = torch.tensor([[1.0], [0.0]]), torch.ones(2, 9)
    assert mean_selectivity([selective, flat], labels, 2).item() == pytest.approx(0.5, abs=1e-5)


def test_regulariser_equals_the_definition_on_a_random_batch():
    generator = torch.Generator().manual_seed(1)
    layers = [torch.rand(40, width, generator=generator) for width in (3, 7)]
    labels = torch.randint(10, (40,), generator=generator)
    expected = torch.stack([brute_force_index(units, labels).mean() for units in layers]).mean()
    torch.testing.assert_close(mean_selectivity(layers, labels, 12), expected)


def test_following_the_regularisers_gradient_raises_selectivity():
    generator = torch.Generator().manual_seed(2)
    units = (torch.rand(60, 5, generator=generator) + 0.5).requires_grad_()
    labels = torch.arange(60) % 10
    before = mean_selectivity([units], labels, 10)
    (gradient,) = torch.autograd.grad(before, units)
    assert mean_selectivity([units + 0.1 * gradient], labels, 10) > before
    assert mean_selectivity([units - 0.1 * gradient], labels, 10) < before


def test_gradient_stays_finite_where_units_are_dead():
    units = torch.zeros(6, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(mean_selectivity([units], torch.arange(6) % 3, 3), units)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_spatial_mean_and_its_gradient_do_not_depend_on_memory_format(dtype):
    maps = torch.rand(3, 4, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(4))
    weights = weights.to(torch.promote_types(dtype, torch.float32))
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = maps.to(dtype).contiguous(memory_format=layout).requires_grad_()
        mean = spatial_mean(leaf)
        (gradient,) = torch.autograd.grad((mean * weights).sum(), leaf)
        results.append((mean, gradient.float()))
    assert results[0][0].dtype == torch.promote_types(dtype, torch.float32)
    precision = {torch.float64: 1e-6, torch.bfloat16: 2e-3}[dtype]
    torch.testing.assert_close(results[1], results[0], rtol=precision, atol=0)
    expected = weights[:, :, None, None].float().expand(3, 4, 6, 5) / 30
    torch.testing.assert_close(results[1][1], expected, rtol=1e-2, atol=0)


RELUS = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": torch.Tensor.relu,
    "module": nn.ReLU(),
    "a named place": lambda maps: torch.relu(input=maps),
    "in place": lambda maps: F.relu(maps, True),
    "module in place": nn.ReLU(inplace=True),
    "relu_": torch.relu_,
}


@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.sample
def test_units_have_the_bits_of_a_relu_and_a_mean_one_after_the_other(
    relu, dtype, layout, monkeypatch
):
    generator = torch.Generator().manual_seed(5)
    shape = (40, 16, 16, 16)
    monkeypatch.setattr(recording, "CACHED", 180_000)  # three parts and a half in float32
    maps = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=layout)
    maps[3, 2] = -1  # a unit that one image leaves silent
    weights = torch.randn(shape, generator=generator).to(dtype), torch.randn(40, 16)

    def told(recorded):
        leaf = maps.clone(memory_format=torch.preserve_format).requires_grad_()
        if recorded:
            with RecordedUnits() as found:
                output = RELUS[relu](leaf * 1)
            units = found.layers[0]
        else:
            output = RELUS[relu](leaf * 1)
            units = spatial_mean(output)
        used = output * weights[0]  # created later than the mean, as in every network
        (gradient,) = torch.autograd.grad(used.float().sum() + (units * weights[1]).sum(), leaf)
        return output, units, gradient, units.grad_fn.name()

    (*one, fused), (*other, _) = told(True), told(False)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    usual = "place" not in relu and relu != "relu_"
    expected = usual and layout == torch.channels_last and dtype != torch.float16
    assert (fused == "_ReluAndMeanBackward") == expected


def test_spatial_mean_is_float32_even_for_bfloat16_maps():
    maps = torch.full((1, 1, 32, 32), 1.0, dtype=torch.bfloat16)
    maps[0, 0, 0, 0] = 2
    assert spatial_mean(maps).item() == pytest.approx(1 + 1 / 1024, abs=1e-6)


def test_spatial_mean_of_float16_maps_does_not_leave_their_range():
    maps = torch.full((1, 2, 112, 112), 1000.0, dtype=torch.float16)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert (spatial_mean(maps.contiguous(memory_format=layout)) == 1000).all()


class Reused(nn.Module):
    """One ReLU module called twice, one functional call, one in place; the logits see none."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(3, 4, 1)
        self.linear = nn.Linear(4, 2)

    def forward(self, images):
        x = self.relu(self.convolution(images))
        x = self.relu(x - 0.1)
        x = F.relu(x - 0.1)
        x = (x - 0.1).relu_()
        return self.linear(x.mean((2, 3)))


def test_every_relu_call_is_a_layer_and_logits_are_none():
    with RecordedUnits() as recorded:
        Reused()(torch.rand(5, 3, 8, 8))
    assert [tuple(layer.shape) for layer in recorded.layers] == [(5, 4)] * 4


def test_recording_does_not_change_the_logits():
    model, images = Reused(), torch.rand(5, 3, 8, 8)
    with RecordedUnits():
        recorded = model(images)
    assert torch.equal(recorded, model(images))


def test_regulariser_trains_through_a_network():
    model, images = Reused(), torch.rand(8, 3, 8, 8)
    with RecordedUnits() as recorded:
        model(images)
    mean_selectivity(recorded.layers, torch.arange(8) % 2, 2).backward()
    gradient = model.convolution.weight.grad
    assert gradient.abs().sum() > 0
    assert model.linear.weight.grad is None


def test_minibatch_bias_is_that_of_the_protocol():
    # Uninformative units of coefficient of variation 0.7, 10 classes, batch 256: 0.11 on average.
    generator = torch.Generator().manual_seed(8)
    shape = 1 / 0.7**2
    uniform = torch.distributions.Gamma(shape, shape)
    torch.manual_seed(8)
    units = uniform.sample((256, 2000))
    labels = torch.randint(10, (256,), generator=generator)
    assert mean_selectivity([units], labels, 10).item() == pytest.approx(0.11, abs=0.01)


def test_a_unit_with_a_negative_mean_is_refused():
    message = (
        r"^unit 2 responds with -0.5 on average to a class, and the class selectivity index needs "
        "activity that is not negative; use the outputs of ReLUs$"
    )
    means = torch.tensor([[1.0, 2.0], [0.5, -0.5]])
    with pytest.raises(SelbenchError, match=message):
        selectivity_index(means, torch.tensor([True, True]))
    absent = selectivity_index(means, torch.tensor([True, False]))
    assert absent.shape == (2,)
