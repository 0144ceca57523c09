"""Training for certificates: what the loss adds, and that networks come out with some."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from selbench._kit.randomness import dice
from selbench._kit.types import to_images
from selbench.bounds import ball, bounded_margins, traced
from selbench.datasets import load_dataset
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import DatasetSpec, ModelSpec, Recipe
from selbench.training import make_optimizer, train
from selbench.training.certifying import CLEAN, GROWN, WEIGHT, Certifying, _slow

RECIPE = Recipe(
    epochs=10, batch_size=50, learning_rate=0.05, precision="float32", method="ibp", ball=2
)


@pytest.fixture(scope="module")
def digits():
    whole = load_dataset(DatasetSpec(name="digits", validation=700))
    images = whole.train.images[:, :, ::4, ::4].contiguous()
    return make_split(images[:200], whole.train.labels[:200])


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, 10),
        )  # fmt: skip


def test_the_worst_logits_of_a_batch_are_interval_bounds_with_its_own_statistics(digits):
    torch.manual_seed(0)
    model = Small().train()
    images, labels = to_images(digits.images[:30]), digits.labels[:30]
    certifying = Certifying(model, images[:2], RECIPE)
    with certifying.watched():
        clean = F.cross_entropy(model(images), labels)
    worst = certifying._worst(images, labels, 2 / 255)
    assert certifying.excess(clean, images, labels, CLEAN * 10) == 0
    full = certifying.excess(clean, images, labels, GROWN * 10)
    slow = _slow(F.cross_entropy(worst, labels), torch.tensor(10.0).log().item())
    assert full.item() == pytest.approx(WEIGHT * (slow - clean).item(), rel=1e-4)
    full.backward()
    assert all(each.grad.isfinite().all() and each.grad.any() for each in model[0].parameters())
    with torch.no_grad():  # evaluation mode with the batch's statistics
        maps = model[0](images)
        model[1].running_mean.copy_(maps.mean((0, 2, 3)))
        model[1].running_var.copy_(maps.var((0, 2, 3), correction=0))
    box = ball(images, 2 / 255)
    low = bounded_margins(traced(model.eval(), images), box, labels, "interval")
    own = F.one_hot(labels, 10).bool()
    assert worst[~own].double().allclose(-low[~own], rtol=1e-4, atol=1e-4)
    assert (worst[own] == 0).all()


def test_a_loss_is_slowed_down_beyond_chance_alone_and_without_a_kink():
    losses = torch.tensor([0.5, 2.0, 2.0001, 200.0], requires_grad=True)
    slow = torch.stack([_slow(each, 2.0) for each in losses])
    (slopes,) = torch.autograd.grad(slow.sum(), losses)
    assert slow[:2].tolist() == [0.5, 2.0]
    assert slow[3].item() == pytest.approx(2 + 2 * torch.tensor(100.0).log().item())
    assert slopes[2:].tolist() == pytest.approx([1.0, 0.01], rel=1e-3)


def certified(digits, method):
    with dice(0):
        model = build_model(ModelSpec(name="resnet8", options={"width": 2}), 10, ((0.5,) * 3,) * 2)
    changes = {"method": method, "ball": RECIPE.ball if method == "ibp" else None}
    recipe = RECIPE.model_copy(update=changes)
    optimizer = make_optimizer(model, recipe)
    *_, last = train(model, optimizer, digits, digits, recipe, alpha=0.5, seed=0)
    images = to_images(digits.images[:50])
    found = traced(model.eval(), images)
    margins = bounded_margins(found, ball(images, 0.1 / 255), digits.labels[:50], "interval")
    return last, margins.amin(1).median().item()


@pytest.mark.soak
def test_networks_trained_for_certificates_have_far_tighter_bounds(digits):
    (_, standard), (last, ibp) = (certified(digits, method) for method in ("standard", "ibp"))
    assert last.selectivity is not None  # the regulariser sees clean batches alone
    assert 0 < -ibp < -standard / 5


def test_a_ball_belongs_to_this_method():
    with pytest.raises(ValidationError, match='ball belongs to method = "ibp", not "pgd"'):
        Recipe(epochs=1, batch_size=2, learning_rate=1, method="pgd", ball=2)
    usual = Recipe(epochs=1, batch_size=2, learning_rate=1, method="ibp")
    assert "ball" not in usual.model_dump()
