"""Dimensionality of all layers beside the forward passes that feed it, on one thread."""

import pytest
import torch

from selbench._kit.types import to_images
from selbench.analyses.dimensionality import dimensionality
from selbench.models import build_model
from selbench.study import ModelSpec

MOMENTS = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 250


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "side", "classes", "count"), [("resnet20", 32, 10, 10000), ("resnet18", 64, 200, 500)]
)
def test_dimensionality_beside_its_forward_passes(race, name, side, classes, count):
    """Target: at most 1.5 times as long, so a ratio of at least 1 / 1.5."""
    torch.manual_seed(0)
    model = build_model(ModelSpec(name=name), classes, MOMENTS).to(DEVICE).eval()
    pixels = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, device=DEVICE)
    images = to_images(pixels).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward_passes():
        for batch in images.split(BATCH):
            model(batch).argmax(1).cpu()

    rounds = 3 if DEVICE.type == "cpu" else 7
    ratio = race(lambda: dimensionality(model, images), forward_passes, rounds=rounds)
    assert ratio >= 1 / 1.5
