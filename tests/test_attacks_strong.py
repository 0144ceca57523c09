"""Attacks that others wrote: laws for all of them, closed forms, networks that mask or break."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from selbench.attacks import gradient
from selbench.attacks.autoattack import SQUARE, STAGES, autoattack
from selbench.attacks.foreign import Standing
from selbench.attacks.gradient import NEVER, logits_of, pgd_grid
from selbench.attacks.masking import FLAGS
from selbench.attacks.nearest import MINIMUM_NORM, QUERIES, hop_skip_jump, minimum_norm
from selbench.attacks.norms import NORMS, inside
from selbench.attacks.strong import noise, transferred
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec
from selbench.suites import SUITES, Attack, Setting

CLASSES, SIDE = 5, 6
EPSILONS = {"linf": (4 / 255, 12 / 255, 40 / 255), "l2": (0.1, 0.3, 1.0)}

# Every attack with less effort than the suite's: norm, and what takes network, images, labels,
# examples, epsilons.
ATTACKS = {
    **{
        f"autoattack-{norm}": (
            norm,
            partial(autoattack, norm=NORMS[norm], iterations=15, queries=60),
        )
        for norm in NORMS
    },
    **{
        f"{name}-{norm}": (norm, partial(minimum_norm, name=name))
        for name, (norm, _) in MINIMUM_NORM.items()
    },
    "hopskipjump-l2": ("l2", partial(hop_skip_jump, steps=2)),
    **{f"noise-{norm}": (norm, partial(noise, norm=NORMS[norm])) for norm in NORMS},
}
GRADIENT_FREE = {"autoattack-linf", "autoattack-l2", "hopskipjump-l2", "noise-linf", "noise-l2"}

each_attack = pytest.mark.parametrize(("norm", "attack"), ATTACKS.values(), ids=ATTACKS)
each_norm = pytest.mark.parametrize("norm", NORMS)


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, classes=CLASSES, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(classes, 3 * SIDE * SIDE, generator=generator) * scale
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Quantised(nn.Module):
    """A network that rounds its input, which has a gradient of zero."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images * 8).round() / 8)


class Detached(Linear):
    def forward(self, images):
        return super().forward(images.detach())


class Dropping(Linear):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images), 0.3)


class Diverged(Linear):
    def forward(self, images):
        return super().forward(images) * torch.nan


class Fragile(Linear):
    """A network for which grey is of class 0, and nothing else a number."""

    def forward(self, images):
        bright = images.flatten(1).amax(1, keepdim=True) > 0.6
        grey = super().forward(images) * 0.1 + torch.eye(CLASSES)[0] * 9
        return grey.masked_fill(bright, torch.nan)


def grey(batch=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + 0.2 * torch.rand(batch, 3, SIDE, SIDE, generator=generator)


def pictures(batch, seed=0):
    """Return images of one pattern per class under noise, and their labels."""
    generator = torch.Generator().manual_seed(5)
    patterns = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator)
    generator.manual_seed(seed)
    labels = torch.randint(CLASSES, (batch,), generator=generator)
    dirt = torch.randn(batch, 3, SIDE, SIDE, generator=generator)
    return (0.5 + 0.08 * patterns[labels] + 0.15 * dirt).clamp(0, 1), labels


