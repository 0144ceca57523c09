"""APGD beside its authors' code, from the same start; rows, and when they leave."""

import copy
import logging

import pytest
import torch
from networks import CLASSES, Linear, grey, pictures
from quick_attacks import each_norm

from selbench.attacks.apgd import LOSSES, Climbed, apgd
from selbench.attacks.foreign import Guarded
from selbench.attacks.norms import NORMS, inside

SILENT = logging.Logger("theirs", logging.CRITICAL + 1)
EPSILONS = {"linf": 6 / 255, "l2": 0.2}


class Halved(torch.nn.Sequential):
    """A network whose logits never lead so far that ours are tempered."""

    def forward(self, images):
        return super().forward(images) / 2


def begun(norm, batch=16, seed=3):
    """Return images, labels, targets and points to start from, in float64."""
    images, labels = pictures(batch)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    start = images + EPSILONS[norm] * noise / NORMS[norm].size(noise).view(-1, 1, 1, 1)
    targets = (labels + 1 + torch.arange(batch) % (CLASSES - 1)) % CLASSES
    return images.double(), labels, targets, start.double()


@each_norm
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.sample("norm", "steps")
@pytest.mark.parametrize("steps", [20, pytest.param(50, marks=pytest.mark.soak)])
def test_the_best_points_are_the_authors(norm, loss, steps, network):
    from pyautoattack.autopgd_base import APGDAttack_targeted

    images, labels, targets, start = begun(norm)
    kept, network = torch.get_default_dtype(), Halved(copy.deepcopy(network).double())
    theirs = APGDAttack_targeted(
        network, n_iter=steps, norm={"linf": "Linf", "l2": "L2"}[norm], eps=EPSILONS[norm],
        logger=SILENT,
    )  # fmt: skip
    theirs.loss, theirs.y_target = loss, targets
    theirs.init_hyperparam(images)
    torch.set_default_dtype(torch.float64)
    try:
        best, right, _, _ = theirs.attack_single_run(images, labels, x_init=start)
        ours = apgd(
            Guarded(network), images, labels, torch.full((16,), EPSILONS[norm]), NORMS[norm],
            start=start, loss=loss, targets=targets, steps=steps, early=False,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(kept)
    if loss == "dlr":  # which is constant, and its gradient rounding, where the label comes third
        ours, best, start = Climbed(ours.points[right], ours.fell), best[right], start[right]
    assert 4 < right.sum() < 16
    assert (NORMS[norm].size(best - start) > EPSILONS[norm] / 20).all()
    torch.testing.assert_close(ours.points, best, rtol=0, atol=1e-5)


@each_norm
def test_rows_have_epsilons_of_their_own_and_leave_with_their_owner(norm, network):
    images, labels, _, start = (part[:6] for part in begun(norm))
    images, start = images.float(), start.float()
    epsilons = EPSILONS[norm] * torch.linspace(0.1, 3, 6)
    start = images + NORMS[norm].project(start - images, epsilons)
    passes = []
    network = copy.deepcopy(network)
    network.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))
    options = {"loss": "ce", "steps": 10}
    together = apgd(Guarded(network), images, labels, epsilons, NORMS[norm], start=start, **options)
    spent = sum(passes)
    assert inside(images, together.points, NORMS[norm], epsilons).all()
    assert 1 < together.fell.sum() < 6
    assert spent < 6 * 11
    errs = network(together.points).argmax(1) != labels
    assert torch.equal(errs, together.fell)
    for row in range(6):
        (own,) = (slice(row, row + 1),)
        alone = apgd(
            Guarded(network), images[own], labels[own], epsilons[own], NORMS[norm],
            start=start[own], **options,
        )  # fmt: skip
        torch.testing.assert_close(alone.points, together.points[own])
    passes.clear()
    owners = torch.zeros(6, dtype=torch.int64)
    shared = apgd(
        Guarded(network), images, labels, epsilons, NORMS[norm], start=start, owners=owners,
        **options,
    )  # fmt: skip
    assert shared.fell.any()
    assert sum(passes) < spent


def test_what_does_not_fool_the_network_as_it_was_given_goes_on():
    network, images = Linear(), grey(4)
    labels = network(images).argmax(1)
    start, epsilons = images.clone(), torch.full((4,), 0.1)
    options = {"start": start, "loss": "ce", "steps": 3}
    guarded = Guarded(network)
    found = [apgd(guarded, images, labels, epsilons, NORMS["linf"], **options)]
    guarded.given = Stubborn()
    found.append(apgd(guarded, images, labels, epsilons, NORMS["linf"], **options))
    assert [each.fell.any().item() for each in found] == [True, False]


class Stubborn(Linear):
    """A network that says what it says of the images, whatever they are."""

    def forward(self, images):
        return super().forward(grey(4)[: len(images)])
