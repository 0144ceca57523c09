"""Networks that are certain, that keep batch norm training, and images of any shape."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench.attacks.autoattack import autoattack
from selbench.attacks.folding import folded
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import fgsm, gradients_of, pgd_grid
from selbench.attacks.losses import CERTAIN, LEAD, cross_entropy, tempered
from selbench.attacks.nearest import minimum_norm
from selbench.attacks.norms import NORMS

IMAGES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
EXAMPLES = torch.arange(len(IMAGES))


class Net(nn.Module):
    """Certain enough, at a factor of 1, that cross-entropy follows the nearest class."""

    def __init__(self, act=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.act = nn.Conv2d(3, 8, 3), nn.Linear(32, 5), act or nn.Identity()
        self.mean = 0
        self.mean = self.logits(IMAGES).mean(0).detach()

    def logits(self, images):
        x = F.adaptive_avg_pool2d(F.relu(self.conv(images)), 2).flatten(1)
        return 600 * self.head(x) - self.mean

    def forward(self, images):
        return self.act(self.logits(images))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return self.factor * logits


def left(network, norm, epsilon):
    network = network.eval().requires_grad_(False)
    labels = Net().eval()(IMAGES).argmax(1)
    options = {"steps": 20, "relative_step": 0.25, "restarts": 1, "examples": EXAMPLES, "key": "t"}
    (found,) = pgd_grid(network, IMAGES, labels, [epsilon], NORMS[norm], **options)
    (once,) = fgsm(network, IMAGES, labels, [epsilon], NORMS[norm])
    return [1 - each.fallen.double().mean().item() for each in (found, once)]


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.015), ("l2", 0.15)])
@pytest.mark.parametrize(
    "act",
    [
        Times(30),
        Times(100),
        Times(1e6),
        nn.Sequential(Times(30), nn.LogSoftmax(1)),
        nn.Softmax(1),
    ],
    ids=["30", "100", "million", "log", "probabilities"],
)
@pytest.mark.sample
def test_certain_networks_fall_as_they_do_without_the_factor(act, norm, epsilon):
    usual = left(Net(), norm, epsilon)
    assert 0.2 < usual[0] < 0.8
    assert left(Net(act), norm, epsilon) == pytest.approx(usual, abs=0.051)


def test_logits_that_do_not_lead_so_far_are_left_alone_to_the_bit():
    logits = torch.tensor([[0.0, CERTAIN - 0.1, 3.0], [0.0, 60.0, 30.0], [1.0, 1.0, -torch.inf]])
    found = tempered(logits)
    assert torch.equal(found[[0, 2]], logits[[0, 2]])
    assert torch.equal(found.argmax(1)[:2], logits.argmax(1)[:2])
    assert found[1].tolist() == pytest.approx([0, 2 * LEAD, LEAD])
    labels = torch.tensor([1, 1, 0])
    usual = F.cross_entropy(logits[:1], labels[:1], reduction="none")
    assert torch.equal(cross_entropy(logits, labels)[:1], usual)


def test_the_gradient_of_a_certain_network_is_that_of_a_less_certain_one():
    network, labels = Net(Times(1e4)).eval(), Net().eval()(IMAGES).argmax(1)
    gradients, _ = gradients_of(network, IMAGES, labels)
    assert (gradients.flatten(1).abs().amax(1) > 0).all()


def test_attacks_of_others_see_gradients_of_certain_networks():
    labels = Net().eval()(IMAGES).argmax(1)
    fallen = []
    for factor in (1, 1e4):
        network = Net(Times(factor)).eval().requires_grad_(False)
        (found,) = minimum_norm(network, IMAGES, labels, EXAMPLES, [0.25], "ddn-l2")
        fallen.append(found.fallen.double().mean().item())
    assert fallen[0] > 0.5
    assert fallen[1] == pytest.approx(fallen[0], abs=0.051)
    points = IMAGES[:2].clone().requires_grad_()
    assert Guarded(network)(points).topk(2).values.diff().abs().max() < LEAD + 1e-3


class KeepsTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        self.norm.train()
        return self.norm(self.conv(images)).flatten(1)


def test_a_batch_norm_that_a_network_trains_itself_is_not_folded():
    network = KeepsTraining().eval()
    assert folded(network, IMAGES[:2]) is network


def test_a_convolution_whose_weights_are_computed_is_not_folded():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    network = nn.Sequential(conv, nn.BatchNorm2d(4), nn.Flatten()).eval()
    assert folded(network, IMAGES[:2]) is network


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("shape", [(8, 8), (10, 16), (16, 10), (3, 17), (17, 3), (4, 4), (1, 9)])
@pytest.mark.sample
def test_autoattack_takes_images_of_any_shape(shape, norm):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(4, 4)).eval().requires_grad_(False)
    images = torch.rand(2, 3, *shape)
    labels = network(images).argmax(1)
    options = {"iterations": 3, "queries": 20}
    for found in autoattack(network, images, labels, EXAMPLES[:2], [0.1], NORMS[norm], **options):
        assert found.images.shape == images.shape
        assert NORMS[norm].size(found.images - images).max() <= 0.1 + 1e-6
