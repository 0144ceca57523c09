"""Attacks on networks with random outputs: closed forms, masks of noise, and errors by chance."""

from functools import partial

import pytest
import torch
from networks import SIDE, Linear, grey
from torch import nn

from selbench.attacks.averaged import Mean, Prediction, averaged
from selbench.attacks.gradient import pgd_grid
from selbench.attacks.nearest import minimum_norm
from selbench.attacks.norms import NORMS
from selbench.datasets import Split
from selbench.suites import SUITES, Setting, collect
from selbench.suites.attacking import run_attack

WHITE = 255
LINF = NORMS["linf"]
SETTING = Setting(SIDE, SIDE)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Noisy(Linear):
    """Two classes, linear, with Gaussian noise of known size on the difference of the logits."""

    def __init__(self, noise):
        super().__init__(classes=2, scale=0.1)
        self.noise = noise

    def forward(self, images):
        logits = super().forward(images)
        return logits + self.noise * torch.randn(len(images), 1) * torch.tensor([1.0, -1.0])


class Masked(Linear):
    """Two classes, linear but for a ripple that moves logits by 0.01 and gradients everywhere.

    The ripple has a random sign in every pass, so its mean is zero.
    """

    def __init__(self):
        super().__init__(classes=2, scale=0.1)

    def forward(self, images):
        flat = images.flatten(1)
        sign = torch.randn(len(images), flat.shape[1])
        ripple = 0.01 / flat.shape[1] ** 0.5 * (sign * (3000 * flat).sin()).sum(1, keepdim=True)
        return super().forward(images) + ripple * torch.tensor([1.0, -1.0])


def pgd_at(levels):
    def attack(network, images, labels, examples):
        epsilons = [level / WHITE for level in levels]
        options = {"steps": 10, "relative_step": 0.25, "restarts": 0, "key": "test"}
        return pgd_grid(network, images, labels, epsilons, LINF, examples=examples, **options)

    return attack


def distances(linear, images):
    """Return labels without noise, and distances to the boundary in 255ths."""
    logits = Linear.forward(linear, images)
    slope = (linear.weight[0] - linear.weight[1]).abs().sum()
    return logits.argmax(1), (logits[:, 0] - logits[:, 1]).abs() / slope * WHITE


def test_the_mean_has_the_mean_gradient():
    network, images = Noisy(0.5), grey(3).requires_grad_()
    logits = Mean(network, 400)(images)
    torch.testing.assert_close(logits, Linear.forward(network, images), atol=0.1, rtol=0)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), images)
    exact = network.weight[:1].expand(3, -1)
    torch.testing.assert_close(slope.flatten(1), exact, atol=1e-5, rtol=1e-4)
    (single,) = torch.autograd.grad(Masked()(images)[:, 0].sum(), images)
    (many,) = torch.autograd.grad(Mean(Masked(), 200)(images)[:, 0].sum(), images)
    assert (many - slope).norm() < 0.15 * (single - slope).norm()


def test_the_prediction_is_the_mean_of_probabilities():
    class Coin(nn.Module):  # class 0 in a quarter of the draws, with certainty; else a bit class 1
        def forward(self, images):
            sure = (torch.rand(len(images), 1) < 0.25).float()
            return sure * torch.tensor([50.0, 0.0]) + (1 - sure) * torch.tensor([0.0, 0.2])

    exact = 0.25 + 0.75 * torch.tensor([0.0, 0.2]).softmax(0)[0]
    found = Prediction(Coin(), 2000)(grey(1)).exp()[0]
    torch.testing.assert_close(found, torch.stack([exact, 1 - exact]), atol=0.04, rtol=0)


@pytest.mark.parametrize("name", ["pgd", pytest.param("fmn", marks=pytest.mark.soak)])
def test_a_noisy_linear_network_falls_at_its_distance_without_noise(name):
    network, images = Noisy(0.05), grey(20)
    labels, least = distances(network, images)

    def fmn_at(levels):
        epsilons = [level / WHITE for level in levels]
        return partial(minimum_norm, name="fmn-linf", epsilons=epsilons)

    at, levels = {"pgd": pgd_at, "fmn": fmn_at}[name], (1.0, 4.0, 12.0)
    sure = least > 1  # others err by chance
    images, labels, least = images[sure], labels[sure], least[sure]
    attack = averaged(at, levels, LINF, 10)
    found = attack(network, images, labels, torch.arange(len(images)))
    for level, each in zip(levels, found, strict=True):
        near, far = least < 0.7 * level, least > 1.4 * level
        assert each.fallen[near].all()
        assert not each.fallen[far].any()
        assert LINF.size(each.images - images).max() <= level / WHITE + 1e-6
        assert torch.equal(each.fallen, each.logits.argmax(1) != labels)
    assert min((least < 0.7 * 12).sum(), (least > 1.4 * 4).sum()) > 3


