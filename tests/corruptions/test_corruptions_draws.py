"""The random numbers: right distribution, no visible pattern, the same whatever the batch."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from corruptions.draws import KeyedDraws

EXAMPLES, PER_EXAMPLE = 100, 1000


def keyed(examples: int | torch.Tensor = EXAMPLES, key: str = "key") -> KeyedDraws:
    return KeyedDraws(key, torch.arange(examples) if isinstance(examples, int) else examples)


def assert_uncorrelated(first: torch.Tensor, second: torch.Tensor) -> None:
    pairs = torch.stack((first.flatten(), second.flatten())).double()
    assert abs(torch.corrcoef(pairs)[0, 1]) < 4.5 / math.sqrt(pairs.shape[1])


def test_splitmix_reference_values():
    # the first outputs of SplitMix64 from state 1234567, as its author published them
    from corruptions.draws import _STEP, _scrambled

    state = torch.tensor([1234567]) + _STEP * torch.arange(1, 4)
    words = [int(word) % 2**64 for word in _scrambled(state)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_distribution():
    values = keyed().uniform(-2, 3, PER_EXAMPLE)
    assert values.shape == (EXAMPLES, PER_EXAMPLE)
    assert values.dtype == torch.float32
    assert values.min() >= -2
    assert values.max() < 3
    assert stats.kstest(values.flatten().numpy(), stats.uniform(-2, 5).cdf).pvalue > 1e-3


def test_normal_distribution():
    values = keyed().normal(PER_EXAMPLE).double()
    count = values.numel()
    assert abs(values.mean()) < 4 / math.sqrt(count)
    assert abs(values.var() - 1) < 4 * math.sqrt(2 / count)
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(values.square().flatten().numpy(), stats.chi2(1).cdf).pvalue > 1e-3


def test_normal_tails_are_there():
    values = keyed(1000).normal(2000)
    beyond = (values.abs() > 4).sum().item()
    expected = 2 * stats.norm.sf(4) * values.numel()
    assert abs(beyond - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_neighbours_are_uncorrelated(law):
    draws = keyed()
    values = draws.normal(PER_EXAMPLE) if law == "normal" else draws.uniform(0, 1, PER_EXAMPLE)
    later = draws.normal(PER_EXAMPLE) if law == "normal" else draws.uniform(0, 1, PER_EXAMPLE)
    half = PER_EXAMPLE // 2
    assert_uncorrelated(values[:-1], values[1:])  # examples
    assert_uncorrelated(values[:, :-1], values[:, 1:])  # places
    assert_uncorrelated(values[:, :half], values[:, half:])  # halves of a word, parts of a pair
    assert_uncorrelated(values[:, :half].square(), values[:, half:].square())
    assert_uncorrelated(values, later)  # calls


def test_similar_keys_are_uncorrelated():
    first, second = (keyed(key=f"snow/1/{seed}").normal(PER_EXAMPLE) for seed in (0, 1))
    assert_uncorrelated(first, second)


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-1, 1), (-4, 4), (0, 637)])
def test_integers_are_equally_likely(low, high):
    values = keyed().integers(low, high, PER_EXAMPLE).flatten()
    counts = torch.bincount(values - low, minlength=high - low)
    assert len(counts) == high - low
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_integers_with_a_bound_of_each_example():
    bounds = torch.arange(1, EXAMPLES + 1)
    values = keyed().integers(0, bounds, PER_EXAMPLE)
    assert torch.equal(values.amax(1), bounds - 1)
    assert (values >= 0).all()


@pytest.mark.parametrize("peak", [500, 60, 3])
def test_poisson_inverts_the_distribution_function(peak):
    levels = torch.arange(256, dtype=torch.uint8).repeat(12).view(1, 3, 32, 32).repeat(20, 1, 1, 1)
    counts = keyed(20).poisson(levels, peak)
    uniform = keyed(20)._words(levels[0].numel()).double() / 2**32 + 0.5
    means = peak * levels.double().numpy() / 255
    expected = stats.poisson.ppf(uniform.view(levels.shape).numpy(), means)
    np.testing.assert_array_equal(counts.numpy(), np.maximum(expected, 0))


def test_words_belong_to_the_example():
    whole = keyed()
    part = keyed(torch.tensor([70, 3]))
    for shape in ((5,), (2, 3), (), (7,)):
        picked = whole.normal(*shape)[[70, 3]]
        assert torch.equal(part.normal(*shape), picked)
        assert picked.shape == (2, *shape)
    assert torch.equal(part.integers(0, 9), whole.integers(0, 9)[[70, 3]])


def test_far_examples_have_streams_too():
    values = keyed(torch.tensor([0, 2**31, 2**32, 2**62])).uniform(0, 1, 1)
    assert len(values.unique()) == 4
