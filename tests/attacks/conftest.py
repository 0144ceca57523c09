"""Networks that were trained, here and by others, and real images."""

import pytest
import torch
from networks import trained

from selbench.models import build_model, load_weights
from selbench.study import ModelSpec


@pytest.fixture(scope="module")
def network():
    return trained(0)


@pytest.fixture(scope="module")
def foreign(test_data):
    moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = build_model(ModelSpec(name="resnet20", options={"shortcut": "A"}), 10, moments)
    load_weights(model, test_data / "weights" / "resnet20-cifar10.th")
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def real(cifar10_test):
    """Return 100 images of CIFAR-10's test part, kept as JPEG, and their labels."""
    from selbench._kit.progress import SILENT
    from selbench.datasets.images import decode_images

    paths = sorted((cifar10_test / "test").glob("*/000?.jpg"))
    images = decode_images(paths, SILENT, "").float() / 255
    return images, torch.arange(10).repeat_interleave(10)
