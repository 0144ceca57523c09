"""Attack a network on many images at once, and join the outcomes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from selbench._kit.chunks import few
from selbench._kit.types import Examples, Images, to_images
from selbench.attacks.folding import Searched, searched
from selbench.attacks.gradient import Attacked
from selbench.attacks.ladder import Decided
from selbench.datasets import Split
from selbench.store.outcomes import Columns, outcome
from selbench.store.parts import Part
from selbench.suites.chunked import Chunks, joined, on_cpu

GROUP = 1000  # images under attack at once: fooled ones leave, the rest stay together
# Images of a stored chunk: a killed run loses at most the work on so many.
CHUNK = {"cpu": 64, "cuda": 512}
SAVED = "saved "  # prefix of the names of adversarials in a part

PASSES = ("passes_forward", "passes_gradient")  # of one image, summed over all epsilons

Attacking = Callable[..., list[Attacked]]  # (networks, images, labels, examples)
Step = Callable[[int], None]  # called with the number of images of a chunk


class Counting(nn.Module):
    """A network that counts its images: passed forward only, and passed forward for a gradient."""

    def __init__(self, network: nn.Module, counts: dict[str, int]) -> None:
        super().__init__()
        self.network, self._counts = network, counts

    def forward(self, images: Images) -> Tensor:
        followed = torch.is_grad_enabled() and images.requires_grad
        self._counts[PASSES[followed]] += len(images)
        logits: Tensor = self.network(images)
        return logits

    def __getattr__(self, name: str) -> Any:  # an attack may read the network's attributes
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)


def run_attack(
    attack: Attacking,
    budgets: Sequence[float],
    networks: Sequence[nn.Module],
    split: Split,
    save: int = 0,
    chunks: Chunks | None = None,
    step: Step = lambda images: None,
) -> tuple[list[Columns], dict[str, Tensor]]:
    """Attack the first of `networks`, with the help of the others if there are any.

    With `chunks`, finished chunks are stored, and stored chunks are read instead of attacked.

    Returns:
        its outcomes at each level, columns of len(split) rows; and of the first `save` images:
        clean, label, example, and the adversarial and the prediction of the last level and of every
        level with other adversarials, by name.
    """
    first, counts = to_images(split.images[:2]), dict.fromkeys(PASSES, 0)
    networks = [_counted(searched(network, first), counts) for network in networks]
    wanted = split.examples[:save]
    run = partial(attack_chunk, attack, budgets, networks, counts=counts, save=wanted)
    found = []
    for chunk in (
        split.batches(max(save, few(split.images, GROUP)))
        if chunks is None
        else (chunks.split(split))
    ):
        serves = partial(_serves, chunk, len(budgets), wanted)
        found.append(run(chunk) if chunks is None else chunks.part(chunk, run, serves))
        step(len(chunk))
    return joined(found, len(budgets)), _saved(found, wanted.cpu())


def attack_chunk(
    attack: Attacking,
    budgets: Sequence[float],
    networks: Sequence[nn.Module],
    chunk: Split,
    counts: dict[str, int],
    save: Examples,
) -> Part:
    """Attack the images of a chunk, and return the columns that `joined` needs, on the CPU.

    `counts` are those of `Counting`; they are set to 0 first.
    """
    counts |= dict.fromkeys(PASSES, 0)
    images, labels, examples = to_images(chunk.images), chunk.labels, chunk.examples
    found = attack(*networks, images, labels, examples)
    part: Part = {"example": examples, "label": labels}
    (kept,) = torch.isin(examples, save).nonzero(as_tuple=True)
    saved = {"clean": images[kept], "label": labels[kept], "example": examples[kept]}
    agree = []
    for place, (level, result) in enumerate(zip(budgets, found, strict=True)):
        columns = outcome(result.logits, labels)
        columns |= {f"masking_{name}": holds for name, holds in result.checks.items()}
        columns |= result.counts
        if isinstance(result, Decided):
            columns["by"] = result.by
        if place == len(budgets) - 1:
            columns |= {n: torch.full(labels.shape, counts[n] / len(labels)) for n in PASSES}
        agree.append(((columns["prediction"] != labels) == result.fallen).all())
        part |= {f"{place} {name}": column for name, column in columns.items()}
        if result is found[-1] or result.images is not found[-1].images:
            saved[f"adversarial {level:g}"] = result.images[kept]
            saved[f"prediction {level:g}"] = columns["prediction"][kept]
    assert torch.stack(agree).all()
    if len(kept):
        part |= {f"{SAVED}{name}": tensor for name, tensor in saved.items()}
    return on_cpu(part)


def _saved(parts: Sequence[Part], save: Examples) -> dict[str, Tensor]:
    """Return what to save of the images of `save`, by rising example."""
    if not len(save):
        return {}
    holding = [part for part in parts if f"{SAVED}example" in part]
    examples = torch.cat([part[f"{SAVED}example"] for part in holding])
    rows = examples.argsort()
    rows = rows[torch.isin(examples[rows], save)]
    names = {name.removeprefix(SAVED): name for name in holding[0] if name.startswith(SAVED)}
    return {n: torch.cat([part[name] for part in holding])[rows] for n, name in names.items()}


def _counted(network: nn.Module, counts: dict[str, int]) -> nn.Module:
    if isinstance(network, Searched):
        return Searched(Counting(network.search, counts), Counting(network.given, counts))
    return Counting(network, counts)


def _serves(chunk: Split, levels: int, save: Examples, part: Part) -> bool:
    """Return whether a chunk's part has numbers of passes, and the adversarials to save."""
    wanted = chunk.examples[torch.isin(chunk.examples, save)].cpu()
    held = part.get(f"{SAVED}example", wanted[:0])
    passes = {f"{levels - 1} {name}" for name in PASSES}
    return passes <= part.keys() and bool(torch.isin(wanted, held).all())
