"""Input-unit gradients beside the loops that one would write, and probes beside exact ones.

All run on one thread of the processor, or on the GPU where there is one.
"""

import os
from pathlib import Path

import pytest
import torch

from selbench.analyses.gradients import gradient_norms, input_gradients
from selbench.analyses.layers import recording, units_of
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOMENTS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUANTITIES = ("norm", "cv_across_samples", "cv_across_units")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def resnet20():
    """Load a ResNet20 that others trained on CIFAR-10."""
    folder = os.environ.get("SELBENCH_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set SELBENCH_TEST_DATA to the folder that holds it")
    model = build_model(ModelSpec(name="resnet20", options={"shortcut": "A"}), 10, MOMENTS)
    load_weights(model, Path(folder) / "weights" / "resnet20-cifar10.th")
    return model.to(DEVICE).eval()


@pytest.fixture(scope="module")
def data():
    """Read 500 CIFAR-10 test images kept as JPEG, the classes in turn."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    archive = Path(os.environ["SELBENCH_TEST_DATA"]) / "cifar10-jpeg.tar.xz"
    images = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            part, *rest = member.name.split("/")
            if part == "train":
                break
            if member.isfile() and Path(rest[-1]).stem < "0050":
                content = io.BytesIO(packed.extractfile(member).read())
                images[rest[-1], rest[0]] = np.asarray(Image.open(content).convert("RGB"))
    pixels = np.stack([images[name] for name in sorted(images)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).to(DEVICE)


def whole_passes(model, images):
    """Run the network anew for every unit, and go back through all of it, weights too."""
    with torch.no_grad(), recording(model, None, units_of) as layers:
        model(images[:1])
    found = []
    for number, width in enumerate([units.shape[1] for units in layers]):
        for unit in range(width):
            points = images.clone().requires_grad_()
            with recording(model, None, units_of) as units:
                model(points)
            units[number][:, unit].sum().backward()
            found.append(points.grad.flatten(1).norm(dim=1))
    model.zero_grad()
    return torch.stack(found, 1).cpu()


def one_graph(model, images):
    """Run the network once, and go back from every unit to the images alone."""
    points = images.clone().requires_grad_()
    with recording(model, None, units_of) as layers:
        model(points)
    found = []
    for units in layers:
        for unit in range(units.shape[1]):
            (part,) = torch.autograd.grad(units[:, unit].sum(), points, retain_graph=True)
            found.append(part.flatten(1).norm(dim=1))
    return torch.stack(found, 1).cpu()


def beside(race, model, images, peer, rounds):
    kept = {}

    def ours():
        kept["ours"] = torch.cat(gradient_norms(model, images), 1).cpu()

    def theirs():
        kept["theirs"] = peer(model, images)

    ratio = race(ours, theirs, rounds=rounds)
    # folding rounds otherwise, so that a ReLU may open on another side of 0: means over images
    means = kept["ours"].mean(0), kept["theirs"].mean(0)
    torch.testing.assert_close(*means, rtol=0.01, atol=1e-4)
    return ratio


def test_exact_beside_whole_passes(race, resnet20, data):
    """Target: at least 3 times as fast, on 16 images."""
    assert beside(race, resnet20, data[:16], whole_passes, rounds=3) >= 3


@pytest.mark.parametrize("count", [1, 8])
def test_exact_beside_one_graph(race, resnet20, data, count):
    """Faster on one image, whose copies fill a pass; on 8 no slower than within a tenth."""
    assert beside(race, resnet20, data[:count], one_graph, rounds=5) >= (2 if count == 1 else 0.9)


def test_probes_beside_exact_on_resnet20(race, resnet20, data):
    """Target: at least 5 times as fast, with the default number of probes, on 8 images."""
    images = data[:8]

    def probes():
        input_gradients(resnet20, images, estimator="probes")

    assert race(probes, lambda: input_gradients(resnet20, images), rounds=3) >= 5


def test_probes_beside_exact_on_resnet18(race):
    """Target: at least 10 times as fast, with the default number of probes, on 2 images."""
    model = build_model(ModelSpec(name="resnet18"), 200, MOMENTS).to(DEVICE).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def probes():
        input_gradients(model, images, estimator="probes")

    assert race(probes, lambda: input_gradients(model, images), rounds=1) >= 10


def test_probes_of_500_images_are_within_2_percent(benchmark, resnet20, data):
    """Target: every layer's coefficients of variation within 2 % of exact; takes minutes."""
    exact = input_gradients(resnet20, data)
    found = benchmark.pedantic(
        input_gradients, (resnet20, data), {"estimator": "probes"}, rounds=1, warmup_rounds=0
    )
    for name in QUANTITIES:
        pairs = [
            (getattr(ours, name).value, getattr(layer, name).value)
            for ours, layer in zip(found, exact, strict=True)
        ]
        errors = [abs(ours / truth - 1) for ours, truth in pairs]
        benchmark.extra_info[f"largest error of {name}"] = max(errors)
        assert max(errors) <= 0.02, (name, errors)
