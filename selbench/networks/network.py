"""Networks under test: trained by a study, or provided by the user."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from selbench._kit.errors import UNLIKE, SelbenchError, damaged
from selbench._kit.files import replacing, sealed, unsealed
from selbench._kit.progress import Step, quiet
from selbench.datasets import Dataset
from selbench.models import build_model, load_weights, read_state
from selbench.store import check_curves
from selbench.store.findings import Finding
from selbench.study import ModelSpec, Study, exactly
from selbench.training import train_or_find, training_key, weights_hash

ABOUT = "selbench"  # key of the network's facts in a file's metadata
HELD = "weights"  # key of the hash of a file's tensors
KEPT = ("alpha", "seed", "training", "diverged", "curves")  # attributes among these facts


@dataclass(frozen=True)
class Network:
    """One network under test; images in [0, 1] in, logits out.

    Attributes:
        name: "alpha=-1 seed=0"; for a user's network the path of its file or its spec.
        alpha: regulariser strength; None for a user's network.
        seed: seed of the training; None for a user's network.
        training: fingerprint of the training; "" for a user's network.
        architecture: name of the model.
        weights: hash of its parameters and buffers, which identifies it.
        load: returns the network in evaluation mode: a trained one is built on the CPU, a user's
            lies where it was used last, so that it is not moved to a GPU again and again.
        diverged: whether its training ended early because the loss was not finite.
        about: inputs and outputs of a user's network; "" for a trained one.
        curves: a `selbench.training.loop.Epoch` for each epoch; () if unknown.
        findings: the findings of the probe.
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
    curves: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Finding] = ()

    def unanswering(self, problem: Exception) -> "Network":
        """Return a network that fails in every cell, since it did not answer in time."""

        def load() -> nn.Module:
            raise problem

        return replace(self, load=load, about=f"{self.about}; no answer to a few images in time")

    def most_alike(self, networks: "Sequence[Network]") -> "Network | None":
        """Return the most similar other network: of the nearest alpha, then the nearest seed."""

        def distance(other: Network) -> tuple[float, int, str]:
            apart = abs((other.alpha or 0.0) - (self.alpha or 0.0))
            seeds = abs((other.seed or 0) - (self.seed or 0))
            return apart, seeds, other.name

        others = [other for other in networks if other.weights != self.weights]
        return min(others, key=distance, default=None)


def trained_network(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step = quiet,
    wait: bool = True,
) -> Network:
    """Return the study's network for `alpha` and `seed`; train it on `device` unless it is cached.

    `step` is called with the number of finished epochs, `recipe.epochs` in total. If `wait` is
    false, `BusyError` is raised while another process trains it.
    """
    network = train_or_find(study, dataset, alpha, seed, device, step, wait)
    facts = network.manifest
    subject = _subject(study, dataset, alpha, seed, facts["weights"], network.weights)
    return replace(subject, diverged=facts["diverged"], curves=facts["curves"])


def _subject(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    weights: str,
    path: Path,
) -> Network:
    return Network(
        name=_name(alpha, seed),
        alpha=alpha,
        seed=seed,
        training=training_key(study, dataset),
        architecture=study.model.name,
        weights=weights,
        load=lambda: _load(study.model, dataset, path),
    )


def _name(alpha: float, seed: int) -> str:
    return f"alpha={exactly(alpha)} seed={seed}"


def seed_of(name: str) -> int | None:
    """Return the seed in the name of a study's network; None for other names."""
    _, _, seed = name.rpartition(" seed=")
    return int(seed) if name.startswith("alpha=") and seed.isdecimal() else None


def _load(spec: ModelSpec, dataset: Dataset, weights: Path) -> nn.Module:
    model = build_model(spec, len(dataset.classes), dataset.moments)
    load_weights(model, weights)
    return model.eval()


def copies(study: Study, folder: Path) -> dict[str, Path]:
    """Return the paths in a folder of the exported weights of a study's networks, by name."""
    names = [_name(alpha, seed) for seed in study.seeds for alpha in study.alphas]
    return {n: folder / f"{'-'.join([study.name, *n.split()])}.safetensors" for n in names}


def export(subject: Network, path: Path, half: bool = False) -> None:
    """Write a trained network's weights as safetensors, for `exported` or any other use.

    With `half`, kernels and matrices are rounded to float16, which halves the file; normalisation
    stays in float32.
    """
    state = {
        name: (tensor.half() if half and tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in subject.load().state_dict().items()
    }
    with replacing(path, "--output") as temporary:
        facts = {name: getattr(subject, name) for name in KEPT} | {HELD: weights_hash(state)}
        # One text: the order of several entries varies between writes.
        safetensors.torch.save_file(state, temporary, {ABOUT: json.dumps(sealed(facts))})


def exported(folder: Path, study: Study, dataset: Dataset) -> list[Network]:
    """Return the networks of a study that `export` wrote into a folder, by seed and alpha.

    Networks of other alphas and seeds are left out.

    Raises:
        SelbenchError: if there are none, or one was trained differently or not by selbench.
    """
    every = [_exported(path, study, dataset) for path in sorted(folder.glob("*.safetensors"))]
    found = {(each.seed, each.alpha): each for each in every}
    order = [(seed, alpha) for seed in study.seeds for alpha in study.alphas]
    chosen = [found[each] for each in order if each in found]
    if not chosen:
        raise SelbenchError(
            f"{folder} holds no weights (*.safetensors) of these alphas and seeds; write them with "
            "selbench train --output"
        )
    return chosen


def _exported(path: Path, study: Study, dataset: Dataset) -> Network:
    state = read_state(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    try:
        about = unsealed(json.loads(metadata[ABOUT]))
        alpha, seed, training = float(about["alpha"]), int(about["seed"]), about["training"]
        diverged, curves = bool(about.get("diverged")), about.get("curves", [])
        check_curves(curves)
    except (KeyError, TypeError, ValueError) as problem:
        raise SelbenchError(
            f"{path} lacks the alpha, seed and training that selbench train --output writes; "
            "use --checkpoint for other networks"
        ) from problem
    if about.get(HELD) not in (None, weights_hash(state)):
        raise damaged(path, UNLIKE, "export them again")
    if training != training_key(study, dataset):
        raise SelbenchError(
            f"{path} was trained by another recipe, architecture or data set than "
            f"{study.name}'s; use --checkpoint to evaluate it anyway"
        )
    subject = _subject(study, dataset, alpha, seed, weights_hash(state), path)
    return replace(subject, diverged=diverged, curves=curves)
