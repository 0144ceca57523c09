"""Temperatures and g-layers, fitted to logits whose calibration is known."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from selbench._kit.errors import SelbenchError
from selbench.statistics.calibration import by_chance, ks_error
from selbench.statistics.logit_layers import FITS, LOWEST, RANGE, compact, g_layer, temperature

FITTED = 3000  # of the images below, the first; the others test
SHIFT = torch.linspace(-2, 2, 5, dtype=torch.float64)


def calibrated(n=8000, seed=0):
    """Return logits of five classes, and labels drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


def mended(fit, logits, labels):
    """Return the further images' logits after a fit to the first."""
    return fit(logits[:FITTED], labels[:FITTED])(logits[FITTED:])


def beyond_chance(logits, labels):
    """Return the KS error as a multiple of that of a calibrated network."""
    confidences, predictions = logits.softmax(1).max(1)
    return ks_error(confidences, predictions == labels) / by_chance(confidences).ks


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 12.0])
def test_a_known_factor_is_found_and_mended(factor):
    logits, labels = calibrated()
    wrong = factor * logits
    layer = temperature(wrong[:FITTED], labels[:FITTED])
    assert layer.weight.diagonal() * factor == pytest.approx(torch.ones(5), rel=0.05)
    assert torch.equal(layer.weight, layer.weight.diagonal().diag())
    assert not layer.bias.any()
    for fit in FITS.values():
        assert beyond_chance(mended(fit, wrong, labels), labels[FITTED:]) < 2
    if factor != 1:
        assert beyond_chance(wrong[FITTED:], labels[FITTED:]) > 5


def test_a_factor_of_the_logits_changes_nothing_after_the_fit():
    logits, labels = calibrated(400)
    for fit in FITS.values():
        one, other = fit(logits, labels)(logits), fit(4 * logits, labels)(4 * logits)
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_a_shift_of_classes_is_mended_by_a_g_layer_alone():
    logits, labels = calibrated()
    wrong, rest = logits + SHIFT, labels[FITTED:]
    calm, layered = mended(temperature, wrong, labels), mended(g_layer, wrong, labels)
    assert beyond_chance(layered, rest) < 2
    assert beyond_chance(wrong[FITTED:], rest) > 5
    truth = functional.cross_entropy(logits[FITTED:], rest)
    assert functional.cross_entropy(layered, rest) < truth + 0.01
    assert functional.cross_entropy(calm, rest) > truth + 0.1
    bias = g_layer(wrong[:FITTED], labels[:FITTED]).bias
    torch.testing.assert_close(bias - bias.mean(), -SHIFT, atol=0.2, rtol=0)


def test_a_temperature_keeps_predictions_and_a_g_layer_may_change_them():
    logits, labels = calibrated()
    wrong, rest = logits + SHIFT, labels[FITTED:]
    predictions = wrong[FITTED:].argmax(1)
    assert torch.equal(mended(temperature, wrong, labels).argmax(1), predictions)
    after = mended(g_layer, wrong, labels).argmax(1)
    assert (after == rest).double().mean() > (predictions == rest).double().mean() + 0.05


def test_classes_that_swapped_are_put_right_by_weights():
    logits, labels = calibrated()
    layered = mended(g_layer, logits[:, [1, 0, 2, 3, 4]], labels)
    right = (layered.argmax(1) == labels[FITTED:]).double().mean().item()
    best = (logits[FITTED:].argmax(1) == labels[FITTED:]).double().mean().item()
    assert right == pytest.approx(best, abs=0.03)


def test_a_calibrated_network_is_left_as_it_is():
    logits, labels = calibrated()
    lowered = logits[FITTED:] - logits[FITTED:].amax(1, keepdim=True)
    for fit in FITS.values():
        change = (mended(fit, logits, labels).softmax(1) - lowered.softmax(1)).abs()
        assert change.mean() < 0.01


def test_a_g_layer_of_few_images_stays_nearer_to_the_temperature_than_one_of_many():
    def moved(n):
        logits, labels = calibrated(n, seed=3)
        wrong = logits + SHIFT
        one, other = (fit(wrong, labels).bias for fit in (temperature, g_layer))
        return (one - other).norm()

    assert moved(15) < moved(150) < moved(5000)


