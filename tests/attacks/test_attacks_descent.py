"""FMN and DDN: step by step as foolbox has them, and no farther from the image at the end."""

from functools import partial

import pytest
import torch
from networks import CLASSES, Bent, Linear, Quantised, grey, pictures

from selbench.attacks.descent import DDN_RADIUS
from selbench.attacks.folding import Searched
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import logits_of
from selbench.attacks.nearest import MINIMUM_NORM
from selbench.attacks.norms import NORMS

METHODS = ("fmn-linf", "fmn-l2", "ddn-l2")


class Same(torch.nn.Module):
    """Puts all into the class 0."""

    def forward(self, images):
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)


each_method = pytest.mark.parametrize("name", METHODS)


def foolboxs(name, **options):
    """Make foolbox's attack."""
    from foolbox.attacks import DDNAttack, L2FMNAttack, LInfFMNAttack

    class Projected(L2FMNAttack):
        """foolbox divides lengths by themselves, and so never projects in L2."""

        def project(self, x, x0, epsilon):
            ways = (x - x0).raw
            return type(x)(x0.raw + NORMS["l2"].project(ways, epsilon.raw))

    makers = (LInfFMNAttack, Projected, partial(DDNAttack, init_epsilon=DDN_RADIUS))
    return dict(zip(METHODS, makers, strict=True))[name](**options)


def from_foolbox(name, network, images, labels, **options):
    from foolbox import PyTorchModel
    from foolbox.criteria import Misclassification

    model = PyTorchModel(network, bounds=(0, 1))
    return foolboxs(name, **options).run(model, images, Misclassification(labels))


@each_method
@pytest.mark.sample
def test_steps_are_foolboxs(name):
    images, labels = pictures(10)
    images = images.double()
    mine, other = Bent(), Bent()
    MINIMUM_NORM[name](Guarded(mine), images, labels, steps=20)
    from_foolbox(name, other, images, labels, steps=20)
    assert len(mine.seen) == len(other.seen) == 20
    for here, there in zip(mine.followed(), other.followed(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=1e-5)


@each_method
@pytest.mark.sample
def test_errors_are_as_near_as_foolboxs_and_none_is_missed(name, network):
    images, labels = pictures(24)
    labels[0] = (labels[0] + 1) % CLASSES
    size = NORMS[name.rpartition("-")[2]].size
    found = MINIMUM_NORM[name](Guarded(network), images, labels)
    sizes, theirs = (
        size(errors - images) for errors in (found, from_foolbox(name, network, images, labels))
    )
    right = network(images).argmax(1) == labels
    assert not right[0]
    assert torch.equal(sizes > 0, right)
    assert (logits_of(network, found).argmax(1) != labels).all()
    assert (sizes[right] / theirs[right]).median() <= 1.01


@each_method
@pytest.mark.sample
def test_where_gradients_vanish_noise_that_all_images_share_leads_on(name, network):
    guarded = Guarded(Quantised(network))
    images, labels = pictures(8)
    found = MINIMUM_NORM[name](guarded, images, labels)
    right = guarded(images).argmax(1) == labels
    assert (guarded(found).argmax(1) != labels)[right].any()
    alone = MINIMUM_NORM[name](guarded, images[3:4], labels[3:4])
    torch.testing.assert_close(alone, found[3:4])


@each_method
def test_an_error_that_the_given_network_does_not_make_is_none(name):
    network, images = Linear(classes=2), grey(4)
    labels = network(images).argmax(1)
    found = MINIMUM_NORM[name](Guarded(network), images, labels, steps=40)
    assert (found != images).flatten(1).any(1).all()
    guarded = Guarded(Searched(network, Same()))
    found = MINIMUM_NORM[name](guarded, images, labels, steps=40)
    assert torch.equal(found == images, (labels == 0).view(-1, 1, 1, 1).expand(found.shape))
