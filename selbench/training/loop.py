"""The training loop, to be read from top to bottom."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD

from selbench.datasets import Split
from selbench.device import has_bfloat16
from selbench.errors import SelbenchError
from selbench.randomness import dice, rolls, seeded
from selbench.selectivity import RecordedUnits, mean_selectivity
from selbench.study import Recipe
from selbench.training.augment import augment
from selbench.training.methods import Views, inconsistency, to_images, views
from selbench.training.schedule import learning_rate
from selbench.types import Labels, Pixels

TRAINING_VERSION = 1  # in every network's key: raise it when a recipe trains otherwise


@dataclass(frozen=True)
class Epoch:
    """One line of the training curves.

    Attributes:
        number: counted from 1.
        cross_entropy: mean over the epoch's batches; not finite when training has diverged.
        selectivity: mean over the batches of the index that the regulariser sees; None where
            alpha is 0 and nothing is recorded.
        accuracy: on the validation images, after the epoch.
    """

    number: int
    cross_entropy: float
    selectivity: float | None
    accuracy: float


@torch.inference_mode()
def accuracy(model: nn.Module, split: Split, batch_size: int = 1000) -> float:
    """Return the fraction of `split` that `model`, in evaluation mode, classifies correctly."""
    model.eval()
    hits = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        hits += (model(to_images(split.images[part])).argmax(1) == split.labels[part]).sum()
    return hits.item() / len(split)


def make_optimizer(model: nn.Module, recipe: Recipe) -> SGD:
    """Return SGD as the recipe says; its learning rate is set at every step."""
    return SGD(
        model.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def train(
    model: nn.Module,
    optimizer: SGD,
    train_split: Split,
    validation: Split,
    recipe: Recipe,
    *,
    alpha: float,
    seed: int,
    first_epoch: int = 1,
) -> Iterator[Epoch]:
    """Train `model` in place; yield after every epoch.

    The loss is cross-entropy - alpha * mean selectivity of the batch (Leavitt & Morcos, 2020,
    arXiv:2003.01262). The last, incomplete batch of an epoch is left out, since the index depends
    on the batch size. Randomness depends on the seed and the epoch alone, so that training can go
    on at `first_epoch` as if it had never stopped. It ends early when the loss is not finite.

    Raises:
        SelbenchError: where a batch is larger than the training data.
    """
    batches = len(train_split) // recipe.batch_size
    if batches == 0:
        raise SelbenchError(
            f"recipe.batch_size = {recipe.batch_size} is larger than the {len(train_split)} "
            "training images; choose a smaller one"
        )
    device = train_split.labels.device
    half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_bfloat16(device))
    lent = _lent(model, train_split.images[: min(2, recipe.batch_size)])
    for number in range(first_epoch, recipe.epochs + 1):
        model.train()
        order = torch.randperm(len(train_split), generator=seeded(f"order/{number}", seed)).to(
            device
        )
        generator = seeded(f"augment/{number}", seed, device)
        totals = torch.zeros(2, device=device)
        with lent(seeded(f"layers/{number}", seed).initial_seed()):
            for batch in range(batches):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, number - 1 + batch / batches)
                part = train_split.take(order[batch * recipe.batch_size :][: recipe.batch_size])
                pixels = augment(part.images, recipe.augment, generator)
                shown = views(recipe.method, model, pixels, part.labels, generator, half)
                totals += _step(model, optimizer, shown, part.labels, recipe, alpha, half)
        cross_entropy, selectivity = (totals / batches).tolist()
        yield Epoch(
            number, cross_entropy, selectivity if alpha else None, accuracy(model, validation)
        )
        if not math.isfinite(cross_entropy):
            return


def _lent(model: nn.Module, images: Pixels) -> Callable[[int], AbstractContextManager[None]]:
    """Return what lends a network torch's global generators for an epoch, if it draws from them."""
    copied = copy.deepcopy(model).train()
    with torch.no_grad():
        drawing = rolls(lambda: copied(to_images(images)))

    def lend(seed: int) -> AbstractContextManager[None]:
        return dice(seed) if drawing else nullcontext()

    return lend


def _step(
    model: nn.Module,
    optimizer: SGD,
    shown: Views,
    labels: Labels,
    recipe: Recipe,
    alpha: float,
    half: bool,
) -> Tensor:
    """Take one step; return the batch's cross-entropy and selectivity (0 where not recorded).

    Both are those of the first view of each image, and those of one batch whatever the method.
    """
    batch = len(labels)
    with (
        torch.autocast(shown.device.type, torch.bfloat16, enabled=half),
        RecordedUnits() if alpha else nullcontext() as recorded,
    ):
        logits = model(shown)
    cross_entropy = F.cross_entropy(logits[:batch].float(), labels)
    selectivity = torch.zeros_like(cross_entropy)
    if recorded:
        layers = [units[:batch] for units in recorded.layers]
        selectivity = _selectivity(layers, labels, logits.shape[1], recipe.index_batch or batch)
    optimizer.zero_grad()
    (cross_entropy - alpha * selectivity + inconsistency(logits, batch)).backward()
    optimizer.step()
    return torch.stack([cross_entropy, selectivity]).detach()


def _selectivity(
    layers: list[Float[Tensor, "batch _"]], labels: Labels, classes: int, size: int
) -> Tensor:
    """Average the index of `size` images at a time."""
    parts = zip(labels.split(size), *(units.split(size) for units in layers), strict=True)
    return torch.stack([mean_selectivity(part, own, classes) for own, *part in parts]).mean()