@pytest.mark.parametrize("fit", FITS.values())
def test_a_fit_depends_neither_on_what_is_added_nor_on_order_nor_on_the_call(fit):
    logits, labels = calibrated(300)
    layer = fit(logits, labels)
    added = torch.arange(300.0)[:, None]
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = fit(logits, labels)
    assert torch.equal(same.weight, layer.weight)
    assert torch.equal(same.bias, layer.bias)
    for other in (fit(logits + added, labels), fit(logits[order], labels[order])):
        torch.testing.assert_close(other(logits), layer(logits), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(layer(logits + added), layer(logits))


@pytest.mark.parametrize("fit", FITS.values())
def test_compact_logits_give_the_same_confidences(fit):
    logits, labels = calibrated(300)
    kept = compact(100 + 3 * logits.float())
    assert kept.dtype == torch.float16
    assert not kept.amax(1).any()
    one, other = fit(3 * logits, labels)(3 * logits), fit(kept, labels)(kept)
    torch.testing.assert_close(one.softmax(1), other.softmax(1), atol=2e-3, rtol=0)


def test_logits_beyond_half_precision_become_the_lowest_and_nan_stays():
    given = torch.tensor([[1e9, 0.0], [0.0, -torch.inf], [1.0, torch.nan]])
    kept = compact(given)
    assert kept[:2].tolist() == [[0, LOWEST], [0, LOWEST]]
    assert kept[2].isnan().all()


@pytest.mark.parametrize("fit", FITS.values())
def test_networks_that_are_always_or_never_right_have_finite_confidences(fit):
    labels = torch.arange(30) % 3
    sure = functional.one_hot(labels, 3).double()
    for logits in (sure, -sure, torch.zeros(30, 3), 1e6 * sure):
        probabilities = fit(logits, labels)(logits).softmax(1)
        assert probabilities.isfinite().all()
    assert temperature(sure, labels).weight[0, 0] == pytest.approx(RANGE, rel=1e-3)
    assert temperature(-sure, labels).weight[0, 0] == pytest.approx(1 / RANGE, rel=1e-3)
    even = fit(torch.zeros(30, 3), labels)(torch.zeros(30, 3)).softmax(1)
    assert even == pytest.approx(np.full((30, 3), 1 / 3), abs=1e-6)


@pytest.mark.parametrize("fit", FITS.values())
def test_few_images_and_one_class_are_refused(fit):
    logits, labels = calibrated(20)
    with pytest.raises(SelbenchError, match=r"^recalibration needs at least 10 examples, got 9; "):
        fit(logits[:9], labels[:9])
    message = r"^all 20 images to fit to are of class 2, which says nothing about the others; hold "
    with pytest.raises(SelbenchError, match=message):
        fit(logits, torch.full((20,), 2))


def test_a_temperature_is_where_cross_entropy_is_least():
    logits, labels = calibrated(500)
    found = math.log(temperature(logits, labels).weight[0, 0])
    losses = [
        functional.cross_entropy(logits * math.exp(found + step), labels).item()
        for step in (-0.01, 0, 0.01)
    ]
    assert min(losses) == losses[1]


# Cross-entropies in docs/calibration.md: as it is, after a temperature, after a g-layer.
NUMBERS = {
    (20, 0): [0.904, 0.916, 0.968],
    (100, 0): [0.904, 0.908, 0.922],
    (1000, 0): [0.904, 0.904, 0.905],
    (20, 1): [1.455, 1.234, 1.031],
    (100, 1): [1.455, 1.224, 0.925],
    (1000, 1): [1.455, 1.220, 0.905],
}


def losses_after(n, shift, seed):
    """Return cross-entropies of further images, before and after fits to `n` images."""
    logits, labels = calibrated(6000, seed)
    wrong, rest = logits + shift * SHIFT, slice(1000, 6000)
    layers = [fit(wrong[:n], labels[:n]) for fit in FITS.values()]
    return [
        functional.cross_entropy(each(wrong[rest]), labels[rest]).item()
        for each in (torch.nn.Identity(), *layers)
    ]


@pytest.mark.parametrize(("n", "shift"), NUMBERS)
@pytest.mark.soak
def test_few_images_favour_a_temperature(n, shift):
    found = np.mean([losses_after(n, shift, seed) for seed in range(10)], 0)
    assert found == pytest.approx(NUMBERS[n, shift], abs=0.006)


def test_few_images_favour_a_temperature_where_classes_are_not_shifted():
    _, calm, layered = losses_after(20, 0, 0)
    assert calm < layered
    _, calm, layered = losses_after(200, 1, 0)
    assert layered < calm - 0.1
