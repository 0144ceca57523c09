"""Work that takes long runs chunk by chunk of images, and every finished chunk is stored.

Chunks follow the order in which `limit` adds images, so they are the same for every limit: a run
that was killed, or that has a larger limit, resumes from the stored chunks and gives the numbers of
an uninterrupted run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from selbench._kit.transfer import fetched
from selbench.datasets import Split
from selbench.store import Cell
from selbench.store.outcomes import OUTCOME, Columns
from selbench.store.parts import Part, Parts, name_of

Order = Int64[Tensor, " chosen"]


@dataclass(frozen=True)
class Chunks:
    """The chunks of the images, those of a smaller limit first.

    Attributes:
        order: indices of all images, in the order in which `limit` adds them.
        parts: the folder of finished chunks.
        cells: the cells that all chunks together make.
        size: images of a chunk: a killed run loses at most the work on so many.
    """

    order: Order
    parts: Parts
    cells: Sequence[Cell]
    size: int

    def split(self, split: Split) -> Iterator[Split]:
        """Yield the chunks of images."""
        for places in self.order.to(split.labels.device).split(self.size):
            yield split.take(places)

    def part(
        self,
        chunk: Split,
        make: Callable[[Split], Part],
        serves: Callable[[Part], bool] = lambda part: True,
    ) -> Part:
        """Return the stored outcomes of a chunk; if none are there that serve, make and store them.

        `make` returns columns on the CPU, named as in `part_of`.
        """
        name = name_of(self.cells, chunk.examples)
        kept = self.parts.read(name)
        if kept is not None and _belongs(kept, chunk, len(self.cells)) and serves(kept):
            return kept
        made = make(chunk)
        self.parts.write(name, made)
        return made


def part_of(levels: Sequence[Columns]) -> Part:
    """Return outcomes of the same images at all levels as one part, on the CPU."""
    first, *_ = levels
    part = {name: first[name] for name in OUTCOME[:2]}
    for place, columns in enumerate(levels):
        part |= {f"{place} {name}": columns[name] for name in columns if name not in part}
    return on_cpu(part)


def on_cpu(part: Part) -> Part:
    """Return a part's columns on the CPU, none of which share memory."""
    plain = torch.contiguous_format
    (here,) = fetched([part])
    return {name: tensor.clone(memory_format=plain) for name, tensor in here.items()}


def joined(parts: Sequence[Part], levels: int) -> list[Columns]:
    """Return the outcomes of all chunks at each level, by rising example."""
    order = torch.cat([part["example"] for part in parts]).argsort()
    outcomes = []
    for place in range(levels):
        names = {name: name for name in OUTCOME[:2]}
        for name in parts[0]:
            where, _, column = name.partition(" ")
            names |= {column: name} if where == str(place) else {}
        outcomes.append(
            {n: torch.cat([part[name] for part in parts])[order] for n, name in names.items()}
        )
    return outcomes


def _belongs(part: Part, chunk: Split, levels: int) -> bool:
    """Return whether a part has the outcomes of a chunk's images at all levels."""
    names = {*OUTCOME[:2], *(f"{place} {name}" for place in range(levels) for name in OUTCOME[2:])}
    return (
        names <= part.keys()
        and all(part[name].shape[:1] == (len(chunk),) for name in names)
        and torch.equal(part["example"], chunk.examples.cpu())
        and torch.equal(part["label"], chunk.labels.cpu())
    )