def trained(seed):
    """Return a small convolutional network that was trained on `pictures`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, CLASSES),
        )  # fmt: skip
    images, labels = pictures(300, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network():
    return trained(0)


def run(attack, network, batch=12, norm="linf", epsilons=None, **options):
    images, labels = pictures(batch)
    labels[::5] = (labels[::5] + 1) % CLASSES
    found = attack(
        network, images, labels, torch.arange(batch), epsilons or EPSILONS[norm], **options
    )
    return images, labels, found


def standing(found):
    return [(~each.fallen).sum().item() for each in found]


def gradient_free(found):
    return found[-1].checks["gradient_free"].double().mean().item()


@each_attack
def test_what_has_fallen_fools_the_network_from_within_the_ball(norm, attack, network):
    images, labels, found = run(attack, network, norm=norm)
    logits = logits_of(network, images)
    assert 0 < (logits.argmax(1) != labels).sum() < 6
    for epsilon, each in zip(EPSILONS[norm], found, strict=True):
        assert inside(images, each.images, NORMS[norm], epsilon).all()
        torch.testing.assert_close(each.logits, logits_of(network, each.images))
        assert torch.equal(each.fallen, each.logits.argmax(1) != labels)
        assert torch.equal(each.steps == 0, logits.argmax(1) != labels)
        assert torch.equal(each.steps != NEVER, each.fallen)
        left = ~each.fallen | (each.steps == 0)
        assert torch.equal(each.images[left], images[left])
    assert standing(found)[-1] < standing(found)[0] or "noise" in str(attack)
    for smaller, larger in pairwise(found):
        assert (larger.fallen | ~smaller.fallen).all()
        assert torch.equal(larger.images[smaller.fallen], smaller.images[smaller.fallen])


@each_attack
def test_a_seed_gives_the_same_numbers_and_leaves_no_trace(norm, attack, network, capfd):
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    _, _, one = run(attack, network, norm=norm)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(2)
    _, _, two = run(attack, network, norm=norm)
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first.images, second.images)
    _, _, other = run(attack, network, norm=norm, seed=1)
    assert len(other) == len(one)
    assert capfd.readouterr() == ("", "")


@each_attack
def test_an_example_does_not_depend_on_its_batch(norm, attack, network):
    images, labels = pictures(12)
    examples, epsilons = torch.arange(100, 112), EPSILONS[norm]
    whole = attack(network, images, labels, examples, epsilons)
    rows = slice(3, 8)
    part = attack(network, images[rows], labels[rows], examples[rows], epsilons)
    for all_, some in zip(whole, part, strict=True):
        assert torch.equal(all_.fallen[rows], some.fallen)
        torch.testing.assert_close(all_.images[rows], some.images, rtol=0, atol=1e-4)


@each_norm
def test_squares_dice_do_not_depend_on_the_batch_either(norm, network):
    images, labels = pictures(16)
    options = {"epsilons": [EPSILONS[norm][2]], "norm": NORMS[norm], "iterations": 5, "queries": 80}
    masked = Quantised(network)
    (whole,) = autoattack(masked, images, labels, torch.arange(16), **options)
    assert (whole.by[4:9] == SQUARE).any()
    (part,) = autoattack(masked, images[4:9], labels[4:9], torch.arange(4, 9), **options)
    assert torch.equal(whole.by[4:9], part.by)
    torch.testing.assert_close(whole.images[4:9], part.images)


@each_attack
def test_images_may_be_laid_out_in_any_way(norm, attack, network):
    images, labels = pictures(4)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    found = attack(network, laid_out, labels, torch.arange(4), EPSILONS[norm])
    assert len(found) == len(EPSILONS[norm])


@pytest.mark.parametrize("name", [*MINIMUM_NORM, "hopskipjump"])
def test_the_nearest_error_of_a_linear_network_is_found(name):
    network, images = Linear(classes=2), grey()
    logits = network(images)
    norm, attack = ("l2", hop_skip_jump)
    if name in MINIMUM_NORM:
        norm, attack = MINIMUM_NORM[name][0], partial(minimum_norm, name=name)
    difference = network.weight[0] - network.weight[1]
    length = difference.abs().sum() if norm == "linf" else difference.norm()
    exact = (logits[:, 0] - logits[:, 1]).abs() / length
    (found,) = attack(network, images, logits.argmax(1), torch.arange(12), [1.0])
    assert found.fallen.all()
    smallest = NORMS[norm].size(found.images - images)
    assert (smallest > exact).all()
    # HopSkipJump has eight estimates of the gradient, and none of the others estimates it.
    torch.testing.assert_close(
        smallest, exact, rtol=0.15 if name == "hopskipjump" else 0.02, atol=0
    )
    larger, smaller = smallest.median().item() * 1.01, smallest.median().item() * 0.99
    few, more = attack(network, images, logits.argmax(1), torch.arange(12), [smaller, larger])
    assert torch.equal(few.fallen, smallest <= smaller)
    assert torch.equal(more.fallen, smallest <= larger)


@each_norm
def test_autoattack_leaves_no_more_than_pgd_does(norm, network):
    images, labels = pictures(40)
    examples, epsilons = torch.arange(40), EPSILONS[norm]
    strong = autoattack(
        network, images, labels, examples, epsilons, NORMS[norm], iterations=40, queries=50
    )
    usual = pgd_grid(
        network, images, (labels,), epsilons, NORMS[norm], steps=40, relative_step=0.25,
        restarts=1, examples=examples, key="test",
    )  # fmt: skip
    assert all(s <= u for s, u in zip(standing(strong), standing(usual), strict=True))
    assert 0 < standing(strong)[1] < standing(strong)[0]
    assert gradient_free(strong) <= FLAGS["gradient_free"].threshold


@each_norm
def test_autoattack_is_the_packages_own(norm, network):
    from pyautoattack import AutoAttack

    images, labels = pictures(40)
    epsilon = EPSILONS[norm][1] * 0.8
    options = {"attacks": list(STAGES), "version": "custom", "eps": epsilon, "seed": 0}
    theirs = AutoAttack(network, norm={"linf": "Linf", "l2": "L2"}[norm], **options)
    theirs.apgd.n_restarts = theirs.fab.n_restarts = 1
    theirs.square.n_queries = 50
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = CLASSES - 1
    tracer = sys.gettrace()
    try:
        _, predictions = theirs.run_standard_evaluation(images, labels)
    finally:
        sys.settrace(tracer)  # it takes away that of coverage
    (ours,) = autoattack(
        network, images, labels, torch.arange(40), [epsilon], NORMS[norm], queries=50
    )
    assert 10 < ours.fallen.sum() < 35
    assert (ours.fallen != (predictions != labels)).sum() <= 1


def test_networks_are_attacked_side_by_side(network):
    pairs = [(network, 0), (trained(2), 1), (network, 2)]

    def attack(pair):
        strong = autoattack(
            pair[0], *pictures(8), torch.arange(8), [0.2], NORMS["l2"], seed=pair[1],
            iterations=10, queries=40,
        )  # fmt: skip
        return [
            *strong,
            *minimum_norm(Quantised(pair[0]), *pictures(8), torch.arange(8), [9.0], "ddn"),
        ]

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(attack, pairs))
    for some, pair in zip(together, pairs, strict=True):
        for one, alone in zip(some, attack(pair), strict=True):
            assert torch.equal(one.images, alone.images)


@each_norm
def test_noise_is_weaker_than_pgd_and_as_large_as_it_may_be(norm, network):
    images, labels = pictures(40)
    examples, epsilons = torch.arange(40), EPSILONS[norm]
    found = noise(network, images, labels, examples, epsilons, NORMS[norm])
    usual = pgd_grid(
        network, images, (labels,), epsilons, NORMS[norm], steps=10, relative_step=0.25,
        restarts=0, examples=examples, key="test",
    )  # fmt: skip
    assert all(n >= u for n, u in zip(standing(found), standing(usual), strict=True))
    assert standing(found)[1] > standing(usual)[1]
    new = found[-1].fallen & ~found[-2].fallen
    assert new.any()
    sizes = NORMS[norm].size(found[-1].images - images)[new]
    torch.testing.assert_close(sizes, torch.full_like(sizes, epsilons[-1]), rtol=0.02, atol=0)


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
    network, images = Detached(), grey()
    labels = network(images).argmax(1)
    found = attack(network, images, labels, torch.arange(12), [1.0, 8.0])[-1]
    name = next(name for name, pair in ATTACKS.items() if pair[1] is attack)
    assert found.fallen.any() == (name in GRADIENT_FREE)
    if name.startswith("autoattack"):
        assert set(found.by.tolist()) <= {NEVER, SQUARE}


@each_attack
@pytest.mark.parametrize("kind", [Diverged, Fragile, Dropping])
def test_a_broken_network_does_no_harm(kind, norm, attack):
    network, images = kind(), grey()
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
def test_few_classes_are_enough(classes, norm, attack):
    network, images = Linear(classes, scale=0.3), grey()
    labels = network(images).argmax(1)
    found = attack(network, images, labels, torch.arange(12), EPSILONS[norm])
    assert standing(found)[-1] <= standing(found)[0] <= 12


def test_queries_are_bounded():
    network, images = Linear(scale=0.3), grey(3)
    labels = network(images).argmax(1)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    hop_skip_jump(network, images, labels, torch.arange(3), [1.0])
    assert 1500 < len(calls) < 2000
    calls.clear()
    hop_skip_jump(network, images, labels, torch.arange(3), [1.0], steps=100)
    assert QUERIES < len(calls) < QUERIES + 100


@each_attack
@pytest.mark.parametrize("first", [0.0, 1.0])
def test_where_all_is_of_one_class_all_stand(first, norm, attack):
    class Stubborn(Linear):
        def forward(self, images):
            return super().forward(images * 0) + torch.tensor([first, 0, 0, 0, 0])

    labels = torch.zeros(5, dtype=torch.int64)
    for found in attack(Stubborn(), grey(5), labels, torch.arange(5), EPSILONS[norm]):
        assert not found.fallen.any()


def test_what_memory_does_not_suffice_for_is_done_in_halves(monkeypatch, network):
    monkeypatch.setattr(gradient, "CHUNK", {"cpu": 8})
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
    network, images, epsilon = Linear(), grey(), {"linf": 0.1, "l2": 1.0}[norm]
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


def test_what_fools_one_network_fools_another_seed(network):
    images, labels = pictures(60)
    source, epsilons = trained(1), EPSILONS["linf"]
    found = transferred(network, source, images, labels, torch.arange(60), epsilons)
    clean = (logits_of(network, images).argmax(1) == labels).sum()
    assert standing(found)[1] < clean
    assert standing(found)[2] < 0.7 * clean
    own = transferred(network, network, images, labels, torch.arange(60), epsilons)
    assert all(o <= f for o, f in zip(standing(own), standing(found), strict=True))
    for epsilon, each in zip(epsilons, found, strict=True):
        assert inside(images, each.images, NORMS["linf"], epsilon).all()
        assert torch.equal(each.fallen, logits_of(network, each.images).argmax(1) != labels)
    mute = transferred(network, Detached(), images, labels, torch.arange(60), epsilons)
    assert standing(mute) == [clean.item()] * 3


def test_the_suite_is_the_usual_attacks_and_these():
    pieces = SUITES["attacks-strong"](Setting(SIDE, SIDE))
    usual = SUITES["attacks"](Setting(SIDE, SIDE))
    assert [p.name for p in pieces[: len(usual)]] == [p.name for p in usual]
    strong = pieces[len(usual) :]
    assert {p.name for p in strong} == {*ATTACKS, "transfer-linf"}
    network, images = Linear(), grey(3)
    labels = network(images).argmax(1)
    for piece in strong:
        assert isinstance(piece, Attack)
        assert piece.suite == "attacks-strong"
        assert list(piece.levels) == sorted(piece.levels)
        assert piece.name.endswith(f"-{piece.group}")
        assert piece.transfer == (piece.name == "transfer-linf")
        networks = [network, Linear(scale=2.0)] if piece.transfer else [network]
        slow = piece.name.startswith(("autoattack", "hopskipjump"))  # unless nothing is left
        found = piece.run(*networks, images, (labels + slow) % CLASSES, torch.arange(3))
        for level, each in zip(piece.levels, found, strict=True):
            assert inside(images, each.images, NORMS[piece.group], level / 255).all()
            assert each.fallen.all() or not slow


def test_a_real_network_falls_alike_to_all_that_follow_gradients(test_data, cifar10_test):
    from selbench.datasets.images import decode_images
    from selbench.progress import SILENT

    moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = build_model(ModelSpec(name="resnet20", options={"shortcut": "A"}), 10, moments)
    load_weights(model, test_data / "weights" / "resnet20-cifar10.th")
    model.eval().requires_grad_(False)
    paths = sorted((cifar10_test / "test").glob("*/0000.jpg"))
    images, labels = decode_images(paths, SILENT, "").float() / 255, torch.arange(10)
    levels = (8 / 255, 64 / 255)
    counts = {
        name: standing(minimum_norm(model, images, labels, labels, levels, name))
        for name in ("ddn", "deepfool")
    }
    usual = pgd_grid(
        model, images, (labels,), levels, NORMS["l2"], steps=40, relative_step=0.25, restarts=0,
        examples=labels, key="test",
    )  # fmt: skip
    assert abs(counts["ddn"][0] - standing(usual)[0]) <= 1
    assert counts["deepfool"][1] == standing(usual)[1] == 0
