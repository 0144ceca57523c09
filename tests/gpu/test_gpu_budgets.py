"""How often programs wait for a GPU, and whether they compute the same there; devices never mix."""

from collections import Counter

import pytest
import torch
from stand_in import DEVICE
from torch import nn

from corruptions import CORRUPTIONS, corrupt
from selbench._kit import chunks
from selbench._kit.transfer import fetched
from selbench._kit.types import to_images
from selbench.attacks.apgd import apgd
from selbench.attacks.descent import ddn, fmn
from selbench.attacks.fab import fab
from selbench.attacks.folding import searched
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import pgd
from selbench.attacks.losses import cross_entropy
from selbench.attacks.norms import NORMS
from selbench.attacks.square import square
from selbench.attacks.waiting import remaining
from selbench.datasets.dataset import make_split
from selbench.study import Recipe
from selbench.training.augmix import mixtures
from selbench.training.loop import make_optimizer, train

QUICK = ("contrast", "spatter")
each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def pixels(count, side=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), generator=generator).to(torch.uint8)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kernels = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        return nn.Sequential(
            kernels, nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(24, 4)
        )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=[] if each in QUICK else pytest.mark.soak)
        for each in sorted(CORRUPTIONS)
    ],
)
def test_corruptions_make_the_same_bytes(gpu, name):
    images, examples = pixels(3), torch.arange(3)
    expected = corrupt(images, name, 3, examples=examples)
    found = corrupt(gpu.put(images), name, 3, examples=gpu.put(examples))
    assert found.device == DEVICE
    assert torch.equal(found.held, expected)
    if name != "spatter":  # whose sums are whole numbers
        assert gpu.scans == set()


class Both:
    """A network and what it is shown, here and there."""

    def __init__(self, gpu, given=True):
        self.gpu, here = gpu, network().eval().requires_grad_(False)
        images = to_images(pixels(12, 8))
        labels = here(images).argmax(1)
        self.here = here, images, labels
        self.there = tuple(gpu.put(each) for each in (network().eval(), images, labels))
        if given:  # searched with another network than the one that decides
            self.here, self.there = (
                (searched(net, images[:2]), images, labels)
                for net, images, labels in (self.here, self.there)
            )
            assert all(net.given is not net.search for net, *_ in (self.here, self.there))

    def waits(self, attack):
        """Return how often an attack waits; it finds the same in both places."""
        expected = attack(*self.here)
        self.gpu.waits.clear()
        found = attack(*self.there)
        waits = self.gpu.waits.copy()
        assert torch.equal(found.held, expected)
        assert not torch.equal(expected, self.here[1])
        return waits


@each_norm
@pytest.mark.sample
def test_pgd_waits_once_a_step(gpu, norm):
    epsilon = {"linf": 0.004, "l2": 0.05}[norm.name]

    def attack(network, images, labels):
        return pgd(network, images, labels, epsilon, norm, step=epsilon / 3, steps=10).images

    waits = Both(gpu).waits(attack)
    assert sum(waits.values()) <= 10 + 1  # a look at the images


def test_pgd_of_all_steps_does_not_wait(gpu):
    def attack(network, images, labels):
        linf = NORMS["linf"]
        return pgd(network, images, labels, 0.01, linf, step=0.004, steps=10, early=False).images

    assert sum(Both(gpu).waits(attack).values()) == 1


@pytest.mark.parametrize(("name", "folded"), [("linf", True), ("l2", False)])
@pytest.mark.sample
def test_square_waits_once_a_query_and_where_images_fall(gpu, name, folded):
    norm = NORMS[name]
    size = {"linf": 0.02, "l2": 0.8}[norm.name]
    fell = []

    def attack(network, images, labels):
        epsilons = torch.full_like(images[:, 0, 0, 0], size)
        found = square(Guarded(network), images, labels, epsilons, norm, seed=0, queries=20)
        with gpu.uncounted():
            fell.append(int((found != images).flatten(1).any(1).sum()))
        return found

    waits = Both(gpu, folded).waits(attack)
    assert 1 < fell[0] < 12
    assert sum(waits.values()) <= 21 + (fell[0] if folded else 0)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.sample
def test_apgd_waits_once_a_step_and_where_images_fall(gpu, loss):
    def attack(network, images, labels):
        epsilons = torch.full_like(images[:, 0, 0, 0], 0.004)
        guarded, linf = Guarded(network), NORMS["linf"]
        return apgd(
            guarded, images, labels, epsilons, linf, start=images, loss=loss, steps=10
        ).points

    waits = Both(gpu).waits(attack)
    falls = max(count for (what, line), count in waits.items() if what != "nonzero.default")
    assert sum(waits.values()) <= 11 + 3 * falls
    assert falls < 8


