"""How long things take: measured on a few images, which are as many as a moment allows."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from selbench.attacks.masking import differentiable
from selbench.datasets import Dataset, Split, limited
from selbench.errors import SelbenchError
from selbench.study import Recipe
from selbench.suites import Analysis, Comparison, Condition
from selbench.training import make_optimizer, to_images, train
from selbench.types import Examples

SIZES = (8, 64, 250)  # images
ENOUGH = 0.2  # seconds that tell how long the rest takes
EXAMINED = 100  # images of an analysis: it does not do with fewer


@dataclass(frozen=True)
class Pace:
    """Seconds that a network takes for an image: forward, and forward and back if it can."""

    forward: float
    backward: float | None


def pace_of(network: nn.Module, split: Split) -> Pace:
    """Time a network that is on the device of `split`, in evaluation mode."""

    @torch.inference_mode()
    def forward(part: Split) -> None:
        network(to_images(part.images)).argmax(1).cpu()

    @torch.enable_grad()
    def backward(part: Split) -> None:
        images = to_images(part.images).requires_grad_()
        network(images).logsumexp(1).sum().backward()

    first = split.take(_first(1, split))
    both_ways = differentiable(network, to_images(first.images), first.labels)
    return Pace(per_image(forward, split), per_image(backward, split) if both_ways else None)


def perturbing(condition: Condition, split: Split) -> float:
    """Return the seconds that it takes to perturb an image; 0 where that lies on disk."""
    if condition.stored is not None:
        return 0.0
    return per_image(lambda part: condition.perturb(part.images, part.examples), split)


def training(model: nn.Module, recipe: Recipe, dataset: Dataset) -> float:
    """Return the seconds that it takes to train on an image once; `model` is changed."""
    optimizer = make_optimizer(model, recipe)

    def epoch(part: Split) -> None:
        once = {"epochs": 1, "batch_size": len(part), "warmup_epochs": 0.0}
        list(train(model, optimizer, part, part, recipe.model_copy(update=once), alpha=1.0, seed=0))

    return per_image(epoch, dataset.train)


def analysing(
    work: Analysis | Comparison, network: nn.Module, split: Split, classes: int
) -> float | None:
    """Return the seconds that an analysis of all images takes; None where it does not work."""
    few = limited(split, EXAMINED)
    began = time.perf_counter()
    with warnings.catch_warnings():  # of what is told when it is done in earnest
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            if isinstance(work, Analysis):
                work.measure(network, few, classes)
            else:
                work.measure(network, few, [few.images] * len(work.levels), classes)
        except (SelbenchError, RuntimeError):  # the latter of torch, where there are no gradients
            return None
    most = len(split) if isinstance(work, Comparison) else min(work.most or len(split), len(split))
    return (time.perf_counter() - began) * max(1.0, most / len(few))


def per_image(call: Callable[[Split], object], split: Split) -> float:
    """Return the seconds that `call` takes for each image of a batch."""
    seconds = 0.0
    call(split.take(_first(SIZES[0], split)))  # waits for what is done once
    for size in SIZES:
        part = split.take(_first(size, split))
        began = time.perf_counter()
        call(part)
        if part.images.is_cuda:
            torch.cuda.synchronize(part.images.device)
        seconds = (time.perf_counter() - began) / len(part)
        if seconds * len(part) > ENOUGH or len(part) < size:
            break
    return seconds


def _first(count: int, split: Split) -> Examples:
    return torch.arange(min(count, len(split)), device=split.labels.device)
