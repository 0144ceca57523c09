"""Class selectivity of a network's units over a data set, and its null."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench._kit import chunks
from selbench._kit.errors import SelbenchError
from selbench.analyses.selectivity import ClassSums, class_selectivity, labelings_of
from selbench.selectivity import RecordedUnits, selectivity_index


class Twice(nn.Module):
    """Two layers, one ReLU."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(3, 4, 1)
        self.linear = nn.Linear(4, 2)

    def forward(self, images):
        x = self.relu(self.relu(self.convolution(images)) - 0.1)
        return self.linear(x.mean((2, 3)))


class Identity(nn.Module):
    """Every channel of an image is a unit."""

    def forward(self, images):
        return F.relu(images).mean((2, 3))


class Pixels(nn.Module):
    """Every value of an image is a unit."""

    def forward(self, images):
        return F.relu(images.flatten(1))


def brute_force(units, labels):
    means = torch.stack([units[labels == label].double().mean(0) for label in labels.unique()])
    return selectivity_index(means, torch.ones(len(means), dtype=torch.bool))


@pytest.mark.parametrize("size", [7, 60])
def test_the_index_equals_the_definition_whatever_the_batch_size(size, monkeypatch):
    monkeypatch.setitem(chunks.BATCH, "cpu", size)
    generator = torch.Generator().manual_seed(5)
    model, images = Twice().eval(), torch.rand(60, 3, 8, 8, generator=generator)
    labels = torch.randint(10, (60,), generator=generator)
    layers = class_selectivity(model, images, labels, shuffles=3)
    assert [layer.layer.name for layer in layers] == ["relu", "relu:2"]
    with torch.inference_mode(), RecordedUnits() as recorded:
        model(images)
    own, *shuffled = labelings_of(labels, 3)
    assert torch.equal(own, labels)
    for layer, units in zip(layers, recorded.layers, strict=True):
        torch.testing.assert_close(layer.index, brute_force(units, labels), atol=1e-6, rtol=1e-5)
        null = torch.stack([brute_force(units, order) for order in shuffled])
        torch.testing.assert_close(layer.null, null, atol=1e-6, rtol=1e-5)


def test_shuffled_labels_are_the_same_labels_in_other_orders():
    labels = torch.arange(30) % 3
    labelings = labelings_of(labels, 4)
    assert labelings.shape == (5, 30)
    assert torch.equal(labelings.sort(1).values, labels.sort().values.expand(5, -1))
    assert len({tuple(row.tolist()) for row in labelings}) == 5


def test_known_units_have_known_indices():
    labels = torch.arange(30) % 3
    images = torch.full((30, 3, 2, 2), 0.25)
    images[:, 0] = (labels == 1).float()[:, None, None]  # responds to one class alone
    images[:, 2] = 0  # dead
    (layer,) = class_selectivity(Identity(), images, labels)
    assert layer.index.tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert layer.dead.tolist() == [False, False, True]


def test_null_shows_that_sampling_alone_scores_above_zero():
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(100, 3, 8, 8, generator=generator)
    (layer,) = class_selectivity(Pixels(), images, torch.arange(100) % 10, shuffles=20)
    # Units that know nothing of the classes: index and null have the same distribution.
    assert layer.index.mean().item() == pytest.approx(layer.null.mean().item(), abs=0.02)
    assert layer.null.mean() > 0.1


def test_bytes_and_floats_are_the_same_images():
    pixels = torch.randint(256, (40, 3, 4, 4), dtype=torch.uint8)
    labels = torch.arange(40) % 4
    (bytes_,) = class_selectivity(Pixels(), pixels, labels)
    (floats,) = class_selectivity(Pixels(), pixels / 255, labels)
    torch.testing.assert_close(bytes_.index, floats.index)


def test_one_class_has_no_selectivity():
    message = "^class selectivity needs images of at least 2 classes$"
    with pytest.raises(SelbenchError, match=message):
        class_selectivity(Identity(), torch.rand(5, 3, 2, 2), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(SelbenchError, match=message):
        class_selectivity(Identity(), torch.rand(0, 3, 2, 2), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(SelbenchError, match=message):
        ClassSums([], torch.zeros(1, 0, dtype=torch.int64), 2).measure()


def test_negative_units_are_refused_with_their_layer():
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    images = torch.rand(20, 3, 2, 2) - 2
    message = r"^layer 1 \(0\): unit \d responds with -1\..* use the outputs of ReLUs$"
    with pytest.raises(SelbenchError, match=message):
        class_selectivity(model, images, torch.arange(20) % 2, layers="^0$")


def test_units_that_are_not_finite_name_their_layer():
    model = Twice()
    model.convolution.bias.data[1] = torch.nan
    with pytest.raises(SelbenchError, match=r"^layer 1 \(relu\) returns NaN or infinity; has"):
        class_selectivity(model, torch.rand(20, 3, 4, 4), torch.arange(20) % 2)
