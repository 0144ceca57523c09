"""Measures how long things take, on as many images as a moment allows."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from selbench._kit.device import measuring
from selbench._kit.types import Examples, to_images
from selbench.attacks.gradient import fgsm
from selbench.attacks.masking import differentiable
from selbench.attacks.norms import NORMS
from selbench.datasets import Dataset, Split
from selbench.study import Recipe
from selbench.suites import Condition, Passes
from selbench.suites.attacked import LINF_EPSILONS
from selbench.training import make_optimizer, train

SIZES = (8, 64, 250)  # numbers of images
ENOUGH = 0.2  # seconds that suffice for an estimate
HALF = 0.5
STEPPED = 64  # images for the share that withstands an attack


@dataclass(frozen=True)
class Pace:
    """Seconds that a network needs for an image.

    Attributes:
        forward: without gradients.
        backward: forward and back; None if the network has no gradients.
        double: forward in float64.
        standing: share of images that withstand an attack, averaged over the usual epsilons.
    """

    forward: float
    backward: float | None
    double: float
    standing: float

    def seconds(self, passes: Passes) -> float | None:
        """Return the seconds for `passes`; None if they need gradients that the network lacks."""
        if passes.backward and self.backward is None:
            return None
        forward, double = passes.forward * self.forward, passes.double * self.double
        return forward + double + passes.backward * (self.backward or 0.0) + passes.seconds


@measuring()
def pace_of(network: nn.Module, split: Split, trained: bool = True) -> Pace:
    """Time a network in evaluation mode, on the device of `split`.

    If it is not `trained`, half of the images are assumed to withstand attacks.
    """
    precise = copy.deepcopy(network).double()

    @torch.inference_mode()
    def forward(part: Split) -> None:
        network(to_images(part.images)).argmax(1).cpu()

    @torch.enable_grad()
    def backward(part: Split) -> None:
        images = to_images(part.images).requires_grad_()
        network(images).logsumexp(1).sum().backward()

    @torch.inference_mode()
    def double(part: Split) -> None:
        precise(to_images(part.images).double()).argmax(1).cpu()

    few = split.take(_first(STEPPED, split))
    if not differentiable(network, to_images(few.images[:1]), few.labels[:1]):
        return Pace(per_image(forward, split), None, per_image(double, split), 1.0)
    return Pace(
        per_image(forward, split),
        per_image(backward, split),
        per_image(double, split),
        _standing(network, few) if trained else HALF,
    )


def _standing(network: nn.Module, few: Split) -> float:
    """Return the share of images that withstand FGSM, averaged over the usual epsilons."""
    epsilons = tuple(level / 255 for level in LINF_EPSILONS)
    found = fgsm(network, to_images(few.images), few.labels, epsilons, NORMS["linf"])
    return 1 - torch.stack([each.fallen for each in found]).double().mean().item()


def perturbing(condition: Condition, split: Split) -> float:
    """Return the seconds to perturb an image; 0 if perturbed images are on disk."""
    if condition.stored is not None:
        return 0.0
    return per_image(lambda part: condition.perturb(part.images, part.examples), split)


def training(model: nn.Module, recipe: Recipe, dataset: Dataset) -> float:
    """Return the seconds to train on an image once; `model` is changed."""
    optimizer = make_optimizer(model, recipe)

    def epoch(part: Split) -> None:
        once = {"epochs": 1, "batch_size": len(part), "warmup_epochs": 0.0}
        list(train(model, optimizer, part, part, recipe.model_copy(update=once), alpha=1.0, seed=0))

    return per_image(epoch, dataset.train)


def per_image(call: Callable[[Split], object], split: Split) -> float:
    """Return the seconds of `call` per image of a batch."""
    seconds = 0.0
    call(split.take(_first(SIZES[0], split)))  # a first call does one-time work
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
