"""Attacks that others wrote, on networks that mask or break, and where memory does not suffice."""

import pytest
import torch
from networks import (
    CLASSES,
    SIDE,
    Detached,
    Diverged,
    Dropping,
    Fragile,
    Linear,
    Quantised,
    grey,
    pictures,
)
from quick_attacks import (
    ATTACKS,
    EPSILONS,
    GRADIENT_FREE,
    each_attack,
    each_norm,
    gradient_free,
    standing,
)

from selbench._kit import chunks
from selbench.attacks.autoattack import SQUARE, autoattack
from selbench.attacks.foreign import Guarded, Standing
from selbench.attacks.gradient import NEVER
from selbench.attacks.ladder import IMPLIED
from selbench.attacks.masking import FLAGS
from selbench.attacks.nearest import _drawn_in
from selbench.attacks.norms import NORMS, inside


def test_square_alone_breaks_a_network_that_masks_its_gradients(network):
    images, labels = pictures(20)
    masked = Quantised(network)
    options = {"epsilons": [24 / 255], "norm": NORMS["linf"], "iterations": 20, "queries": 300}
    (found,) = autoattack(masked, images, labels, torch.arange(20), **options)
    right = (masked(images).argmax(1) == labels).sum()
    assert (found.by == SQUARE).sum() > 0.5 * right
    assert gradient_free([found]) > FLAGS["gradient_free"].threshold
    (honest,) = autoattack(network, images, labels, torch.arange(20), **options)
    assert gradient_free([honest]) == 0


@each_attack
def test_without_gradients_only_what_needs_none_is_run(norm, attack):
    network, images = Detached(), grey(12)
    labels = network(images).argmax(1)
    found = attack(network, images, labels, torch.arange(12), [1.0, 8.0])[-1]
    name = next(name for name, pair in ATTACKS.items() if pair[1] is attack)
    assert found.fallen.any() == (name in GRADIENT_FREE)
    if name.startswith("autoattack"):
        assert set(found.by.tolist()) <= {IMPLIED, NEVER, SQUARE}


@each_attack
@pytest.mark.parametrize("kind", [Diverged, Fragile, Dropping])
@pytest.mark.sample("kind")
def test_a_broken_network_does_no_harm(kind, norm, attack):
    network, images = kind(), grey(12)
    labels = Linear()(images).argmax(1)
    if kind is Fragile:
        labels = network(images).argmax(1)
    elif kind is Diverged:
        labels = torch.arange(12) % CLASSES
    found = attack(network, images, labels, torch.arange(12), EPSILONS[norm])
    for epsilon, each in zip(EPSILONS[norm], found, strict=True):
        assert inside(images, each.images, NORMS[norm], epsilon).all()
        assert torch.equal(each.fallen, each.logits.argmax(1) != labels)
        if kind is Diverged:
            assert torch.equal(each.fallen, labels != 0)
            assert torch.equal(each.images, images)


@each_attack
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.sample("norm")
def test_few_classes_are_enough(classes, norm, attack):
    network, images = Linear(classes, scale=0.3), grey(12)
    labels = network(images).argmax(1)
    found = attack(network, images, labels, torch.arange(12), EPSILONS[norm])
    assert standing(found)[-1] <= standing(found)[0] <= 12


@each_attack
@pytest.mark.parametrize("first", [0.0, 1.0])
@pytest.mark.sample("norm")
def test_where_all_is_of_one_class_all_stand(first, norm, attack):
    class Stubborn(Linear):
        def forward(self, images):
            return super().forward(images * 0) + torch.tensor([first, 0, 0, 0, 0])

    labels = torch.zeros(5, dtype=torch.int64)
    for found in attack(Stubborn(), grey(5), labels, torch.arange(5), EPSILONS[norm]):
        assert not found.fallen.any()


class Band(Linear):
    """Errs in a band so thin that a step beyond its edge is out of it again."""

    def forward(self, images):
        brightness = images.flatten(1).mean(1)
        logits = torch.zeros(len(images), CLASSES)
        logits[:, 1] = torch.where((brightness > 0.7) & (brightness < 0.70005), 1.0, -1.0)
        return logits


def test_an_error_in_a_thin_band_is_kept():
    images, labels = torch.full((1, 3, SIDE, SIDE), 0.2), torch.zeros(1, dtype=torch.int64)
    errors = torch.full_like(images, 0.70004)
    network = Band()
    assert network(errors).argmax(1) == 1
    found = _drawn_in(Guarded(network), images, labels, errors)
    assert network(found).argmax(1) == 1
    assert (found <= errors).all()


def test_what_memory_does_not_suffice_for_is_done_in_halves(monkeypatch, network):
    monkeypatch.setitem(chunks.CHUNK, "cpu", 8)
    images, labels = pictures(12)
    left = Standing(network, images, labels, torch.arange(12))

    def attack(images, labels, examples):
        if len(images) > 4:
            raise torch.OutOfMemoryError
        return 1 - images

    with pytest.warns(RuntimeWarning, match="out of memory"):
        found = left.search(attack)
    assert torch.equal(found, 1 - images)


@each_norm
def test_foreign_results_are_not_believed(norm):
    network, images, epsilon = Linear(), grey(12), {"linf": 0.1, "l2": 1.0}[norm]
    labels, examples = network(images).argmax(1), torch.arange(12)
    for found in (torch.full_like(images, torch.nan), torch.full_like(images, torch.inf), images):
        left = Standing(network, images, labels, examples)
        left.strike(lambda *_, found=found: found, NORMS[norm], 0.01)
        assert not left.result().fallen.any()
        assert torch.equal(left.result().images, images)
    away = NORMS[norm].steepest(network.weight[labels].view_as(images))
    too_far = images - 1.2 * epsilon * away
    left = Standing(network, images, labels, examples)
    left.strike(lambda *_: too_far, NORMS[norm], epsilon)
    result = left.result()
    assert result.fallen.any()
    assert inside(images, result.images, NORMS[norm], epsilon).all()
    assert (result.by[result.fallen] == 0).all()
    left = Standing(network, images, labels, examples)
    left.reach(too_far, NORMS[norm], epsilon)
    assert not left.result().fallen.any()
