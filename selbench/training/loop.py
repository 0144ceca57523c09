"""The training loop."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from selbench._kit.device import faster_in_bfloat16, measuring
from selbench._kit.errors import SelbenchError
from selbench._kit.randomness import dice, rolls, seeded
from selbench._kit.types import Labels, Pixels, to_images
from selbench.datasets import Split
from selbench.selectivity import RecordedUnits, index_of
from selbench.study import Recipe
from selbench.training.augment import augment
from selbench.training.certifying import Certifying
from selbench.training.methods import Views, inconsistency, views
from selbench.training.regulariser import Regulariser, relu_calls
from selbench.training.schedule import learning_rate

TRAINING_VERSION = 1  # part of every network's key: raise it when a recipe gives other weights


@dataclass(frozen=True)
class Epoch:
    """One line of the training curves.

    Attributes:
        number: counted from 1.
        cross_entropy: mean over the epoch's batches; not finite if training diverged.
        selectivity: mean over the batches of the regulariser's index; None for alpha = 0.
        accuracy: on the validation images, after the epoch.
        dead: the number of units of each ReLU, in order of calls, that respond to no validation
            image.
        index: the mean class selectivity index of each ReLU's units on the validation images; () if
            a response is not finite.
        gradient: norm of the cross-entropy's gradient on the epoch's last batch, before its step;
            None unless the recipe requests it.
        pull: norm of the gradient of alpha times selectivity on this batch; None also for alpha =
            0.
    """

    number: int
    cross_entropy: float
    selectivity: float | None
    accuracy: float
    dead: tuple[int, ...] = ()
    index: tuple[float, ...] = ()
    gradient: float | None = None
    pull: float | None = None


def accuracy(model: nn.Module, split: Split, batch_size: int = 1000) -> float:
    """Return the fraction of `split` that `model`, in evaluation mode, classifies correctly."""
    return examine(model, split, batch_size)[0]


@measuring()
@torch.inference_mode()
def examine(
    model: nn.Module, split: Split, batch_size: int = 1000
) -> tuple[float, tuple[int, ...], tuple[float, ...]]:
    """Return the facts of an `Epoch` on `split`: accuracy, dead units and index of each ReLU."""
    model.eval()
    hits = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    # Per class: the number of images, and the summed responses of each ReLU's units.
    sums: list[Tensor] = []
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        labels = split.labels[part]
        with RecordedUnits() as recorded:
            logits = model(to_images(split.images[part]))
        hits += (logits.argmax(1) == labels).sum()
        members = F.one_hot(labels, logits.shape[1]).double()
        found = [members.sum(0)[:, None]]
        found += [members.T @ units.double() for units in recorded.layers]
        sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
    counts, *layers = sums
    index = [index_of(each / counts.clamp(min=1), counts[:, 0] > 0).mean() for each in layers]
    dead = [(each.sum(0) == 0).sum() for each in layers]
    right, *facts = torch.stack([hits.double(), *dead, *index]).tolist()
    finite = facts[len(dead) :] if all(map(math.isfinite, facts)) else ()
    return right / len(split), tuple(map(int, facts[: len(dead)])), tuple(finite)


def make_optimizer(model: nn.Module, recipe: Recipe) -> SGD:
    """Return the SGD optimiser of a recipe; its learning rate is set at every step."""
    return SGD(
        model.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def precision_of(recipe: Recipe, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision of training steps; "auto" stands for the faster one on `device`."""
    if recipe.precision == "auto":
        return "bfloat16" if faster_in_bfloat16(device) else "float32"
    return recipe.precision


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
    arXiv:2003.01262), plus what the recipe's method adds (AugMix, IBP). An incomplete last
    batch of an epoch is left out, since the index depends on the batch size. Randomness depends
    only on the seed and the epoch, so that training resumes at `first_epoch` with the same result.
    It ends early if the mean cross-entropy of an epoch is not finite.

    Raises:
        SelbenchError: for a batch larger than the training data.
    """
    batches = len(train_split) // recipe.batch_size
    if batches == 0:
        raise SelbenchError(
            f"recipe.batch_size = {recipe.batch_size} is larger than the {len(train_split)} "
            "training images; choose a smaller one"
        )
    device = train_split.labels.device
    half = precision_of(recipe, device) == "bfloat16"
    calls, lent = _look_ahead(model, train_split.images[: min(2, recipe.batch_size)])
    regulariser = Regulariser(recipe, alpha, calls)
    certifying = None
    if recipe.method == "ibp":
        certifying = Certifying(model, to_images(train_split.images[:2]), recipe)
    for number in range(first_epoch, recipe.epochs + 1):
        model.train()
        order = torch.randperm(len(train_split), generator=seeded(f"order/{number}", seed))
        order = order.to(device)
        generator = seeded(f"augment/{number}", seed)  # on the CPU, the same for all devices
        totals = torch.zeros(2, device=device)
        norms: tuple[float | None, float | None] = (None, None)
        with lent(seeded(f"layers/{number}", seed).initial_seed()):
            for batch in range(batches):
                epoch = number - 1 + batch / batches
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, epoch)
                part = train_split.take(order[batch * recipe.batch_size :][: recipe.batch_size])
                pixels = augment(part.images, recipe.augment, generator)
                shown = views(recipe.method, model, pixels, part.labels, generator, half)
                arguments = (shown, part.labels, regulariser, epoch, half, certifying)
                if recipe.gradients and batch == batches - 1:
                    norms = _norms(copy.deepcopy(model), *arguments)
                totals += _step(model, optimizer, *arguments)
        cross_entropy, selectivity = (totals / batches).tolist()
        yield Epoch(
            number,
            cross_entropy,
            selectivity if alpha else None,
            *examine(model, validation),
            *norms,
        )
        if not math.isfinite(cross_entropy):
            return


def _look_ahead(
    model: nn.Module, images: Pixels
) -> tuple[list[str], Callable[[int], AbstractContextManager[None]]]:
    """Return the modules that call a ReLU, and a context that seeds torch's global generators.

    The context is for one epoch; it does nothing if the network draws no random numbers.
    """
    copied, calls = copy.deepcopy(model).train(), list[str]()
    drawing = rolls(lambda: calls.extend(relu_calls(copied, to_images(images))))

    def lend(seed: int) -> AbstractContextManager[None]:
        return dice(seed) if drawing else nullcontext()

    return calls, lend


def _step(
    model: nn.Module,
    optimizer: SGD,
    shown: Views,
    labels: Labels,
    regulariser: Regulariser,
    epoch: float,
    half: bool,
    certifying: Certifying | None = None,
) -> Tensor:
    """Take one step; return the batch's cross-entropy and selectivity (0 where not recorded)."""
    with nullcontext() if certifying is None else certifying.watched():
        cross_entropy, selectivity, logits = _losses(model, shown, labels, regulariser, half)
    pull = regulariser.strength(epoch) * selectivity
    loss = cross_entropy - pull + inconsistency(logits, len(labels))
    if certifying is not None:
        loss = loss + certifying.excess(cross_entropy, shown, labels, epoch)
    optimizer.zero_grad()
    loss.backward()
    if clip := regulariser.recipe.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return torch.stack([cross_entropy, selectivity]).detach()


