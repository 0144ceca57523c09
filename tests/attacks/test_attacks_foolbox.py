"""Attacks along gradients on a network that others trained: as foolbox's, and folded or not."""

import pytest
import torch
from networks import Linear, grey
from torch import nn

from selbench.attacks.folding import folded
from selbench.attacks.gradient import fgsm, pgd
from selbench.attacks.norms import NORMS


def test_folding_changes_no_logit_beyond_rounding(foreign, real):
    images = real[0][::12]
    quicker = folded(foreign, images[:2])
    assert sum(isinstance(m, nn.Identity) for m in quicker.modules()) == 19
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quicker.modules())
    torch.testing.assert_close(quicker(images), foreign(images), rtol=1e-4, atol=1e-3)
    assert any(isinstance(m, nn.BatchNorm2d) for m in foreign.modules())


class Small(nn.Module):
    """A convolution and a batch norm, called by keyword; says whether hooks watch it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.norm.running_mean.uniform_()
        self.watched = []

    def forward(self, images, keyword=False):
        self.watched.append(bool(self.convolution._forward_hooks))
        maps = self.convolution(images)
        return (self.norm(input=maps) if keyword else self.norm(maps)).mean((2, 3))


def test_folding_watches_a_copy_since_others_compute_with_the_network():
    network = Small().eval()
    quicker = folded(network, grey(2))
    assert isinstance(quicker.norm, nn.Identity)
    assert not any(network.watched)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_batch_norm_that_is_called_by_keyword_is_not_folded():
    network = Small().eval()
    network.forward = lambda images: Small.forward(network, images, keyword=True)
    assert folded(network, grey(2)) is network


def test_a_network_without_batch_norm_is_left_alone():
    network = Linear()
    assert folded(network, grey(2)) is network


@pytest.mark.parametrize(
    ("ours", "attack"), [("linf", "LinfPGD"), ("l2", "L2PGD"), ("fgsm", "LinfFastGradientAttack")]
)
@pytest.mark.sample
def test_the_same_examples_fall_as_to_foolbox(ours, attack, foreign, real):
    import foolbox

    images, labels = (part[::14] for part in real)
    epsilons = [1 / 255, 0.06] if ours == "l2" else [0.25 / 255, 0.5 / 255]
    options = {} if ours == "fgsm" else {"rel_stepsize": 0.25, "steps": 10, "random_start": False}
    theirs = getattr(foolbox.attacks, attack)(**options)
    wrapped = foolbox.PyTorchModel(foreign, bounds=(0, 1))
    _, _, expected = theirs(wrapped, images, labels, epsilons=epsilons)
    network = folded(foreign, images[:2])
    if ours == "fgsm":
        found = fgsm(network, images, labels, epsilons, NORMS["linf"])
    else:
        found = [
            pgd(network, images, labels, e, NORMS[ours], step=e / 4, steps=10, early=False)
            for e in epsilons
        ]
    for each, theirs_fallen in zip(found, expected, strict=True):
        assert 0 < theirs_fallen.sum() < len(images)
        assert (each.fallen != theirs_fallen).sum() <= 1
