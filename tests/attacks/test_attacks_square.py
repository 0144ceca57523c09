"""Square beside its authors' code, with the same draws: every image that it asks about is equal."""

import copy

import pytest
import torch
from networks import pictures
from pyautoattack.square import SquareAttack
from quick_attacks import each_norm

from selbench._kit.randomness import dice
from selbench.attacks.foreign import Guarded
from selbench.attacks.norms import NORMS, inside
from selbench.attacks.square import square

EPSILONS = {"linf": 12 / 255, "l2": 0.35}


class Theirs(SquareAttack):
    """Square with a generator of its own, whose random numbers are the same for all examples."""

    def random_choice(self, shape):
        one = [1, *shape[1:]] if len(shape) == 4 else shape
        return (2 * self.uniform(one) - 1).sign().expand(shape)

    def random_int(self, low=0, high=1, shape=(1,)):
        return (low + (high - low) * self.uniform(shape)).long()

    def eta(self, s):
        with dice(0):  # what it draws here is undone
            pattern = super().eta(s)
        upright = pattern if pattern[0, 0] * pattern[0, -1] >= 0 else pattern.T
        return upright.T if self.uniform([1]) > 0.5 else upright

    def uniform(self, shape):
        return torch.rand(*shape, generator=self.generator, dtype=torch.float32)


def recorded(network):
    """Return a copy of a network in float64, and the list of what it is asked."""
    asked = []
    network = copy.deepcopy(network).double()
    network.register_forward_hook(lambda _, points, __: asked.append(points[0].clone()))
    return network, asked


@each_norm
@pytest.mark.parametrize("queries", [150, pytest.param(3000, marks=pytest.mark.soak)])
@pytest.mark.sample("queries")
def test_every_query_is_the_authors(norm, queries, network):
    images, labels = pictures(10)
    images, epsilon = images.double(), EPSILONS[norm]
    network, asked = recorded(network)
    right = network(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    asked.clear()
    theirs = Theirs(
        network, norm={"linf": "Linf", "l2": "L2"}[norm], n_queries=queries, eps=epsilon,
        resc_schedule=False,
    )  # fmt: skip
    theirs.init_hyperparam(images)
    theirs.generator = torch.Generator().manual_seed(3)
    torch.set_default_dtype(torch.float64)
    try:
        theirs.attack_single_run(images, labels)
        expected = list(asked)
        asked.clear()
        epsilons = torch.full((len(images),), epsilon)
        found = square(
            Guarded(network), images, labels, epsilons, NORMS[norm], seed=3, queries=queries
        )
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(asked) == len(expected) == queries + 1
    assert 0 < len(expected[-1]) < len(expected[0])
    for ours, their in zip(asked, expected, strict=True):
        torch.testing.assert_close(ours, their, rtol=0, atol=1e-9)
    fell = (found != images).flatten(1).any(1)
    assert torch.equal(fell, network(found).argmax(1) != labels)


@each_norm
@pytest.mark.sample
def test_rows_have_epsilons_of_their_own(norm, network):
    images, labels = pictures(8)
    epsilons = EPSILONS[norm] * torch.linspace(0.2, 4, 8)
    options = {"norm": NORMS[norm], "seed": 0, "queries": 60}
    together = square(Guarded(network), images, labels, epsilons, **options)
    fell = (together != images).flatten(1).any(1)
    assert 1 < fell.sum() < 8
    assert inside(images, together, NORMS[norm], epsilons).all()
    assert (NORMS[norm].size(together - images)[fell] > 0.5 * epsilons[fell]).all()
    for row in range(8):
        own = slice(row, row + 1)
        alone = square(Guarded(network), images[own], labels[own], epsilons[own], **options)
        torch.testing.assert_close(alone, together[own])
