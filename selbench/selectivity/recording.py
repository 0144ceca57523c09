"""What units respond with: the spatial means of every layer's maps, as a network computes them.

A unit is one map of an activation's output, its activity the map's spatial mean. Every call of an
activation that is never negative, such as a ReLU, is a layer, so a module called twice makes two;
logits are none.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from selbench._kit.types import Units
from selbench.selectivity.activations import activation
from selbench.selectivity.unit_axes import Followed, Usual

CACHED = 1 << 20  # bytes of maps that stay in the processor's cache from one operation to the next

Keep = Callable[[Tensor], Any]  # what is kept of a layer's output
Change = Callable[[Tensor], Tensor]  # what a network goes on with in place of a layer's output

# Of these alone all calls are layers; other activations are where weights made their input.
_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class RecordedUnits(TorchFunctionMode):
    """Collect, inside a `with` block, the units of every activation that is never negative.

    Modules and functional calls are seen alike, in calling order, so that any network can be
    recorded as it is:

        with RecordedUnits() as recorded:
            logits = model(images)
        recorded.layers  # one (batch, units) float32 tensor for each call, differentiable

    Left out is what is computed of parameters alone, without the images.

    Attributes:
        layers: what was collected.
        usual: whether only ReLUs were layers so far, all of them, on maps or vectors as a network
            of convolutions has them.

    Args:
        keep: makes of an activation's output what is collected, if it is not to be its units. It
            is laid out as (batch, units), (batch, tokens, units) or (batch, units, height, width).
        wanted: collect only so many calls, those of these places, from 0.
        constants: a network's buffers, which are no images.
        missed: is called with the name of each activation that can be negative.
        follow: whether to find units; else it is taken for granted that a network is `usual`,
            which saves some milliseconds.
        change: makes of an activation's output, laid out as for `keep`, what takes its place in the
            network; called in calling order.
    """

    def __init__(
        self,
        keep: Keep | None = None,
        wanted: Collection[int] | None = None,
        *,
        constants: Collection[Tensor] = (),
        missed: Callable[[str], object] | None = None,
        follow: bool = True,
        change: Change | None = None,
    ) -> None:
        super().__init__()
        self.layers: list[Any] = []
        self.usual = True
        self._keep, self._wanted, self._missed = keep or spatial_mean, wanted, missed
        self._followed = Followed(constants) if follow else Usual()
        self._change = change
        self._calls = 0

    def of_images(self, output: Tensor) -> bool:
        """Say whether what a function made has a row for each image."""
        return self._followed.of_images(output)

    def maps(self, output: Tensor) -> Tensor:
        """Return what any function made of the images as (batch, units, height, width) or so."""
        return self._followed.maps(output)

    def changed(self, output: Tensor, change: Change) -> Tensor:
        """Return what is made of what any function made of the images, laid out as it was."""
        return self._followed.changed(output, change)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `function` as it would have been, and keep its units if it is such an activation."""
        kwargs = kwargs or {}
        found = activation(function, args, kwargs)
        if found and self._is_layer(function, args, kwargs):
            name, never_negative = found
            if never_negative:
                return self._recorded(function, args, kwargs)
            if self._missed:
                self._missed(name)
        output = function(*args, **kwargs)
        self._followed.follow(function, args, kwargs, output)
        return output

    def _is_layer(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        given = args[0] if args else kwargs.get("input")
        if not isinstance(given, Tensor):
            return False
        if function not in _RELUS and not self._followed.has_units(given):
            return False
        seen = self._followed.of_images(given)
        self.usual &= seen and function in _RELUS
        return seen

    def _recorded(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        wanted = self._wanted is None or self._calls in self._wanted
        self._calls += 1
        usual = wanted and self._keep is spatial_mean and _in_one_pass(function, args, kwargs)
        if usual and self._followed.maps(args[0]) is args[0]:
            output, units = _ReluAndMean.apply(args[0])
            self._followed.follow(function, args, kwargs, output)
            self.layers.append(units)
            return output
        given = args
        if self._change is not None and _in_place(function, args, kwargs):
            args = (args[0].clone(), *args[1:])  # a way back may need what it makes, unchanged
        output = function(*args, **kwargs)
        self._followed.follow(function, given, kwargs, output)
        maps = self._followed.maps(output)
        self.usual &= maps is output
        if wanted:
            self.layers.append(self._keep(maps))
        if self._change is None:
            return output
        changed = self.changed(output, self._change)
        # Who works in place may look at the argument afterwards, instead of the result.
        return changed if args is given else given[0].copy_(changed)


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """Yield the names of the modules that are running, the innermost last, whenever `model` runs.

    The network itself is called "(network)".
    """
    path: list[str] = []

    def leave(*_: Any) -> None:
        path.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():

            def enter(*_: Any, name: str = name or "(network)") -> None:
                path.append(name)

            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        yield path


class _RowwiseMean(torch.autograd.Function):
    """Spatial mean of maps in channels_last memory, three times as fast there as `Tensor.mean`.

    Reducing and broadcasting run over whole rows (width x units values that lie side by side)
    instead of over the few units of one pixel; in bfloat16 that is most of the regulariser's cost.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.maps = maps.shape, maps.dtype
        return _rowwise_mean(maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _spread(gradients[0], *ctx.maps)


class _ReluAndMean(torch.autograd.Function):
    """A ReLU of maps in channels_last memory, and the spatial mean of what it returns.

    A few images at a time, so that what one operation writes is in the processor's cache when the
    next one reads it: maps pass through memory once forward and once back. The bits are those of
    the operations one after the other.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> tuple[Tensor, Tensor]:
        output = torch.empty_like(maps)
        means = []
        for part in _parts(maps):
            torch.clamp_min(maps[part], 0, out=output[part])
            means.append(_rowwise_mean(output[part]))
        ctx.save_for_backward(output)
        return output, torch.cat(means)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        of_output, of_means = gradients
        total = torch.empty_like(output)
        for part in _parts(output):
            spread = _spread(of_means[part], output[part].shape, output.dtype)
            torch.add(of_output[part], spread, out=total[part])
            torch.ops.aten.threshold_backward.grad_input(
                total[part], output[part], 0, grad_input=total[part]
            )
        return total


def _in_one_pass(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Say whether `_ReluAndMean` takes the place of a ReLU: one of a CPU, and not in place."""
    return (
        function in (F.relu, torch.relu, Tensor.relu)
        and len(args) == 1
        and not any(kwargs.values())
        and torch.is_grad_enabled()
        and args[0].requires_grad
        and args[0].device.type == "cpu"  # a GPU would start many small kernels
        and len(args[0]) > 0
        and _rowwise(args[0])
    )


def _in_place(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether an activation writes over its argument."""
    named = getattr(function, "__name__", "").rstrip("_") != getattr(function, "__name__", "")
    return bool(args) and (named or any(each is True for each in (*args[1:], *kwargs.values())))


def _rowwise(maps: Tensor) -> bool:
    """Say whether rows lie side by side, and their sum stays in the range of their precision."""
    channels_last = maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return channels_last and maps.dtype != torch.float16


def _parts(maps: Tensor) -> list[slice]:
    size = max(1, CACHED // max(1, maps[0].numel() * maps.element_size()))
    return [slice(start, start + size) for start in range(0, len(maps), size)]


def _rowwise_mean(maps: Tensor) -> Tensor:
    batch, units, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(batch, height, width * units)
    # Asking this large sum for float32 would copy bfloat16 maps first. Rounding its results
    # to their precision, as the maps were, costs the mean of `width` of them next to nothing.
    columns = rows.sum(1).view(batch, width, units)
    mean: Tensor = columns.sum(1, dtype=_at_least_float32(maps)) / (height * width)
    return mean


def _spread(means: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the gradient of maps of which the gradient of their spatial means is known."""
    batch, units, height, width = shape
    pixel = (means / (height * width)).to(dtype)
    row = pixel[:, None].expand(batch, width, units).contiguous()
    maps: Tensor = row[:, None].expand(batch, height, width, units)
    return maps.permute(0, 3, 1, 2)


def spatial_mean(maps: Tensor) -> Units:
    """Average a layer's output over space, in float32 or, where the maps are, in float64.

    Args:
        maps: (batch, units), (batch, tokens, units) or (batch, units, height, width).
    """
    if maps.ndim == 2:
        return maps.to(_at_least_float32(maps)).clone()  # what comes next may work in place
    if maps.ndim == 3:
        return maps.mean(1, dtype=_at_least_float32(maps))
    with torch.autocast(maps.device.type, enabled=False):  # it would copy the maps to float32 first
        if _rowwise(maps):
            return _RowwiseMean.apply(maps)  # type: ignore[no-any-return]
        return maps.flatten(2).mean(2, dtype=_at_least_float32(maps))


def _at_least_float32(maps: Tensor) -> torch.dtype:
    return torch.promote_types(maps.dtype, torch.float32)
