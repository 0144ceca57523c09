"""Train one network or load it from the cache; an interrupted training resumes."""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import SGD

from selbench._kit.device import describe, versions
from selbench._kit.errors import UNLIKE, SelbenchError
from selbench._kit.files import (
    fingerprint,
    home,
    read_json,
    replacing,
    sealed,
    unsealed,
    write_json,
)
from selbench._kit.locks import BusyError, Holder, Locks
from selbench._kit.progress import Step, quiet
from selbench._kit.randomness import dice, seeded
from selbench.datasets import Dataset, Split, split_validation
from selbench.models import build_model, read_state
from selbench.store import check_curves
from selbench.study import Recipe, Study
from selbench.training.certifying import GROWN
from selbench.training.loop import TRAINING_VERSION, Epoch, make_optimizer, precision_of, train

WEIGHTS, MANIFEST, CHECKPOINT = "weights.safetensors", "manifest.json", "checkpoint.pt"
FACTS = {
    *("study", "training", "alpha", "seed", "device", "precision", "versions"),
    *("weights", "best_epoch", "diverged", "seconds", "curves"),
}


@dataclass(frozen=True)
class TrainedFiles:
    """A network in the cache: its file of weights, and the manifest of its training."""

    weights: Path
    manifest: dict[str, Any]


def training_key(study: Study, dataset: Dataset) -> str:
    """Fingerprint everything that a trained network depends on, except alpha and seed."""
    return fingerprint(
        {
            "version": TRAINING_VERSION,
            "images": dataset.train.checksum,
            "validation": study.dataset.validation,
            "model": study.model.model_dump(mode="json"),
            "recipe": study.recipe.model_dump(mode="json"),
        }
    )


def train_and_validation(study: Study, dataset: Dataset, seed: int) -> tuple[Split, Split]:
    """Return the training images and the held-out images of a seed."""
    return split_validation(dataset.train, study.dataset.validation, seeded("validation", seed))


def train_or_find(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step = quiet,
    wait: bool = True,
) -> TrainedFiles:
    """Return the study's network for `alpha` and `seed`; train it unless it is cached.

    `step` is called with the number of finished epochs, `recipe.epochs` in total. If another
    process trains the network, wait for it, or raise `BusyError` if `wait` is false.

    The weights are those of the epoch with the best validation accuracy, the latest of equal ones
    (the papers do not say which); with the method "ibp", only epochs with the full ball count.
    """
    training = training_key(study, dataset)
    folder = _folder(training, alpha, seed)
    done = 0

    def waits(holder: Holder) -> None:
        if not wait:
            raise BusyError
        step(0, f"waits for {holder}, which trains alpha={alpha:g} seed={seed}")

    if not _intact(folder):
        with Locks(home() / "locks").holding(folder.name, waits):
            if not _intact(folder):
                done = _train_to_end(folder, training, study, dataset, alpha, seed, device, step)
    step(study.recipe.epochs - done)  # cached, or diverged before the last epoch
    return _read(folder)


def find(study: Study, dataset: Dataset, alpha: float, seed: int) -> TrainedFiles | None:
    """Return the study's network for `alpha` and `seed` if it is cached."""
    folder = _folder(training_key(study, dataset), alpha, seed)
    return _read(folder) if _intact(folder) else None


def adopt(
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    weights: bytes,
    manifest: dict[str, Any],
) -> None:
    """Add a network from another machine to the cache, from its file's content and manifest."""
    folder = _folder(training_key(study, dataset), alpha, seed)
    (folder / MANIFEST).unlink(missing_ok=True)
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(weights)
    write_json(folder / MANIFEST, sealed(manifest))


def _folder(training: str, alpha: float, seed: int) -> Path:
    return home() / "weights" / fingerprint([training, alpha, seed])


