"""Ablation: how much accuracy a network keeps when units are removed.

A unit is removed by clamping its activation for all images: to 0, or at each position to its mean
over images. Both follow Morcos et al., 2018, arXiv:1803.06959, sections 2.2 and A.1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from selbench._kit.chunks import BATCH, in_chunks
from selbench._kit.errors import SelbenchError
from selbench._kit.transfer import fetched
from selbench._kit.types import Images, Labels, Pixels
from selbench.analyses.layers import as_images, evaluating, recording
from selbench.analyses.selectivity import LayerSelectivity

Order = Int64[Tensor, "removable 2"]  # for each unit: its layer (from 0), its number there
Removal = Sequence[Bool[Tensor, " _"]]  # for each layer, which units are removed
Values = Sequence[Float[Tensor, "..."]]  # clamped values, (units, ...) for each layer


class Ablated(nn.Module):
    """A network without some of its units; in evaluation mode, differentiable.

    Args:
        network: the full network; its weights are shared.
        removed: the removed units, layer by layer.
        values: values to clamp to, in the shape `Layer.shape`; None for 0.
        layers: regular expression for the names of modules that are layers; None for all
            non-negative activations.
    """

    def __init__(
        self,
        network: nn.Module,
        removed: Removal,
        values: Values | None = None,
        layers: str | None = None,
    ) -> None:
        super().__init__()
        self.network, self._layers = network, layers
        fills = [None] * len(removed) if values is None else values
        # A named module may return its input, or a tensor that others use too.
        alone = layers is None
        self._clamps = [_Clamp(*pair, alone) for pair in zip(removed, fills, strict=True)]

    def forward(self, images: Images) -> Tensor:
        with self._removing():
            logits: Tensor = self.network(images)
        return logits

    @contextmanager
    def _removing(self) -> Iterator[None]:
        clamps = iter(self._clamps)

        def change(maps: Tensor) -> Tensor:
            clamp = next(clamps, None)
            if clamp is None:
                raise SelbenchError(
                    f"the network calls more layers than the {len(self._clamps)} found before; "
                    "ablation needs a network that calls the same layers for all images"
                )
            return clamp(maps)

        with (
            evaluating(self.network),
            recording(self.network, self._layers, lambda maps: None, change=change),
        ):
            yield


def by_selectivity(found: Sequence[LayerSelectivity]) -> Order:
    """Order the units of all layers by selectivity, the most selective first.

    Dead units are left out: they are 0 anyway, and their index of 0 has no meaning. Of equal units
    the one in the earlier layer comes first.

    """
    widths = torch.tensor([len(each.index) for each in found])
    layers = torch.arange(len(found)).repeat_interleave(widths)
    units = torch.cat([torch.arange(width) for width in widths.tolist()])
    columns = {"index": [each.index for each in found], "dead": [each.dead for each in found]}
    (here,) = fetched([{name: torch.cat(parts) for name, parts in columns.items()}])
    alive = ~here["dead"]
    order = here["index"][alive].argsort(descending=True, stable=True)
    return torch.stack([layers, units], 1)[alive][order]


def shuffled_within(order: Order, generator: torch.Generator) -> Order:
    """Replace the units of an order by random ones of the same layers, without repeats.

    Each layer loses as many units as with `order`, at every share.
    """
    drawn = order.clone()
    for layer in order[:, 0].unique().tolist():
        (places,) = (order[:, 0] == layer).nonzero(as_tuple=True)
        drawn[places] = order[places[torch.randperm(len(places), generator=generator)]]
    return drawn


def removal(order: Order, share: float, widths: Sequence[int]) -> Removal:
    """Return which units are removed for a share of an order, from its start.

    Args:
        order: the units' order.
        share: share of the units, in [0, 1].
        widths: the number of units of each layer.
    """
    gone = [torch.zeros(width, dtype=torch.bool) for width in widths]
    for layer, unit in order[: round(share * len(order))].tolist():
        gone[layer][unit] = True
    return gone


@torch.inference_mode()
def mean_activity(
    model: nn.Module, images: Images | Pixels, layers: str | None = None
) -> list[Float[Tensor, "..."]]:
    """Return the mean of each layer's activations over images, in the shape `Layer.shape`."""
    total: list[Tensor] = []
    every: Tensor = images

    def sums(part: Tensor) -> list[Tensor]:
        with (
            evaluating(model),
            recording(model, layers, lambda maps: maps.sum(0, dtype=torch.float64)[None]) as kept,
        ):
            model(as_images(part))
        return list(kept)

    for batch in every.split(BATCH[every.device.type]):
        added = [each.sum(0) for each in in_chunks(sums, batch, sizes=BATCH)]
        total = [a + b for a, b in zip(total, added, strict=True)] if total else added
    return [each / len(images) for each in total]


@torch.inference_mode()
def correct(
    networks: Sequence[nn.Module], images: Images | Pixels, labels: Labels
) -> Int64[Tensor, " networks"]:
    """Return how many images each network classifies correctly; each batch is loaded once."""

    def right(part: Tensor, targets: Tensor) -> tuple[Tensor]:
        points = as_images(part)
        return (torch.stack([n(points).argmax(1) == targets for n in networks], 1),)

    every: Tensor = images
    size = BATCH[every.device.type]
    total = torch.zeros(len(networks), dtype=torch.int64)
    for batch in zip(every.split(size), labels.split(size), strict=True):
        (hits,) = in_chunks(right, *batch, sizes=BATCH)
        total += hits.sum(0).cpu()
    return total


class _Clamp:
    """Clamps removed units of an output, (batch, units, ...) or (batch, tokens, units).

    The clamping tensors are created once, in the memory layout of the first output. Clamping is in
    place if nobody else holds the output and no gradient is needed, which saves a twentieth of a
    forward pass.
    """

    def __init__(self, gone: Bool[Tensor, " units"], value: Tensor | None, alone: bool) -> None:
        self._gone, self._value, self._any = gone, value, bool(gone.any())
        self._alone = alone
        self._laid_out: tuple[Tensor, Tensor | None] | None = None

    def __call__(self, maps: Tensor) -> Tensor:
        if not self._any:
            return maps
        if self._laid_out is None:
            self._laid_out = self._as(maps)
        kept, filled = self._laid_out
        if self._alone and not torch.is_grad_enabled():
            return maps.mul_(kept) if filled is None else maps.mul_(kept).add_(filled)
        return maps * kept if filled is None else torch.addcmul(filled, maps, kept)

    @torch.inference_mode(False)  # otherwise gradients could not pass these tensors
    def _as(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        shape = [1] * maps.ndim
        shape[2 if maps.ndim == 3 else 1] = -1
        kept = (~self._gone).to(maps.device, maps.dtype, non_blocking=True).view(shape)
        if self._value is None:
            return kept, None
        value = torch.where(kept == 0, self._value.to(maps.device, maps.dtype), 0)
        return kept, torch.empty_like(maps[:1]).copy_(value)
