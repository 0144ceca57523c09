"""Randomised smoothing: closed forms for a linear network, and coverage in known worlds."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from selbench.bounds.smoothing import ABSTAINS, _certified, least_share, smoothed

SIGMA = 0.25


class HalfSpace(nn.Module):
    """Class 1 where the first value of an image is above 0.5."""

    def forward(self, images):
        side = images.flatten(1)[:, :1] - 0.5
        return torch.cat([-side, side], 1)


@pytest.fixture
def images():
    images = torch.full((4, 3, 2, 2), 0.5)
    images[:, 0, 0, 0] = torch.tensor([0.1, 0.5, 0.7, 1.0])
    return images


def test_a_half_space_is_certified_up_to_it_but_for_what_the_draws_leave_open(images):
    found = smoothed(HalfSpace(), images, torch.arange(4), SIGMA, choosing=20, counting=400)
    assert found.prediction.tolist() == [0, ABSTAINS, 1, 1]
    assert (found.radius <= (images[:, 0, 0, 0] - 0.5).abs()).all()
    assert found.radius[1] == 0
    share = norm.cdf(0.2 / SIGMA)  # of votes, of the third image; 400 draws leave 3 deviations open
    expected = SIGMA * norm.ppf(share - 3.09 * (share * (1 - share) / 400) ** 0.5)
    assert found.radius[2] == pytest.approx(expected, abs=0.04)


def test_an_image_has_the_same_noise_whatever_it_is_in_a_batch_with(images):
    whole = smoothed(HalfSpace(), images, torch.arange(4), SIGMA, choosing=5, counting=50)
    part = smoothed(HalfSpace(), images[2:], torch.arange(2, 4), SIGMA, choosing=5, counting=50)
    assert torch.equal(whole.radius[2:], part.radius)
    other = smoothed(HalfSpace(), images[2:], torch.arange(5, 7), SIGMA, choosing=5, counting=50)
    assert not torch.equal(part.radius, other.radius)


def test_the_bound_of_all_votes_is_the_root_of_the_risk():
    assert least_share(np.array([10, 0]), 10, 0.05).tolist() == pytest.approx([0.05**0.1, 0])


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9, 0.999])
@pytest.mark.parametrize(("counting", "risk"), [(100, 0.05), (1000, 0.001)])
def test_radii_exceed_the_true_one_no_more_often_than_the_risk(share, counting, risk):
    votes = np.arange(counting + 1)
    found = _certified(torch.zeros(counting + 1, dtype=torch.int64), votes, counting, SIGMA, risk)
    wrong = found.radius.numpy() > SIGMA * norm.ppf(share)
    exact = binom.pmf(votes, counting, share)[wrong].sum()  # over all outcomes: no simulation error
    assert exact <= risk
    drawn = np.random.default_rng(0).binomial(counting, share, 20_000)
    assert wrong[drawn].mean() <= risk + 4 * (risk / 20_000) ** 0.5
