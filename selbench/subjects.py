"""Networks under test: trained by a study, or brought by the user."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from selbench.datasets import Dataset
from selbench.errors import SelbenchError
from selbench.models import build_model, load_weights
from selbench.progress import Step, quiet
from selbench.study import ModelSpec, Study, exactly
from selbench.training import train_or_find, weights_hash


@dataclass(frozen=True)
class Subject:
    """One network under test; images in [0, 1] in, logits out.

    Attributes:
        name: "alpha=-1 seed=0", or the path of a user's file.
        alpha: regulariser strength; None for a brought network.
        seed: None for a brought network.
        training: fingerprint of how it was trained; "" for a brought network.
        architecture: name of the model.
        weights: hash of its parameters and buffers, which identifies it.
        load: builds the network in evaluation mode, on the CPU.
        diverged: whether its training ended early because the loss was not finite.
    """

    name: str
    alpha: float | None
    seed: int | None
    training: str
    architecture: str
    weights: str
    load: Callable[[], nn.Module]
    diverged: bool = False


def trained_subject(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step = quiet,
) -> Subject:
    """Train the study's network for `alpha` and `seed` on `device`, or find it trained.

    `step` is called with the number of epochs done, `recipe.epochs` in all.
    """
    network = train_or_find(study, dataset, alpha, seed, device, step)
    return Subject(
        name=f"alpha={exactly(alpha)} seed={seed}",
        alpha=alpha,
        seed=seed,
        training=network.manifest["training"],
        architecture=study.model.name,
        weights=network.manifest["weights"],
        load=lambda: _load(study.model, dataset, network.weights),
        diverged=network.manifest["diverged"],
    )


def brought_subject(spec: ModelSpec, dataset: Dataset, checkpoint: Path) -> Subject:
    """Take a user's checkpoint of the architecture `spec`.

    Raises `SelbenchError` where it does not fit, or where it carries a normalisation of its own
    that is not the one given.
    """
    model = _load(spec, dataset, checkpoint)
    for name, given in (("mean", spec.mean), ("std", spec.std)):
        carried = model.get_buffer(f"normalize.{name}").flatten()
        if given is not None and not torch.allclose(carried, torch.tensor(given), atol=1e-4):
            raise SelbenchError(
                f"{checkpoint} carries the {name} {carried.tolist()}, not {list(given)}; leave the "
                "normalisation to it"
            )
    return Subject(
        name=str(checkpoint),
        alpha=None,
        seed=None,
        training="",
        architecture=spec.name,
        weights=weights_hash(model.state_dict()),
        load=lambda: model,
    )


def _load(spec: ModelSpec, dataset: Dataset, weights: Path) -> nn.Module:
    model = build_model(spec, len(dataset.classes), dataset.moments)
    load_weights(model, weights)
    return model.eval()
