"""Interval bounds of a digits ResNet8, beside forward passes of the same network."""

import copy

import pytest
import torch

from selbench.bounds import ball, traced
from selbench.bounds.certified import margin_bounds
from selbench.bounds.linear import interval_bounded
from selbench.models import build_model
from selbench.study import ModelSpec

IMAGES, GROUP = 1000, 64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_interval_bounds_beside_forward_passes(race, one_thread, dtype):
    """Target: 1,000 images at one epsilon in 6 forward passes of the numbers that bounds have.

    Bounds are in float64; a processor's passes in float32 are three to four times as fast.
    """
    network = build_model(ModelSpec(name="resnet8"), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    images = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    peer = copy.deepcopy(network).to(dtype)

    @torch.no_grad()
    def ours():
        found = traced(network, images[:8])
        for part, own in zip(images.split(GROUP), labels.split(GROUP), strict=True):
            margin_bounds(interval_bounded(found, ball(part, 1 / 255)), own, relaxed=False)

    @torch.no_grad()
    def passes():
        for part in images.split(GROUP):
            peer(part.to(dtype))

    ratio = race(ours, passes, rounds=3)
    assert ratio > (1 / 6 if dtype == torch.float64 else 1 / 20)
