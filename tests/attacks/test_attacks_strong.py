"""Attacks that others wrote: laws for all of them, closed forms, and what each leaves standing."""

import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import CLASSES, SIDE, Detached, Linear, Quantised, grey, pictures, trained
from quick_attacks import ATTACKS, EPSILONS, each_attack, each_norm, gradient_free, run, standing

from selbench.attacks import nearest
from selbench.attacks.autoattack import SQUARE, autoattack
from selbench.attacks.descent import ddn
from selbench.attacks.gradient import NEVER, logits_of, pgd_grid
from selbench.attacks.ladder import STAGES
from selbench.attacks.masking import FLAGS
from selbench.attacks.nearest import MINIMUM_NORM, hop_skip_jump, minimum_norm
from selbench.attacks.norms import NORMS, inside
from selbench.attacks.strong import noise, transferred
from selbench.suites import SUITES, Attack, Setting

pytestmark = pytest.mark.long(12)


@pytest.fixture(scope="module")
def once(network):
    """Return a function that runs an attack on twelve images, once for all tests."""

    @cache
    def once(norm, attack):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return run(attack, network, norm=norm)

    return once


@each_attack
def test_what_has_fallen_fools_the_network_from_within_the_ball(norm, attack, network, once):
    images, labels, found = once(norm, attack)
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
@pytest.mark.sample("norm")
def test_a_seed_gives_the_same_numbers_and_leaves_no_trace(norm, attack, network, once, capfd):
    _, _, one = once(norm, attack)
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    _, _, two = run(attack, network, norm=norm)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first.images, second.images)
    if "seed" in inspect.signature(attack).parameters:
        _, _, other = run(attack, network, 2, norm, EPSILONS[norm][:1], seed=1)
        assert len(other) == 1
    assert capfd.readouterr() == ("", "")


@each_attack
@pytest.mark.sample("norm")
def test_an_example_does_not_depend_on_its_batch(norm, attack, network, once):
    images, labels, whole = once(norm, attack)
    rows = slice(3, 8)
    examples = torch.arange(12)[rows]
    part = attack(network, images[rows], labels[rows], examples, EPSILONS[norm])
    for all_, some in zip(whole, part, strict=True):
        assert torch.equal(all_.fallen[rows], some.fallen)
        torch.testing.assert_close(all_.images[rows], some.images, rtol=0, atol=1e-4)


@each_norm
@pytest.mark.soak
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
@pytest.mark.sample("norm")
def test_images_may_be_laid_out_in_any_way(norm, attack, network):
    images, labels = pictures(2)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    found = attack(network, laid_out, labels, torch.arange(2), EPSILONS[norm][1:])
    assert len(found) == 2


@pytest.mark.parametrize(
    "name", [*MINIMUM_NORM, pytest.param("hopskipjump-l2", marks=pytest.mark.soak)]
)
def test_the_nearest_error_of_a_linear_network_is_found(name):
    network, images = Linear(classes=2), grey(12)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    logits = network(images)
    norm, estimated = name.rpartition("-")[2], name not in MINIMUM_NORM
    attack = hop_skip_jump if estimated else partial(minimum_norm, name=name)
    difference = network.weight[0] - network.weight[1]
    length = difference.abs().sum() if norm == "linf" else difference.norm()
    exact = (logits[:, 0] - logits[:, 1]).abs() / length
    # HopSkipJump has eight estimates of the gradient, and none of the others estimates it.
    slack = 0.15 if estimated else 0.01
    smaller = exact.median().item()
    larger = smaller * (1 + slack)
    labels = logits.argmax(1)
    few, more, found = attack(network, images, labels, torch.arange(12), [smaller, larger, 1.0])
    assert found.fallen.all()
    smallest = NORMS[norm].size(found.images - images)
    assert (smallest > exact).all()
    torch.testing.assert_close(smallest, exact, rtol=slack, atol=0)
    assert torch.equal(few.fallen, smallest <= smaller)
    assert torch.equal(more.fallen, smallest <= larger)
    assert few.fallen.sum() < more.fallen.sum()
    assert 1500 < len(calls) < 2000 or not estimated  # what its eight steps ask


@each_norm
@pytest.mark.soak
def test_autoattack_leaves_no_more_than_pgd_does(norm, network):
    images, labels = pictures(40)
    examples, epsilons = torch.arange(40), EPSILONS[norm]
    strong = autoattack(
        network, images, labels, examples, epsilons, NORMS[norm], iterations=20, queries=20
    )
    usual = pgd_grid(
        network, images, labels, epsilons, NORMS[norm], steps=20, relative_step=0.25,
        restarts=1, examples=examples, key="test",
    )  # fmt: skip
    assert all(s <= u for s, u in zip(standing(strong), standing(usual), strict=True))
    assert 0 < standing(strong)[1] < standing(strong)[0]
    assert gradient_free(strong) <= FLAGS["gradient_free"].threshold


