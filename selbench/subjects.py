"""Networks under test: trained by a study, or brought by the user."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from selbench.datasets import Dataset
from selbench.files import replacing
from selbench.models import build_model, load_weights
from selbench.progress import Step, quiet
from selbench.study import ModelSpec, Study, exactly
from selbench.training import train_or_find


@dataclass(frozen=True)
class Subject:
    """One network under test; images in [0, 1] in, logits out.

    Attributes:
        name: "alpha=-1 seed=0", or what the user said of theirs: the path of a file, a spec.
        alpha: regulariser strength; None for a brought network.
        seed: None for a brought network.
        training: fingerprint of how it was trained; "" for a brought network.
        architecture: name of the model.
        weights: hash of its parameters and buffers, which identifies it.
        load: builds the network in evaluation mode, on the CPU.
        diverged: whether its training ended early because the loss was not finite.
        about: what a brought network was found to take and to give; "" for a trained one.
    """

    name: str
    alpha: float | None
    seed: int | None
    training: str
    architecture: str
    weights: str
    load: Callable[[], nn.Module]
    diverged: bool = False
    about: str = ""


def trained_subject(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step = quiet,
    wait: bool = True,
) -> Subject:
    """Train the study's network for `alpha` and `seed` on `device`, or find it trained.

    `step` is called with the number of epochs done, `recipe.epochs` in all. With `wait` false,
    `BusyError` is raised while another process trains it.
    """
    network = train_or_find(study, dataset, alpha, seed, device, step, wait)
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


def _load(spec: ModelSpec, dataset: Dataset, weights: Path) -> nn.Module:
    model = build_model(spec, len(dataset.classes), dataset.moments)
    load_weights(model, weights)
    return model.eval()


def export(subject: Subject, path: Path, half: bool = False) -> None:
    """Write a network's weights as safetensors, for `--checkpoint` or any other use.

    With `half`, kernels and matrices are rounded to float16, which halves the file; normalisation
    stays in float32.
    """
    state = {
        name: (tensor.half() if half and tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in subject.load().state_dict().items()
    }
    with replacing(path) as temporary:
        safetensors.torch.save_file(state, temporary, {"network": subject.name})
