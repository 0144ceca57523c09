"""FAB: hyperplanes against brute force, steps as pyautoattack has them, and how images leave."""

import copy

import pytest
import torch
from networks import pictures, trained
from pyautoattack.fab_pt import FABAttack_PT
from quick_attacks import each_norm

from selbench.attacks.fab import fab
from selbench.attacks.norms import NORMS


class Watched(torch.nn.Module):
    """A network in float64 that bends everywhere, and keeps what it was shown with gradients."""

    def __init__(self):
        super().__init__()
        self.network = copy.deepcopy(trained(0)).double()
        self.network[1] = self.network[3] = torch.nn.Softplus(beta=5)
        self.seen = []
        self.eval()

    def forward(self, images):
        if images.requires_grad:
            self.seen.append(images.detach().clone())
        return self.network(images)


@each_norm
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_steps_are_pyautoattacks(norm, rank, monkeypatch):
    images, labels = pictures(6)
    images = images.double()
    mine, other = Watched(), Watched()
    logits = mine(images)
    right = logits.argmax(1) == labels
    fab(mine, images[right], labels[right], torch.zeros(right.sum()), NORMS[norm], steps=20)
    ours = mine.seen[:20] if rank == 1 else [
        points[rank - 2 :: 3] for points in mine.seen[20:]
    ]  # fmt: skip
    theirs = FABAttack_PT(other, {"linf": "Linf", "l2": "L2"}[norm], n_iter=20)
    theirs.target_class = rank + 1
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    try:
        theirs.attack_single_run(images, labels, is_targeted=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(ours) == len(other.seen) == 20
    for here, there in zip(ours, other.seen, strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=1e-5)
