"""Interval bounds of 1,000 images at one epsilon, beside forward passes of the same network."""

import pytest
import torch

from selbench.bounds import certify, traced
from selbench.models import build_model
from selbench.study import ModelSpec

IMAGES, GROUP, PASSES = 1000, 64, 6


@pytest.mark.parametrize("name", ["resnet20", "resnet8"])
def test_interval_bounds_beside_forward_passes(race, one_thread, name):
    """Target: certificates in at most `PASSES` forward passes.

    All images are classified as labelled, so that none is left out.
    """
    network = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3)).eval()
    images = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = torch.cat([network(part).argmax(1) for part in images.split(GROUP)])

    def ours():
        found = traced(network, images[:8])
        for part, own in zip(images.split(GROUP), labels.split(GROUP), strict=True):
            certify(found, part, own, [1 / 255], "interval")

    @torch.no_grad()
    def passes():
        for part in images.split(GROUP):
            network(part)

    ratio = race(ours, passes, rounds=3)
    assert ratio > 1 / PASSES