@pytest.mark.parametrize("attack", [fmn, ddn])
@pytest.mark.sample
def test_nearest_errors_are_looked_for_with_a_wait_a_step(gpu, attack):
    norms = [NORMS["linf"]] if attack is fmn else []
    waits = Both(gpu).waits(
        lambda network, *given: attack(Guarded(network), *given, *norms, steps=9)
    )
    assert sum(waits.values()) <= 9 + 2


@each_norm
@pytest.mark.sample
def test_fab_waits_five_times_a_step(gpu, norm):
    def attack(network, images, labels):
        epsilons = torch.full_like(images[:, 0, 0, 0], 0.001)
        return fab(Guarded(network), images, labels, epsilons, norm, steps=6)

    waits = Both(gpu).waits(attack)
    assert sum(waits.values()) <= 5 * 2 * 6 + 2  # the likeliest class, then the others


@pytest.mark.parametrize("outputs", ["logits", "certain", "probabilities", "one row of each"])
def test_losses_are_the_same_there_and_none_is_waited_for(gpu, outputs):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    logits = {
        "logits": logits,
        "certain": 60 * logits,
        "probabilities": logits.softmax(1),
        "one row of each": torch.stack([logits[0], 60 * logits[1], logits[2].softmax(0)]),
    }[outputs]
    labels = torch.arange(len(logits)) % 5
    there, own = gpu.put(logits).requires_grad_(), logits.clone().requires_grad_()
    losses = cross_entropy(there, gpu.put(labels))
    expected = cross_entropy(own, labels)
    assert torch.equal(losses.detach().held, expected.detach())
    slopes = [
        torch.autograd.grad(each.sum(), of)[0] for each, of in [(losses, there), (expected, own)]
    ]
    assert torch.equal(slopes[0].held, slopes[1])
    assert gpu.waits == Counter()


@pytest.mark.parametrize(
    ("side", "share", "followed", "changed"),
    [(32, 1.0, 2000, 1000), (32, 0.02, 64, 256), (224, 1.0, 64, 256), (4000, 0.02, 1, 1)],
)
def test_the_memory_of_a_gpu_bounds_how_many_images_it_takes(gpu, side, share, followed, changed):
    gpu.share = share
    images = gpu.put(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 3, side, side))
    assert chunks.gradient_chunk(images) == followed
    assert chunks.few(images, 1000) == changed


def test_others_are_the_places_that_are_left():
    assert remaining(torch.tensor([3, 0]), 5).tolist() == [1, 2, 4]
    assert remaining(torch.tensor([], dtype=torch.int64), 2).tolist() == [0, 1]


def test_mixtures_of_many_images_take_few_operators_and_no_wait(gpu):
    images = pixels(256, 8)
    expected = mixtures(images, torch.Generator().manual_seed(0), 2)
    there = gpu.put(images)
    found = mixtures(there, torch.Generator().manual_seed(0), 2)
    assert all(torch.equal(each.held, wanted) for each, wanted in zip(found, expected, strict=True))
    assert gpu.operators < 2000  # applied to eight images at a time, they were 8,800
    assert gpu.waits == Counter()


@pytest.mark.parametrize(
    ("method", "alpha"), [("standard", 1), ("pgd", 0), ("augmix", 0), ("ibp", 0)]
)
@pytest.mark.sample
def test_training_is_the_same_there_and_waits_for_no_step(gpu, method, alpha):
    split = make_split(pixels(12, 8), torch.arange(12) % 4)
    recipe = Recipe(
        epochs=1, batch_size=4, learning_rate=0.1, precision="float32", method=method,
        augment=("flip", "crop"), clip_norm=1.0,
    )  # fmt: skip
    with gpu.uncounted():
        elsewhere = split.to(DEVICE)
    states = []
    for model, images in ((network(), split), (gpu.put(network().train()), elsewhere)):
        gpu.waits.clear()
        (epoch,) = train(
            model, make_optimizer(model, recipe), images, images, recipe, alpha=alpha, seed=0
        )
        states.append((epoch, model.state_dict()))
    (expected, here), (found, there) = states
    assert found == expected
    assert all(torch.equal(there[name].held, tensor) for name, tensor in here.items())
    assert sum(gpu.waits.values()) <= 3  # of the epoch: its order, its sums, its accuracy


def test_tables_of_several_kinds_come_in_one_transfer(gpu):
    tables = [
        {"fallen": torch.tensor([True, False, True]), "label": torch.arange(4)},
        {"margin": torch.rand(2, 3).T, "none": torch.zeros(0, dtype=torch.int64)},
    ]
    away = [{name: gpu.put(each) for name, each in table.items()} for table in tables]
    gpu.waits.clear()
    here = fetched(away)
    assert sum(gpu.waits.values()) == 1
    for table, found in zip(tables, here, strict=True):
        assert table.keys() == found.keys()
        assert all(torch.equal(found[name], each) for name, each in table.items())
        assert {each.device.type for each in found.values()} == {"cpu"}
