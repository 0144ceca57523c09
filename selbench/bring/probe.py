"""Two images through a brought network, before anything is evaluated."""

import warnings

import torch
from torch import Tensor, nn

from selbench.bring.classes import Outputs
from selbench.bring.refusals import chosen, refusal
from selbench.datasets import Dataset
from selbench.errors import SelbenchError
from selbench.training import to_images
from selbench.types import Logits


def probe(network: nn.Module, dataset: Dataset, name: str) -> Logits:
    """Return the logits of the first two test images, computed on the CPU.

    Raises:
        SelbenchError: where the network cannot take such images, or does not return (images,
            outputs) of finite numbers.
    """
    images = to_images(dataset.test.images[:2].cpu())
    try:
        with torch.no_grad():
            logits = network(images)
    except (Exception, SystemExit) as problem:  # others' code raises whatever it likes
        raise refusal(network, images, name, problem) from problem
    if not isinstance(logits, Tensor):
        raise SelbenchError(
            f"{name} returns a {type(logits).__name__}, not a tensor of logits; wrap it in a "
            f"module that returns them{chosen(logits)}"
        )
    if logits.ndim != 2 or len(logits) != len(images) or not logits.is_floating_point():
        raise SelbenchError(
            f"{name} makes {tuple(logits.shape)} of {len(images)} images, not one row of logits "
            "for each; bring a classifier"
        )
    if not logits.isfinite().all():
        raise SelbenchError(
            f"{name} returns logits that are not finite; look at its weights and normalisation"
        )
    return logits.float()


def check_logits(logits: Logits, outputs: Outputs | None, dataset: Dataset, name: str) -> None:
    """Refuse a wrong number of outputs; warn of what looks like probabilities.

    Raises:
        SelbenchError: where outputs and classes do not go together.
    """
    number, classes = logits.shape[1], len(dataset.classes)
    if outputs is None and number != classes:
        raise SelbenchError(
            f"{name} has {number} outputs, the data set {dataset.name} {classes} classes; bring a "
            "network for these classes, or say with --class-map which outputs they are"
        )
    last = max(max(own) for own in outputs) if outputs else 0
    if last >= number:
        raise SelbenchError(
            f"the class map names the output {last}, but {name} has {number}, from 0 to "
            f"{number - 1}; name outputs that it has"
        )
    if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(len(logits)), atol=1e-4):
        warnings.warn(
            f"{name} seems to return probabilities, not logits; attacks that follow gradients "
            "will find it harder to fool than it is",
            RuntimeWarning,
            stacklevel=2,
        )
