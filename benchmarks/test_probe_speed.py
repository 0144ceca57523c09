"""The probe of a ResNet20, beside the forward passes over a test set that every run makes."""

import torch

from selbench.datasets.dataset import Dataset, make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.networks.probe import habits_of
from selbench.study import ModelSpec

IMAGES, BATCH = 1000, 250
SECONDS = 5.0


def test_the_probe_of_a_resnet20_takes_seconds(race, benchmark):
    """Target: at most 5 s on a CPU, once for its weights."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = make_split(pixels, torch.arange(IMAGES) % 10)
    dataset = Dataset("noise", tuple("0123456789"), split, split)
    moments = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    model = build_model(ModelSpec(name="resnet20"), 10, moments).eval().requires_grad_(False)
    network = Network("mine", None, None, "", "resnet20", "w", lambda: model)
    images = (split.images.float() / 255).split(BATCH)

    @torch.inference_mode()
    def forward_passes():
        for part in images:
            model(part)

    race(lambda: habits_of(network, dataset), forward_passes, rounds=3)
    assert benchmark.stats.stats.median <= SECONDS
