"""A curve of ablation beside the forward passes that it is made of, on one thread."""

import pytest
import torch

from selbench._kit.types import to_images
from selbench.analyses.ablation import Ablated, by_selectivity, correct, mean_activity, removal
from selbench.analyses.selectivity import class_selectivity
from selbench.models import build_model
from selbench.study import ModelSpec
from selbench.suites.ablation import SHARES

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH, COUNT = 250, 1000


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("to_mean", [False, True], ids=["to 0", "to their mean"])
def test_a_curve_beside_bare_forward_passes(race, to_mean):
    """ResNet20, 1,000 images, 20 shares and none: target, the time of at most 25 passes.

    The index that orders the units, and their means, are part of it.
    """
    torch.manual_seed(0)
    spec, moments = ModelSpec(name="resnet20"), ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    model = build_model(spec, 10, moments).to(DEVICE).eval().requires_grad_(False)
    pixels = torch.randint(256, (COUNT, 3, 32, 32), dtype=torch.uint8, device=DEVICE)
    labels = torch.arange(COUNT, device=DEVICE) % 10

    def curve():
        found = class_selectivity(model, pixels, labels, shuffles=0)
        order, widths = by_selectivity(found), [len(each.index) for each in found]
        values = mean_activity(model, pixels) if to_mean else None
        networks = [Ablated(model, removal(order, share, widths), values) for share in SHARES]
        correct(networks, pixels, labels)

    @torch.inference_mode()
    def bare():
        for batch in pixels.split(BATCH):
            images = to_images(batch).contiguous(memory_format=torch.channels_last)
            model(images).argmax(1).cpu()

    ratio = race(curve, bare, rounds=3 if DEVICE.type == "cpu" else 7)
    assert ratio >= 1 / 25
