"""Searches end early where there is no hope: on linear networks it is known where."""

import pytest
import torch
from networks import CLASSES, Linear, Quantised, grey, pictures
from quick_attacks import each_norm

from selbench.attacks.apgd import apgd
from selbench.attacks.autoattack import autoattack
from selbench.attacks.fab import fab
from selbench.attacks.foreign import Guarded
from selbench.attacks.hope import checkpoint
from selbench.attacks.norms import NORMS
from selbench.attacks.square import square


class Counting(torch.nn.Module):
    """Counts the images of each pass."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sizes = network, []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.network(images)


def aimed(norm):
    """Return a linear network, a row for each image and target, and the distances of errors."""
    network = Linear()
    images = grey(8).repeat_interleave(CLASSES - 1, 0)
    labels = network(images).argmax(1)
    targets = (labels + 1 + torch.arange(len(labels)) % (CLASSES - 1)) % CLASSES
    logits, weight = network(images), network.weight[labels] - network.weight[targets]
    lead = (logits.gather(1, labels[:, None]) - logits.gather(1, targets[:, None])).squeeze(1)
    length = weight.norm(dim=1) if norm == "l2" else weight.abs().sum(1)
    return network, images, labels, targets, lead / length


@each_norm
@pytest.mark.parametrize("patient", [True, False])
def test_apgd_ends_where_a_target_is_more_than_half_as_far_again_as_the_ball_reaches(norm, patient):
    network, images, labels, targets, exact = aimed(norm)
    epsilon = exact.sort().values[15:17].mean().item() / 1.5
    guarded = Guarded(Counting(network))
    epsilons = torch.full_like(exact, epsilon)
    options = {"loss": "ce-targeted", "targets": targets, "start": images, "steps": 20}
    climbed = apgd(guarded, images, labels, epsilons, NORMS[norm], patient=patient, **options)
    assert torch.equal(climbed.fell, exact <= epsilon)
    assert guarded.network.sizes[-1] == (32 if patient else 16) - climbed.fell.sum()


@each_norm
def test_apgd_ends_at_once_where_no_row_has_hope(norm):
    network, images, labels, _, exact = aimed(norm)
    guarded, epsilons = Guarded(Counting(network)), exact / 100
    options = {"loss": "ce", "start": images, "steps": 20, "patient": False}
    climbed = apgd(guarded, images, labels, epsilons, NORMS[norm], **options)
    assert not climbed.fell.any()
    assert len(guarded.network.sizes) == checkpoint(20) + 1 + 2  # the last two judge hope


@each_norm
def test_fab_ends_where_errors_are_more_than_half_as_far_again_as_epsilon(norm):
    network, images, labels, _, exact = aimed(norm)
    rows = exact.view(-1, CLASSES - 1).sort().values
    gaps = rows[:, 1:] / rows[:, :-1]
    (clear,) = (gaps.amax(1) > 1.15).nonzero(as_tuple=True)
    near = 1 + gaps[clear].argmax(1)
    epsilons = rows[clear].gather(1, near[:, None]).squeeze(1) / 1.54  # none falls
    guarded, every = Guarded(Counting(network)), CLASSES - 1
    given = (images[::every][clear], labels[::every][clear], epsilons, NORMS[norm])
    fab(guarded, *given, steps=20, patient=False)
    steps = 20 * near + checkpoint(20) * (every - near)
    assert len(clear) > 2
    assert sum(guarded.network.sizes) == len(clear) + 2 * steps.sum()  # a step has two passes


class Bright(torch.nn.Module):
    """Errs where the mean of an image is above 0.6."""

    def forward(self, images):
        brightness = images.flatten(1).mean(1)
        return torch.stack([torch.full_like(brightness, 0.6), brightness], 1)


def test_square_goes_on_where_it_has_come_far_or_keeps_up_with_gradients():
    # Square can brighten by 0.02, 0.04 or 0.09 of the 0.1; gradients by nothing, or all.
    epsilons = torch.tensor([0.02, 0.02, 0.04, 0.09, 0.09])
    ahead = torch.tensor([0, -0.1, 0, 0, -0.1])
    images, labels = torch.full((5, 3, 6, 6), 0.5), torch.zeros(5, dtype=torch.int64)
    guarded = Guarded(Counting(Bright()))
    given = (guarded, images, labels, epsilons, NORMS["linf"])
    found = square(*given, seed=0, queries=150, ahead=ahead)
    assert torch.equal(found, images)
    sizes = guarded.network.sizes
    assert sizes == [5] * (checkpoint(150) + 2) + [4] * (150 - checkpoint(150))


@pytest.mark.parametrize("full", [True, False])
def test_masked_gradients_leave_square_all_its_queries(network, full):
    images, labels = pictures(8)
    masked = Counting(Quantised(network))
    options = {"iterations": 10, "queries": 40, "full": full}
    (found,) = autoattack(masked, images, labels, torch.arange(8), [0.02], NORMS["linf"], **options)
    standing = int((~found.fallen).sum())
    assert standing > 2
    assert masked.sizes[-1] == standing
    assert masked.sizes[-30:] == sorted(masked.sizes[-30:], reverse=True)


def test_searches_without_hope_cost_a_third_and_change_no_verdict(network):
    images, labels = pictures(8)
    epsilons = [1e-4]

    def passes(full):
        counting = Counting(network)
        options = {"iterations": 10, "queries": 100, "full": full}
        (found,) = autoattack(
            counting, images, labels, torch.arange(8), epsilons, NORMS["linf"], **options
        )
        return sum(counting.sizes), found.by

    (few, by), (many, by_full) = passes(False), passes(True)
    assert torch.equal(by, by_full)
    assert few < 0.35 * many