def _read(folder: Path) -> TrainedFiles:
    return TrainedFiles(folder / WEIGHTS, _manifest(folder))


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a trained network; SelbenchError or ValueError if it is damaged."""
    content = unsealed(read_json(folder / MANIFEST))
    check_curves(content.get("curves"))
    if not {"weights", "diverged"} <= {*content} <= FACTS:
        raise ValueError("it lacks facts, or has others")
    return content


@dataclass
class _Session:
    """A running training, which is stored in a checkpoint after every epoch.

    It keeps its precision even if another machine, where "auto" is a different one, resumes it.
    """

    path: Path
    model: nn.Module
    optimizer: SGD
    precision: str
    epochs: list[Epoch]
    best: dict[str, Tensor]
    best_epoch: int
    seconds: float

    @classmethod
    def start(cls, folder: Path, model: nn.Module, recipe: Recipe, precision: str) -> "_Session":
        """Start, or resume from the checkpoint in `folder`; ignore a damaged one."""
        optimizer = make_optimizer(model, recipe)
        session = cls(folder / CHECKPOINT, model, optimizer, precision, [], {}, 0, 0.0)
        try:
            kept = torch.load(_unpacked(session.path), map_location="cpu", weights_only=True)
        except Exception:  # the unpickler raises any exception on damaged bytes
            return session
        session.precision = kept.get("precision", precision)
        model.load_state_dict(kept["model"])
        session.optimizer.load_state_dict(kept["optimizer"])
        session.epochs = [Epoch(**epoch) for epoch in kept["epochs"]]
        session.best, session.best_epoch, session.seconds = (
            kept["best"],
            kept["best_epoch"],
            kept["seconds"],
        )
        return session

    def best_accuracy(self, after: float) -> float:
        """Return the best validation accuracy of the epochs after `after`; 0 if there are none."""
        counted = (epoch.accuracy for epoch in self.epochs if epoch.number > after)
        return max(counted, default=0.0)

    @property
    def diverged(self) -> bool:
        """Whether the last epoch's loss is not finite, which ends the training."""
        return bool(self.epochs) and not math.isfinite(self.epochs[-1].cross_entropy)

    def keep(self) -> None:
        """Write the checkpoint."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": self.best,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "precision": self.precision,
        }
        packed = BytesIO()
        torch.save(content, packed)
        digest = hashlib.sha256(packed.getbuffer()).hexdigest()
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(f"{digest}\n".encode())
            file.write(packed.getbuffer())  # torch.save does not report a full disk


def _unpacked(path: Path) -> BytesIO:
    """Return the content of a checkpoint; raise `ValueError` if it is damaged."""
    digest, _, packed = path.read_bytes().partition(b"\n")
    if hashlib.sha256(packed).hexdigest().encode() != digest:
        raise ValueError(UNLIKE)
    return BytesIO(packed)


def _train_to_end(
    folder: Path,
    training: str,
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step,
) -> int:
    """Start or resume a training, store its network, and return the number of epochs."""
    model = untrained(study, dataset, seed).to(device)
    precision = precision_of(study.recipe, device)
    session = _Session.start(folder, model, study.recipe, precision)
    step(len(session.epochs))
    if not session.diverged:
        _train(session, study, dataset, alpha, seed, device, step)
    facts = {"study": study.name, "training": training, "alpha": alpha, "seed": seed}
    facts |= {"device": describe(device), "precision": session.precision, "versions": versions()}
    _finish(session, folder, facts)
    return len(session.epochs)


def _train(
    session: _Session,
    study: Study,
    dataset: Dataset,
    alpha: float,
    seed: int,
    device: torch.device,
    step: Step,
) -> None:
    """Train to the end, and write a checkpoint after every epoch."""
    rest, validation = train_and_validation(study, dataset, seed)
    began = time.perf_counter() - session.seconds
    after = GROWN * study.recipe.epochs if study.recipe.method == "ibp" else 0
    for epoch in train(
        session.model,
        session.optimizer,
        rest.to(device),
        validation.to(device),
        study.recipe.model_copy(update={"precision": session.precision}),
        alpha=alpha,
        seed=seed,
        first_epoch=len(session.epochs) + 1,
    ):
        finite = math.isfinite(epoch.cross_entropy)
        if epoch.accuracy >= session.best_accuracy(after) and (finite or not session.best):
            contiguous = torch.contiguous_format  # safetensors needs this
            session.best = {
                name: tensor.cpu().clone(memory_format=contiguous)
                for name, tensor in session.model.state_dict().items()
            }
            session.best_epoch = epoch.number
        session.epochs.append(epoch)
        session.seconds = time.perf_counter() - began
        session.keep()
        step(1, f"alpha={alpha:g} seed={seed}: validation accuracy {epoch.accuracy:.1%}")


def _intact(folder: Path) -> bool:
    """Return whether `folder` holds a trained network with the hash of its manifest."""
    try:
        return bool(_manifest(folder)["weights"] == weights_hash(read_state(folder / WEIGHTS)))
    except (OSError, SelbenchError, ValueError, TypeError):
        return False


def flaws(folder: Path) -> Iterator[tuple[Path, str, tuple[Path, ...], bool]]:
    """Yield the flaws in the files of a trained network, or of a running training.

    Each flaw is the file, what is wrong, what to remove, and whether it is harmless.
    """
    weights, manifest, checkpoint = (folder / name for name in (WEIGHTS, MANIFEST, CHECKPOINT))
    if checkpoint.is_file():
        try:
            _unpacked(checkpoint)
        except ValueError as problem:
            yield checkpoint, f"{problem}; its training begins again", (checkpoint,), False
    if manifest.is_file() and not _intact(folder):
        try:
            _manifest(folder)
            yield weights, UNLIKE, (manifest, weights), False
        except (SelbenchError, ValueError, TypeError) as problem:
            reason = getattr(problem, "reason", "") or str(problem)
            yield manifest, f"it is damaged ({reason})", (manifest, weights), False
    elif weights.is_file() and not (manifest.is_file() or checkpoint.is_file()):
        yield weights, "a run was cut off before it wrote the manifest", (weights,), True


def _finish(session: _Session, folder: Path, facts: dict[str, Any]) -> None:
    """Write the best weights, then the manifest with their hash; remove the checkpoint."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of older, damaged weights
    with replacing(folder / WEIGHTS) as temporary:
        safetensors.torch.save_file(session.best, temporary)
    curves = [asdict(epoch) for epoch in session.epochs]
    for epoch in curves:  # JSON has no infinity: None for a loss that is not finite
        epoch |= {
            k: None for k, v in epoch.items() if isinstance(v, float) and not math.isfinite(v)
        }
    manifest = facts | {
        "weights": weights_hash(session.best),
        "best_epoch": session.best_epoch,
        "diverged": session.diverged,
        "seconds": round(session.seconds, 3),
        "curves": curves,
    }
    write_json(folder / MANIFEST, sealed(manifest))
    session.path.unlink(missing_ok=True)


def untrained(study: Study, dataset: Dataset, seed: int) -> nn.Module:
    """Build the study's network with initial weights that depend only on the seed, not on alpha."""
    with dice(seeded("weights", seed).initial_seed()):
        return build_model(study.model, len(dataset.classes), dataset.moments)


def weights_hash(state: dict[str, Tensor]) -> str:
    """Return a hash of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name in sorted(state):
        for tensor in _tensors(state[name]):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors of an entry; for a quantised one its numbers, scale and zero point."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, Tensor) and value.is_quantized:
        yield value.int_repr().cpu().contiguous()
        yield value.dequantize().cpu().contiguous()
    elif isinstance(value, Tensor):
        yield value.cpu().contiguous()