def test_a_network_masked_by_noise_falls_when_draws_are_averaged():
    network, images = Masked(), grey(20)
    labels, least = distances(network, images)
    within = (least > 4) & (least < 7)
    images, labels = images[within], labels[within]
    (alone,) = pgd_at((12.0,))(network, images, labels, labels)
    (found,) = averaged(pgd_at, (12.0,), LINF, 100)(network, images, labels, labels)
    assert len(images) > 5
    assert found.fallen.all()
    assert alone.fallen.double().mean() < 0.5


def test_errors_by_chance_do_not_count():
    class Chance(nn.Module):  # errs in two of five draws, wherever the image is
        def forward(self, images):
            logits = torch.where(torch.rand(len(images), 1) < 0.4, -1.0, 1.0)
            return logits * torch.tensor([1.0, -1.0]) + 0 * images.flatten(1)[:, :2]

    images, labels = grey(20), torch.zeros(20, dtype=torch.int64)
    levels = (1.0, 2.0, 4.0)
    alone = pgd_at(levels)(Chance(), images, labels, labels)
    found = averaged(pgd_at, levels, LINF, 2)(Chance(), images, labels, labels)
    assert alone[-1].fallen.all()
    assert found[-1].fallen.sum() <= 4  # a mean of 100 draws errs in 2 % of looks at one


def test_an_error_that_was_chance_at_one_level_does_not_end_the_search():
    def unlucky(levels):  # claims every image at the smaller level
        def attack(network, images, labels, examples):
            if levels == (1.0,):
                (found,) = pgd_at((0.01,))(network, images, labels, examples)
                found.fallen.fill_(True)
                return [found]
            return pgd_at(levels)(network, images, labels, examples)

        return attack

    network, images = Noisy(0.1), grey(20)
    labels, least = distances(network, images)
    sure = (least > 2) & (least < 10)
    images, labels = images[sure], labels[sure]
    low, high = averaged(unlucky, (1.0, 16.0), LINF, 5)(network, images, labels, labels)
    assert len(images) > 3
    assert not low.fallen.any()
    assert high.fallen.all()


def test_a_network_that_is_not_random_falls_as_without():
    network, images = Linear(), grey(20)
    labels = network(images).argmax(1)

    levels = (25.0, 64.0)
    plain = pgd_at(levels)(network, images, labels, labels)
    found = averaged(pgd_at, levels, LINF, 2)(network, images, labels, labels)
    for before, each in zip(plain, found, strict=True):
        assert torch.equal(each.fallen, before.fallen)
    assert 0 < plain[0].fallen.sum() < len(images)


def test_numbers_of_other_draws_are_other_cells():
    few, many = (collect(("attacks",), Setting(SIDE, SIDE, draws=n)) for n in (5, 20))
    plain = collect(("attacks",), SETTING)
    names = {work.name for work in few if work.is_attack}
    assert names == {"fgsm-linf-eot", "pgd-linf-eot", "pgd-l2-eot"}
    sources = [{w.source for w in works if w.is_attack} for works in (few, many, plain)]
    assert sources == [
        {"attack; means over 5 draws"},
        {"attack; means over 20 draws"},
        {"attack"},
    ]


@pytest.mark.soak
@pytest.mark.parametrize("name", [w.name for w in SUITES["attacks-strong"](SETTING) if w.is_attack])
def test_every_attack_can_follow_the_mean(name):
    work = {each.name: each for each in SUITES["attacks-strong"](SETTING)}[name]
    made = work.averaged(2)
    if name == "paper-pgd":
        assert made is None
        return
    network, images = Noisy(0.1), grey(4)
    labels, _ = distances(network, images)
    split = Split((images * WHITE).round().to(torch.uint8), labels, torch.arange(4), "")
    networks = [network] * (2 if work.transfer else 1)
    outcomes, _ = run_attack(made.attack, made.budgets, networks, split)
    accuracies = [(each["prediction"] == labels).double().mean() for each in outcomes]
    assert accuracies == sorted(accuracies, reverse=True)
    assert outcomes[-1]["passes_forward"][0] > 100