def _losses(
    model: nn.Module, shown: Views, labels: Labels, regulariser: Regulariser, half: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross-entropy, selectivity and logits.

    They are for the first view of each image, as one batch, with every method.
    """
    batch = len(labels)
    with (
        torch.autocast(shown.device.type, torch.bfloat16, enabled=half),
        regulariser.recorded() as recorded,
    ):
        logits = model(shown)
    cross_entropy = F.cross_entropy(logits[:batch].float(), labels)
    selectivity = torch.zeros_like(cross_entropy)
    if regulariser.alpha:
        layers = [units[:batch] for units in recorded.layers]
        selectivity = regulariser.selectivity(layers, labels, logits.shape[1])
    return cross_entropy, selectivity, logits


def _norms(
    model: nn.Module,
    shown: Views,
    labels: Labels,
    regulariser: Regulariser,
    epoch: float,
    half: bool,
    certifying: Certifying | None = None,
) -> tuple[float, float | None]:
    """Return the norms of the gradients of cross-entropy and of the regulariser on a batch.

    Batch statistics of the model change as in a step; the regulariser's norm is None for alpha = 0.
    """
    cross_entropy, selectivity, _ = _losses(model, shown, labels, regulariser, half)
    gradient = _norm(model, cross_entropy)
    if not regulariser.alpha:
        return gradient, None
    return gradient, _norm(model, regulariser.strength(epoch) * selectivity)


def _norm(model: nn.Module, loss: Tensor) -> float:
    parameters = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    squares = [each.double().square().sum() for each in found if each is not None]
    return float(torch.stack(squares).sum().sqrt())
