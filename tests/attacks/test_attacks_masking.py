"""Networks that mask their gradients, or have none, are flagged, and honest ones are not."""

import pytest
import torch
from networks import (
    SIDE,
    Detached,
    Diverged,
    Dropping,
    Linear,
    Quantised,
    grey,
    labels_of,
    pictures,
)

from selbench.attacks.folding import folded
from selbench.attacks.gradient import fgsm, pgd
from selbench.attacks.masking import FLAGS, differentiable, examine, raised
from selbench.attacks.norms import NORMS
from selbench.suites import Attack, Setting, collect

EPSILONS = (0.25 / 255, 1 / 255, 4 / 255, 16 / 255)


def test_an_undefended_network_falls_and_raises_no_flag(network):
    no_flag(network, *pictures(24), (4 / 255, 12 / 255, 40 / 255), 64 / 255)


@pytest.mark.soak
def test_a_real_network_falls_and_raises_no_flag(foreign, real):
    images, labels = (part[::28] for part in real)
    no_flag(folded(foreign, images[:2]), images, labels, EPSILONS, 8 / 255)


def no_flag(network, images, labels, epsilons, enough):
    checks = examine(network, images, labels, torch.arange(len(labels)), epsilons)
    assert set(checks) == set(FLAGS) - {"gradient_free", "transfer"}
    assert raised(checks, len(labels)) == []
    found = pgd(network, images, labels, enough, NORMS["linf"], step=enough / 4, steps=40)
    assert found.fallen.all()


def test_rounded_inputs_are_flagged():
    network, images = Quantised(Linear()), grey(40)
    labels = labels_of(network, images)
    checks = examine(network, images, labels, torch.arange(40), EPSILONS[1:3])
    assert {"zero gradients", "stands up to 64/255"} <= set(raised(checks))


def test_a_batch_norm_without_statistics_is_not_folded():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4, track_running_stats=False),
        torch.nn.Flatten(),
    ).eval()
    assert folded(network, grey(2)) is network


class Softmax(Linear):
    def forward(self, images):
        return super().forward(images).softmax(1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Softmax, "returns probabilities"), (Dropping, "random outputs"), (Detached, "no gradients")],
)
def test_networks_that_cannot_be_attacked_soundly_are_flagged(kind, words):
    network, images = kind(), grey(40)
    labels = labels_of(network, images)
    assert words in raised(examine(network, images, labels, torch.arange(40), EPSILONS))
    assert differentiable(network, images[:1], labels[:1]) == (kind is not Detached)


def test_a_flag_is_raised_beyond_its_threshold_whatever_rounding_does():
    (threshold,) = {FLAGS[name].threshold for name in ("one_step", "noise")}
    for fallen in range(500):
        assert raised({"one_step": (fallen + 1) / 500 - fallen / 500}) == [], threshold
        assert raised({"one_step": (fallen + 2) / 500 - fallen / 500})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("images", [20, 100, 500])
def test_one_image_raises_no_flag_but_of_what_no_image_may_do(name, images):
    flag = FLAGS[name]
    assert bool(raised({name: 1 / images}, images)) == flag.alone
    several = max(2, 1 + round(flag.threshold * images))
    assert raised({name: several / images}, images) == [flag.words]


def test_attacks_are_compared_where_pgd_fells_nearest_to_half():
    network, images, norm = Linear(), grey(40), NORMS["linf"]
    labels = labels_of(network, images)
    epsilons = (0.001 / 255, 24 / 255, 100 / 255)
    checks = examine(network, images, labels, torch.arange(40), epsilons)
    shares = []
    for epsilon in epsilons:
        many = pgd(network, images, labels, epsilon, norm, step=epsilon / 4, steps=40)
        (once,) = fgsm(network, images, labels, [epsilon], norm)
        shares.append([each.fallen.double().mean().item() for each in (many, once)])
    many, once = min(shares, key=lambda pair: abs(pair[0] - 0.5))
    assert 0.2 < many < 0.8
    assert checks["one_step"] == once - many
    assert checks["more_steps"] == 0


def test_a_linear_network_raises_no_flag():
    network, images = Linear(), grey(40)
    labels = labels_of(network, images)
    assert raised(examine(network, images, labels, torch.arange(40), EPSILONS)) == []


def test_outputs_that_are_not_finite_are_flagged():
    images, labels = grey(4), torch.ones(4, dtype=torch.int64)
    checks = examine(Diverged(), images, labels, torch.arange(4), EPSILONS)
    assert checks["not_finite"] == 1
    assert "outputs not finite" in raised(checks)


@pytest.mark.parametrize("kind", [Detached, Diverged], ids=["Detached", "Broken"])
def test_the_suite_gets_by_with_a_network_that_cannot_be_attacked(kind):
    network, images = kind(), grey(6)
    labels = labels_of(Linear(), images)
    pieces = [p for p in collect(("attacks",), Setting(SIDE, SIDE)) if isinstance(p, Attack)]
    assert pieces
    for piece in pieces:
        results = piece.attack(network, images, labels, torch.arange(6))
        assert len(results) == len(piece.levels)
        for each in results:
            wrong = labels_of(network, images) != labels
            assert torch.equal(each.fallen, wrong)
            assert torch.equal(each.images, images)
