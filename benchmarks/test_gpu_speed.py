"""What a GPU should take at most; skipped without one. Nobody has run it yet.

Pixels are random: speed does not depend on them.
"""

from itertools import count

import pytest
import torch

from selbench._engine import evaluate
from selbench._kit.device import choose_device, deterministic
from selbench.datasets.dataset import Dataset, make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.store import StudyStore
from selbench.study import ModelSpec, Recipe
from selbench.suites import Setting, collect
from selbench.training.loop import make_optimizer, train

NAME, TRAINED, TESTED = "cuda", 50_000, 10_000
MOMENTS = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def split(images, side):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, side, side), generator=generator, dtype=torch.uint8)
    return make_split(pixels, torch.arange(images) % 10)


def network(name):
    torch.manual_seed(0)
    return build_model(ModelSpec(name=name), 10, MOMENTS)


def seconds_of_an_epoch(benchmark, name, side, alpha, images, method="standard"):
    """Return the median over three epochs, after one to warm up, as `selbench train` runs them."""
    device = choose_device(NAME)
    recipe = Recipe(
        epochs=4, batch_size=256, learning_rate=0.1, augment=("flip", "crop"), method=method
    )
    model, shown = network(name).to(device), split(images, side).to(device)
    epochs = train(
        model, make_optimizer(model, recipe), shown, shown.take(shown.labels[:1]), recipe,
        alpha=alpha, seed=0,
    )  # fmt: skip
    with deterministic(device):
        benchmark.pedantic(next, args=(epochs,), rounds=3, warmup_rounds=1)
    return benchmark.stats.stats.median


@pytest.mark.parametrize("method", ["standard", "augmix", "pgd"])
def test_200_epochs_of_resnet20(benchmark, method):
    """Target: 100 s for standard training on CIFAR-10."""
    seconds = 200 * seconds_of_an_epoch(benchmark, "resnet20", 32, 1.0, TRAINED, method)
    benchmark.extra_info["seconds of 200 epochs"] = seconds
    assert method != "standard" or seconds < 100


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 2.0])
def test_resnet18_on_images_of_64_pixels(benchmark, alpha):
    """As for Tiny ImageNet, whose 100,000 training images are two of these epochs."""
    seconds = seconds_of_an_epoch(benchmark, "resnet18", 64, alpha, TRAINED)
    benchmark.extra_info["images per second"] = TRAINED / seconds


def test_a_network_under_all_corruptions(benchmark, tmp_path):
    """Target: 5 s for a ResNet20 under the 75 conditions of CIFAR-10-C, which are made too."""
    device, images = choose_device(NAME), split(TESTED, 32)
    dataset = Dataset("noise", tuple("0123456789"), images, images)
    pieces = [each for each in collect(("corruptions",), Setting(32, 32)) if each.level]
    model, fresh = network("resnet20").to(device).eval(), count()
    tested = Network("alpha=0 seed=0", 0.0, 0, "t", "resnet20", "w", lambda: model)

    def run():
        store = StudyStore(tmp_path / str(next(fresh)), "study")
        assert evaluate([tested], pieces, dataset, store, device) == 75

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert benchmark.stats.stats.median < 5
