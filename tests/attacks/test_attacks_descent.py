"""FMN and DDN: step by step as foolbox has them, and no farther from the image at the end."""

import copy
from functools import partial

import foolbox
import pytest
import torch
from networks import pictures, trained
from torch import nn

from selbench.attacks import descent
from selbench.attacks.descent import ddn, fmn
from selbench.attacks.norms import NORMS


class ProjectedFMN(foolbox.attacks.L2FMNAttack):
    """foolbox's, which divides lengths by themselves and so never projects in L2."""

    def project(self, x, x0, epsilon):
        lengths = (x - x0).flatten(1, -1).norms.l2(-1)
        return x0 + (x - x0) * (epsilon / lengths).minimum(1).reshape((-1, 1, 1, 1))


METHODS = {
    "fmn-linf": ("linf", partial(fmn, norm=NORMS["linf"]), foolbox.attacks.LInfFMNAttack),
    "fmn-l2": ("l2", partial(fmn, norm=NORMS["l2"]), ProjectedFMN),
    "ddn-l2": ("l2", ddn, partial(foolbox.attacks.DDNAttack, init_epsilon=descent.DDN_RADIUS)),
}
each_method = pytest.mark.parametrize(("norm", "ours", "theirs"), METHODS.values(), ids=METHODS)


def from_foolbox(attack, network, images, labels):
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    return attack.run(model, images, foolbox.criteria.Misclassification(labels))


class Watched(nn.Module):
    """A network in float64 that keeps what it was shown.

    It bends everywhere: where a network is linear, steps end at the boundary to the last bit, and
    rounding says on which side.
    """

    def __init__(self):
        super().__init__()
        self.network = copy.deepcopy(trained(0)).double()
        self.network[1] = self.network[3] = nn.Softplus(beta=5)
        self.seen = []
        self.eval()

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.network(images) / 3  # not so certain that logits are tempered


@each_method
def test_steps_are_foolboxs(norm, ours, theirs):
    images, labels = pictures(10)
    images = images.double()
    mine, other = Watched(), Watched()
    ours(mine, images, labels, steps=20)
    from_foolbox(theirs(steps=20), other, images, labels)
    assert len(mine.seen) == len(other.seen) == 20
    for here, there in zip(mine.seen, other.seen, strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=1e-5)
