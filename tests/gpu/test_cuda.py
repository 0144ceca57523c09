"""On a real GPU, where there is one: `tox -e cuda`."""

import copy
import warnings

import pytest
import torch

from corruptions import CORRUPTIONS, corrupt
from selbench import dimensionality, input_gradients
from selbench._kit import chunks
from selbench._kit.device import choose_device, deterministic, measuring
from selbench._kit.types import to_images
from selbench.attacks.folding import folded
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import logits_of, pgd
from selbench.attacks.norms import NORMS
from selbench.attacks.square import square
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import ModelSpec, Recipe
from selbench.training import weights_hash
from selbench.training.loop import make_optimizer, train

NAME = "cuda:0"

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)


@pytest.fixture(scope="module")
def device():
    return choose_device(NAME)


def pixels(count):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 32, 32), generator=generator).to(torch.uint8)


def network(name="resnet20"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.25,) * 3))
    return made.eval().requires_grad_(False)


def test_logits_are_those_of_the_cpu_in_full_float32(device):
    images = to_images(pixels(64))
    here = network()(images)
    with measuring():
        there = network().to(device)(images.to(device)).cpu()
    assert (here - there).abs().max() < 2e-5 * here.abs().max()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_corruptions_do_not_depend_on_batch_or_order(device, name, kind):
    count = 200
    images = (
        pixels(count) if kind == "noise" else pixels(count)[:, :, :1, :1].expand(-1, -1, 32, 32)
    )
    images, examples = images.contiguous(), torch.arange(count)
    there, numbers = images.to(device), examples.to(device)
    whole = corrupt(there, name, 3, examples=numbers)
    for size in (1, 85):
        part = corrupt(there[:size], name, 3, examples=numbers[:size])
        assert torch.equal(part, whole[:size])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)).to(device)
    shuffled = corrupt(there[order], name, 3, examples=numbers[order])
    assert torch.equal(shuffled, whole[order])
    apart = (whole.cpu().int() - corrupt(images, name, 3, examples=examples).int()).abs()
    if name == "contrast":
        assert not apart.any()  # added in the CPU's order
    assert (apart > 1).double().mean() < 1e-3
    assert (apart > 0).double().mean() < 0.05


def test_batch_norms_are_folded(device):
    given = network().to(device)
    with measuring():
        assert folded(given, to_images(pixels(2)).to(device)) is not given


@pytest.mark.parametrize("method", ["standard", "pgd", "augmix"])
def test_training_comes_to_the_same_weights_again_and_resumed(device, method):
    split = make_split(pixels(512), torch.arange(512) % 10).to(device)
    recipe = Recipe(
        epochs=2, batch_size=64, learning_rate=0.1, method=method, augment=("flip", "crop")
    )

    def trained(resumed=False):
        model = network("resnet8").to(device).requires_grad_(True)
        optimizer = make_optimizer(model, recipe)
        epochs = train(model, optimizer, split, split, recipe, alpha=0.5, seed=0)
        next(epochs)
        if resumed:
            model, kept = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
            optimizer = make_optimizer(model, recipe)
            optimizer.load_state_dict(kept)
            epochs = train(model, optimizer, split, split, recipe, alpha=0.5, seed=0, first_epoch=2)
        assert len(list(epochs)) == 1
        return weights_hash(model.state_dict())

    with deterministic(device):
        assert trained() == trained() == trained(resumed=True)


def waits(run):
    """Return how often torch sees a program wait."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in heard)


def test_a_step_of_training_is_not_waited_for(device):
    split = make_split(pixels(640), torch.arange(640) % 10).to(device)
    model = network("resnet8").to(device).requires_grad_(True)
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=0.1, augment=("flip", "crop"))
    optimizer = make_optimizer(model, recipe)
    run = train(model, optimizer, split, split.take(torch.arange(8, device=device)), recipe,
                alpha=1.0, seed=0)  # fmt: skip
    assert waits(lambda: list(run)) < 10  # of ten steps


def attacked(device):
    images = to_images(pixels(100)).to(device)
    given = network("resnet8").to(device)
    return given, images, logits_of(given, images).argmax(1)


@pytest.mark.parametrize("size", [7, 32, 2000])
def test_pgd_finds_the_same_again(device, size, monkeypatch):
    monkeypatch.setitem(chunks.CHUNK, "cuda", size)
    given, images, labels = attacked(device)

    def run():
        return pgd(given, images, labels, 0.01, NORMS["linf"], step=0.002, steps=20).images

    with measuring():
        assert torch.equal(run(), run())
        if size > len(images):
            assert waits(run) <= 21


def test_square_waits_once_a_query(device):
    given, images, labels = attacked(device)
    epsilons = torch.full_like(images[:, 0, 0, 0], 0.02)

    def run():
        square(Guarded(given), images, labels, epsilons, NORMS["linf"], seed=0, queries=50)

    run()
    assert waits(run) <= 51


def test_analyses_come_to_the_cpus_numbers(device):
    images = to_images(pixels(60))
    here, there = network("resnet8"), network("resnet8").to(device)
    for one, other in zip(
        dimensionality(here, images), dimensionality(there, images.to(device)), strict=True
    ):
        assert one.components == other.components
        assert other.two_nn == pytest.approx(one.two_nn, rel=1e-3)
    for one, other in zip(
        input_gradients(here, images), input_gradients(there, images.to(device)), strict=True
    ):
        assert other.norm.value == pytest.approx(one.norm.value, rel=1e-3)


@pytest.mark.parametrize("share", ["2 %", "256 MiB"])
def test_a_share_of_the_memory_is_enough(device, share):
    images, given = to_images(pixels(2000)).to(device), network("resnet20").to(device)
    whole = logits_of(given, images)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(0.02 if share == "2 %" else 2**28 / total, device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of chunks that are halved
            part = logits_of(given, images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-3)
