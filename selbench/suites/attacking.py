"""Attack a network on many images at once, and join the outcomes.

Slow attacks run chunk by chunk, and every finished chunk is stored. Chunks follow the order in
which `limit` adds images, so they are the same for every limit: a run that was killed, or that has
a larger limit, resumes from the stored chunks and gives the numbers of an uninterrupted run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from selbench._kit.chunks import few
from selbench._kit.types import Examples, Images, to_images
from selbench.attacks.folding import Searched, searched
from selbench.attacks.gradient import Attacked
from selbench.attacks.ladder import Decided
from selbench.datasets import Split
from selbench.store import Cell
from selbench.store.outcomes import OUTCOME, Columns, outcome
from selbench.store.parts import Part, Parts, name_of

GROUP = 1000  # images under attack at once: fooled ones leave, the rest stay together
# Images of a stored chunk: a killed run loses at most the work on so many.
CHUNK = {"cpu": 64, "cuda": 512}
SAVED = "saved "  # prefix of the names of adversarials in a part

PASSES = ("passes_forward", "passes_gradient")  # of one image, summed over all epsilons

Attacking = Callable[..., list[Attacked]]  # (networks, images, labels, examples)
Step = Callable[[int], None]  # called with the number of images of a chunk
Order = Int64[Tensor, " chosen"]


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


@dataclass(frozen=True)
class Chunks:
    """The chunks of the images, those of a smaller limit first.

    Attributes:
        order: indices of all images, in the order in which `limit` adds them.
        parts: the folder of finished chunks.
        cells: the cells that all chunks together make.
    """

    order: Order
    parts: Parts
    cells: Sequence[Cell]

    def split(self, split: Split) -> Iterator[Split]:
        """Yield the chunks of images."""
        most = few(split.images, CHUNK[split.labels.device.type])
        for places in self.order.to(split.labels.device).split(most):
            yield split.take(places)

    def part(self, chunk: Split, save: Examples, attack: Callable[[Split], Part]) -> Part:
        """Return the stored outcomes of a chunk; if there are none, attack it and store them."""
        name = name_of(self.cells, chunk.examples)
        kept = self.parts.read(name)
        if kept is not None and _serves(kept, chunk, len(self.cells), save):
            return kept
        made = attack(chunk)
        self.parts.write(name, made)
        return made


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
        found.append(run(chunk) if chunks is None else chunks.part(chunk, wanted, run))
        step(len(chunk))
    return joined(found, len(budgets), wanted.cpu())


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
    for place, (level, result) in enumerate(zip(budgets, found, strict=True)):
        columns = outcome(result.logits, labels)
        columns |= {f"masking_{name}": holds for name, holds in result.checks.items()}
        columns |= result.counts
        if isinstance(result, Decided):
            columns["by"] = result.by
        if place == len(budgets) - 1:
            columns |= {n: torch.full(labels.shape, counts[n] / len(labels)) for n in PASSES}
        assert ((columns["prediction"] != labels) == result.fallen).all()
        part |= {f"{place} {name}": column for name, column in columns.items()}
        if result is found[-1] or result.images is not found[-1].images:
            saved[f"adversarial {level:g}"] = result.images[kept]
            saved[f"prediction {level:g}"] = columns["prediction"][kept]
    if len(kept):
        part |= {f"{SAVED}{name}": tensor for name, tensor in saved.items()}
    plain = torch.contiguous_format
    return {name: tensor.cpu().clone(memory_format=plain) for name, tensor in part.items()}


def joined(
    parts: Sequence[Part], levels: int, save: Examples
) -> tuple[list[Columns], dict[str, Tensor]]:
    """Return the outcomes of all chunks at each level, by rising example, and what to save."""
    order = torch.cat([part["example"] for part in parts]).argsort()
    outcomes = []
    for place in range(levels):
        level_names = [name for name in parts[0] if name.partition(" ")[0] == str(place)]
        names = {name: name for name in ("example", "label")}
        names |= {name.partition(" ")[2]: name for name in level_names}
        outcomes.append(
            {n: torch.cat([part[name] for part in parts])[order] for n, name in names.items()}
        )
    holding = [part for part in parts if f"{SAVED}example" in part]
    if not len(save):
        return outcomes, {}
    examples = torch.cat([part[f"{SAVED}example"] for part in holding])
    rows = examples.argsort()
    rows = rows[torch.isin(examples[rows], save)]
    names = {name.removeprefix(SAVED): name for name in holding[0] if name.startswith(SAVED)}
    return outcomes, {
        n: torch.cat([part[name] for part in holding])[rows] for n, name in names.items()
    }


def _counted(network: nn.Module, counts: dict[str, int]) -> nn.Module:
    if isinstance(network, Searched):
        return Searched(Counting(network.search, counts), Counting(network.given, counts))
    return Counting(network, counts)


def _serves(part: Part, chunk: Split, levels: int, save: Examples) -> bool:
    """Return whether a part belongs to a chunk and holds the adversarials to save."""
    needed = {"example", "label"}
    needed |= {f"{place} {name}" for place in range(levels) for name in OUTCOME[2:]}
    needed |= {f"{levels - 1} {name}" for name in PASSES}
    if not needed <= part.keys() or any(part[n].shape[:1] != (len(chunk),) for n in needed):
        return False
    wanted = chunk.examples[torch.isin(chunk.examples, save)].cpu()
    held = part.get(f"{SAVED}example", wanted[:0])
    return (
        torch.equal(part["example"], chunk.examples.cpu())
        and torch.equal(part["label"], chunk.labels.cpu())
        and bool(torch.isin(wanted, held).all())
    )
