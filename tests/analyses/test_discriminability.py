"""Mutual information and d' of units: closed forms, and independent sketches to 1e-6."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from selbench import discriminability, mutual_information
from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.suites import SUITES, Setting

LABELS = torch.arange(40) % 4


@pytest.fixture
def units():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(40, 7, generator=generator) + 0.3 * LABELS[:, None] * torch.arange(7)


def test_information_is_that_of_scikit_learn(units):
    for bins in (1, 3, 16):
        found = mutual_information(units, LABELS, 4, bins=bins)
        for unit, own in zip(units.double().numpy().T, found, strict=True):
            edges = np.linspace(unit.min(), unit.max(), bins + 1)[1:-1]
            expected = mutual_info_score(LABELS, np.digitize(unit, edges)) / math.log(2)
            assert own.item() == pytest.approx(expected, abs=1e-6)


def test_information_has_its_closed_forms():
    knowing, half = LABELS.float(), (LABELS > 1).float()
    for unit, bits in (
        (knowing, 2.0),
        (half, 1.0),
        (torch.ones(40), 0.0),
        (1e9 + knowing.double(), 2),
    ):
        found = mutual_information(unit.double()[:, None], LABELS, 4)
        assert found.item() == pytest.approx(bits, abs=1e-6)


def test_many_units_are_as_few(units, monkeypatch):
    whole = mutual_information(units, LABELS, 4)
    monkeypatch.setattr("selbench.analyses.discriminability.COUNTED", 100)
    assert torch.equal(mutual_information(units, LABELS, 4), whole)


def test_d_prime_is_that_of_the_definition(units):
    labels = LABELS.clone()
    labels[:7] = 0  # classes of unlike sizes
    far = 1000 + units
    found = discriminability(far, labels, 6)  # of which two have no image
    for unit, own in zip(far.double().numpy().T, found, strict=True):
        means = [unit[labels == label].mean() for label in range(4)]
        best = (labels == int(np.argmax(means))).numpy()
        scale = math.sqrt((unit[best].var() + unit[~best].var()) / 2)
        expected = (unit[best].mean() - unit[~best].mean()) / scale
        assert own.item() == pytest.approx(expected, rel=1e-9)
    exact = discriminability(1000 + units.double(), labels, 4)
    assert torch.allclose(exact, discriminability(units.double(), labels, 4), rtol=1e-9)


def test_d_prime_has_its_closed_forms():
    apart = torch.tensor([1.0, 3, 6, 8])[:, None]  # means 2 and 7, deviations of 1
    assert discriminability(apart, torch.tensor([0, 0, 1, 1]), 2).item() == pytest.approx(5)
    still, between = torch.ones(4, 1), torch.tensor([1.0, 1, 0, 0])[:, None]
    assert discriminability(still, torch.tensor([0, 0, 1, 1]), 2).item() == 0
    assert discriminability(between, torch.tensor([0, 0, 1, 1]), 2).isnan().all()


def test_what_has_no_index_is_refused():
    with pytest.raises(SelbenchError, match="needs examples of at least 2 classes"):
        discriminability(torch.rand(4, 2), torch.zeros(4, dtype=torch.long), 3)
    for index in (discriminability, mutual_information):
        with pytest.raises(SelbenchError, match="labels are in 0 to 1 for 2 classes, got 0 to 3"):
            index(torch.rand(40, 2), LABELS, 2)
        with pytest.raises(SelbenchError, match="hold NaN or infinity"):
            index(torch.full((40, 2), torch.nan), LABELS, 4)
        with pytest.raises(SelbenchError, match="at least 1 example"):
            index(torch.rand(0, 2), LABELS[:0], 4)


def test_the_suite_tells_them_of_layers_beside_shuffled_labels():
    (piece,) = (each for each in SUITES["selectivity"](Setting(32, 32)) if each.name == "indices")
    responses = torch.full((40, 3, 4, 4), 25, dtype=torch.uint8)
    responses[torch.arange(40), LABELS % 3] = (100 + torch.arange(40))[:, None, None].byte()
    split = make_split(responses, LABELS)

    class Channels(torch.nn.Module):
        def forward(self, images):
            return torch.relu(images).mean((2, 3))

    rows = {(row.metric, row.layer): row.value for row in piece.measure(Channels(), split, 4)}
    activity = torch.relu(split.images.float() / 255).mean((2, 3))
    for name, index in (("mutual_information", mutual_information), ("d_prime", discriminability)):
        assert rows[name, 1] == pytest.approx(index(activity, LABELS, 4).mean().item(), rel=1e-5)
        assert rows[name, None] == rows[name, 1]
        assert 0 < rows[f"{name}_null", 1] < rows[name, 1]
