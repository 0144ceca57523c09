"""Record the activity of units: the spatial means of every layer's maps in a forward pass.

A unit is one map of an activation's output; its activity is the map's spatial mean. Every call of
an activation that is never negative, such as a ReLU, is a layer, so a module that is called twice
makes two layers. Logits are no layer.
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

CACHED = 1 << 22  # bytes of maps that stay in the cache of a core between operations

Keep = Callable[[Tensor], Any]  # returns what is collected of a layer's output
Change = Callable[[Tensor], Tensor]  # returns the replacement of a layer's output

# Every call of these is a layer; of other activations, only those on the output of weights.
_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class RecordedUnits(TorchFunctionMode):
    """Collect, inside a `with` block, the units of every activation that is never negative.

    Calls of modules and of functions are recorded in order, in any network:

        with RecordedUnits() as recorded:
            logits = model(images)
        recorded.layers  # one (batch, units) float32 tensor for each call, differentiable

    Calls that depend on parameters only, not on the images, are left out.

    Attributes:
        layers: the collected units.
        usual: whether all layers so far were ReLUs on maps or vectors, as in a convolutional
            network, and no ReLU was left out.

    Args:
        keep: returns what to collect of an activation's output instead of its units. The output has
            the shape (batch, units), (batch, tokens, units) or (batch, units, height, width).
        wanted: collect only the calls with these numbers, from 0.
        constants: a network's buffers, which are no images.
        missed: called with the name of each activation that can be negative.
        follow: whether to find the axes of units; else the network is assumed to be `usual`, which
            saves some milliseconds.
        change: returns the replacement of an activation's output, in the shape of `keep`; called in
            order.
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
        """Return whether a function's output has a row for each image."""
        return self._followed.of_images(output)

    def maps(self, output: Tensor) -> Tensor:
        """Return a function's output in the shape (batch, units, height, width) or similar."""
        return self._followed.maps(output)

    def changed(self, output: Tensor, change: Change) -> Tensor:
        """Return the output of `change` for a function's `maps`, in their original shape."""
        return self._followed.changed(output, change)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `function`, and keep the units of its output if it is a layer."""
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
            args = (args[0].clone(), *args[1:])  # a backward pass may need its output unchanged
        output = function(*args, **kwargs)
        self._followed.follow(function, given, kwargs, output)
        maps = self._followed.maps(output)
        self.usual &= maps is output
        if wanted:
            self.layers.append(self._keep(maps))
        if self._change is None:
            return output
        changed = self.changed(output, self._change)
        # After an in-place call, the network may use the argument instead of the result.
        return changed if args is given else given[0].copy_(changed)


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """Yield a list of the modules that are running in `model`, by name, the innermost last.

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

    Reduction and broadcasting run over contiguous rows (width x units values) instead of over the
    few units of one pixel; in bfloat16 this is most of the regulariser's cost.
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

    It runs over a few images at a time, so that each operation reads the output of the last from
    the processor's cache: maps pass through memory once forward and once back. The result has the
    bits of the separate operations.
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
    """Return whether `_ReluAndMean` replaces a ReLU: on a CPU, and not in place."""
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
    """Return whether an activation overwrites its argument."""
    named = getattr(function, "__name__", "").rstrip("_") != getattr(function, "__name__", "")
    return bool(args) and (named or any(each is True for each in (*args[1:], *kwargs.values())))


def _rowwise(maps: Tensor) -> bool:
    """Return whether rows are contiguous, and their sums within the range of their precision."""
    channels_last = maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return channels_last and maps.dtype != torch.float16


def _parts(maps: Tensor) -> list[slice]:
    size = max(1, CACHED // max(1, maps[0].numel() * maps.element_size()))
    return [slice(start, start + size) for start in range(0, len(maps), size)]


def _rowwise_mean(maps: Tensor) -> Tensor:
    batch, units, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(batch, height, width * units)
    # A sum in float32 would copy bfloat16 maps first. The rounding of `width` sums to the
    # # precision of the maps hardly affects their mean.
    columns = rows.sum(1).view(batch, width, units)
    mean: Tensor = columns.sum(1, dtype=_at_least_float32(maps)) / (height * width)
    return mean


def _spread(means: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the gradient of maps from the gradient of their spatial means."""
    batch, units, height, width = shape
    pixel = (means / (height * width)).to(dtype)
    row = pixel[:, None].expand(batch, width, units).contiguous()
    maps: Tensor = row[:, None].expand(batch, height, width, units)
    return maps.permute(0, 3, 1, 2)


def spatial_mean(maps: Tensor) -> Units:
    """Average a layer's output over space, in float32; in float64 for maps in float64.

    Args:
        maps: (batch, units), (batch, tokens, units) or (batch, units, height, width).
    """
    if maps.ndim == 2:
        return maps.to(_at_least_float32(maps)).clone()  # the next operation may be in place
    if maps.ndim == 3:
        return maps.mean(1, dtype=_at_least_float32(maps))
    with torch.autocast(maps.device.type, enabled=False):  # it would copy the maps to float32 first
        if _rowwise(maps):
            return _RowwiseMean.apply(maps)  # type: ignore[no-any-return]
        return maps.flatten(2).mean(2, dtype=_at_least_float32(maps))


def _at_least_float32(maps: Tensor) -> torch.dtype:
    return torch.promote_types(maps.dtype, torch.float32)