@each_norm
@pytest.mark.sample
def test_autoattack_is_the_packages_own(norm, network):
    from pyautoattack import AutoAttack

    images, labels = pictures(24)
    epsilon = EPSILONS[norm][1] * 0.8
    options = {"attacks": list(STAGES[1:]), "version": "custom", "eps": epsilon, "seed": 0}
    theirs = AutoAttack(network, norm={"linf": "Linf", "l2": "L2"}[norm], **options)
    theirs.apgd.n_restarts = theirs.fab.n_restarts = 1
    theirs.square.n_queries = 20
    for each in (theirs.apgd, theirs.apgd_targeted, theirs.fab):
        each.n_iter = 20
    for each in (theirs.apgd, theirs.apgd_targeted):  # which take theirs from it when made
        each.n_iter_orig = 20
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = CLASSES - 1
    tracer = sys.gettrace()
    try:
        _, predictions = theirs.run_standard_evaluation(images, labels)
    finally:
        sys.settrace(tracer)  # it takes away that of coverage
    for full, epsilons in ((True, [epsilon]), (False, [epsilon / 3, epsilon, 3 * epsilon])):
        found = autoattack(
            network, images, labels, torch.arange(24), epsilons, NORMS[norm], full=full,
            iterations=20, queries=20,
        )  # fmt: skip
        assert 6 < predictions.ne(labels).sum() < 21
        assert torch.equal(found[epsilons.index(epsilon)].fallen, predictions != labels)


@pytest.mark.soak
def test_networks_are_attacked_side_by_side(network, monkeypatch):
    monkeypatch.setattr(nearest, "MINIMUM_NORM", {"ddn-l2": partial(ddn, steps=10)})
    pairs = [(network, 0), (trained(2), 1), (network, 2)]

    def attack(pair):
        strong = autoattack(
            pair[0], *pictures(8), torch.arange(8), [0.2], NORMS["l2"], seed=pair[1],
            iterations=4, queries=10,
        )  # fmt: skip
        return [
            *strong,
            *minimum_norm(Quantised(pair[0]), *pictures(4), torch.arange(4), [9.0], "ddn-l2"),
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
        network, images, labels, epsilons, NORMS[norm], steps=10, relative_step=0.25,
        restarts=0, examples=examples, key="test",
    )  # fmt: skip
    assert all(n >= u for n, u in zip(standing(found), standing(usual), strict=True))
    assert standing(found)[1] > standing(usual)[1]
    new = found[-1].fallen & ~found[-2].fallen
    assert new.any()
    sizes = NORMS[norm].size(found[-1].images - images)[new]
    torch.testing.assert_close(sizes, torch.full_like(sizes, epsilons[-1]), rtol=0.02, atol=0)


@pytest.mark.parametrize("queries", [200, pytest.param(nearest.QUERIES, marks=pytest.mark.soak)])
def test_queries_are_bounded(queries, monkeypatch):
    monkeypatch.setattr(nearest, "QUERIES", queries)
    network, images = Linear(scale=0.3), grey(3)
    labels = network(images).argmax(1)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    hop_skip_jump(network, images, labels, torch.arange(3), [1.0], steps=100)
    assert queries < len(calls) < queries + 100


@pytest.mark.soak
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
    assert {p.name for p in strong} >= {*ATTACKS, "transfer-linf"}
    network, images = Linear(), grey(3)
    labels = network(images).argmax(1)
    for piece in strong:
        assert isinstance(piece, Attack)
        assert piece.suite == "attacks-strong"
        assert list(piece.levels) == sorted(piece.levels)
        assert piece.name.endswith(f"-{piece.group}")
        assert piece.transfer == (piece.name == "transfer-linf")
        networks = [network, Linear(scale=2.0)] if piece.transfer else [network]
        slow = not piece.name.startswith(("noise", "transfer"))  # unless nothing is left
        found = piece.attack(*networks, images, (labels + slow) % CLASSES, torch.arange(3))
        for level, each in zip(piece.levels, found, strict=True):
            assert inside(images, each.images, NORMS[piece.group], level / 255).all()
            assert each.fallen.all() or not slow


def alike_to_all(network, images, labels, levels):
    examples = torch.arange(len(labels))
    counts = {
        name: standing(minimum_norm(network, images, labels, examples, levels, name))
        for name in ("ddn-l2", "deepfool-l2")
    }
    usual = pgd_grid(
        network, images, labels, levels, NORMS["l2"], steps=40, relative_step=0.25, restarts=0,
        examples=examples, key="test",
    )  # fmt: skip
    assert abs(counts["ddn-l2"][0] - standing(usual)[0]) <= 1
    assert counts["deepfool-l2"][1] == standing(usual)[1] == 0


def test_a_network_falls_alike_to_all_that_follow_gradients(network):
    images, labels = pictures(10)
    alike_to_all(network, images, labels, (0.3, 3.0))


@pytest.mark.soak
def test_a_real_network_falls_alike_to_all_that_follow_gradients(foreign, real):
    alike_to_all(foreign, real[0][::10], torch.arange(10), (8 / 255, 64 / 255))
