"""Find which axes of a tensor are units, by following axes from the images through every function.

A layer with weights makes units: the last axis of a Linear, the channels of a convolution, the new
letters of an einsum. Axes keep their names through permute, reshape, pooling, normalisation and
elementwise functions, until the next weights. So units are found in any layout: (batch, units,
height, width), (batch, height, width, units), tokens, or images merged with tokens or windows.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

IMAGES, UNITS, PLACES = "images", "units", "places"

Factor = tuple[str, int]  # one of the names above, and its size
Axis = tuple[Factor, ...]  # several for merged axes, the outermost first
Axes = tuple[Axis, ...]

NOTE = "_selbench_axes"  # the attribute of tensors that holds them
CONSTANT: Axes = ()  # of tensors that depend on parameters and buffers only

_CONVOLUTIONS = {f"conv{kind}{n}d": n for kind in ("", "_transpose") for n in (1, 2, 3)}
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "mv"}
_NORMS = {"batch_norm": 1, "group_norm": 1, "instance_norm": 1, "layer_norm": -1, "rms_norm": -1}
_RESHAPES = {"view", "reshape", "flatten", "unflatten", "ravel", "view_as", "reshape_as"}
_VIEWS = {
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"),
    *("squeeze", "unsqueeze", "select", "narrow", "chunk", "split", "tensor_split", "unbind"),
    *("split_with_sizes", "expand", "__getitem__", "__get__", "unfold", "diagonal", "contiguous"),
}
_REDUCTIONS = {
    *("mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "prod", "median"),
    *("logsumexp", "nanmean", "nansum", "argmax", "argmin", "linalg_vector_norm", "any", "all"),
}


class Followed:
    """The axes of every tensor that depends on the images.

    The images are the first argument with four axes that is no constant.

    Args:
        constants: tensors besides parameters that are no images: a network's buffers.
    """

    def __init__(self, constants: Collection[Tensor] = ()) -> None:
        self._constants = {id(each): each for each in constants}
        self._mark = object()  # distinguishes its notes on a tensor from those of others
        self._batch: int | None = None

    def follow(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
    ) -> None:
        """Note the axes of a function's outputs."""
        made = [output] if isinstance(output, Tensor) else output
        if not isinstance(made, tuple | list) or not any(isinstance(m, Tensor) for m in made):
            return
        given = _tensors(args) + (_tensors(tuple(kwargs.values())) if kwargs else [])
        self._look_for_images(given)
        if given and all(self._of(each) is CONSTANT for each in given):
            axes: Sequence[Axes | None] = [CONSTANT] * len(made)
        else:
            axes = self._axes_after(function, args, kwargs, given, made)
        for each, tensor_axes in zip(made, axes, strict=True):
            if isinstance(each, Tensor) and type(each) is not nn.Parameter:
                known = tensor_axes is not None and (
                    tensor_axes is CONSTANT or _well_formed(tensor_axes, each)
                )
                self._note(each, tensor_axes if known else None)

    def of_images(self, tensor: Tensor) -> bool:
        """Return whether a tensor has a row for each image, as far as known."""
        axes = self._of(tensor)
        if axes is None:
            return self._batch is None or (tensor.ndim > 1 and len(tensor) == self._batch)
        return axes is not CONSTANT

    def has_units(self, tensor: Tensor) -> bool:
        """Return whether a layer with weights made the tensor."""
        return any(name == UNITS for axis in self._of(tensor) or () for name, _ in axis)

    def maps(self, tensor: Tensor) -> Tensor:
        """Return a tensor as (batch, units), (batch, tokens, units) or (batch, units, height, ...).

        A tensor with unknown axes is assumed to have this layout. If units and places are merged
        into one axis, each of its entries is a unit.
        """
        axes = self._of(tensor)
        if not axes or not self.has_units(tensor):
            return tensor
        flat = [factor for axis in axes for factor in _columns(axis)]
        images, units, places = (
            [place for place, (name, _) in enumerate(flat) if name == wanted]
            for wanted in (IMAGES, UNITS, PLACES)
        )
        tokens = len(places) == 1
        order = [*images, *places, *units] if tokens else [*images, *units, *places]
        if len(flat) == tensor.ndim and order == list(range(tensor.ndim)) and len(units) == 1:
            return tensor
        sizes = [size for _, size in flat]
        moved = tensor.reshape(sizes).permute(order)
        if len(units) == 1:
            return moved
        several = prod(sizes[place] for place in units)
        shape = [sizes[place] for place in order if place not in units]
        shape.insert(2 if tokens else 1, several)
        return moved.reshape(shape)

    def changed(self, tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output of `change` for a tensor's `maps`, in the layout of the tensor."""
        maps = self.maps(tensor)
        made = change(maps)
        if maps is not tensor:
            places = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape)
            self._note(places, self._of(tensor))
            order, flat = self.maps(places).flatten(), made.flatten()
            made = torch.empty_like(flat).scatter(0, order, flat).view(tensor.shape)
        self._note(made, self._of(tensor))
        return made

    def _of(self, tensor: Tensor) -> Axes | None:
        if type(tensor) is nn.Parameter or id(tensor) in self._constants:
            return CONSTANT
        mark, axes = getattr(tensor, NOTE, (None, None))
        return axes if mark is self._mark else None

    def _note(self, tensor: Tensor, axes: Axes | None) -> None:
        """Store axes as an attribute of a tensor; a weak dictionary would be slow."""
        setattr(tensor, NOTE, (self._mark, axes))

    def _look_for_images(self, given: Sequence[Tensor]) -> None:
        if self._batch is not None:
            return
        for each in given:
            if each.ndim == 4 and self._of(each) is None:
                self._batch = len(each)
                self._note(each, _plain(each))
                return

    def _axes_after(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: Sequence[Tensor],
        made: Sequence[Any],
    ) -> list[Axes | None]:
        """Return the axes of each output of a function; None if unknown."""
        name = getattr(function, "__name__", "")
        name = name.rstrip("_") if name[:1] != "_" else name
        if name == "einsum":
            return [self._summed(args, made[0])]
        if name in _PRODUCTS:
            return [self._multiplied(given[-2:], made[0])]
        known = [(each, axes) for each in given if (axes := self._axes_of(each))]
        if not known:
            return [None] * len(made)
        first, axes = known[0]
        if name == "linear":
            return [_with_units(axes, made[0], made[0].ndim - 1)]
        if name in _CONVOLUTIONS:
            return [_with_units(axes, made[0], made[0].ndim - 1 - _CONVOLUTIONS[name])]
        if name in _NORMS and not self.has_units(first):
            return [_with_units(axes, made[0], _NORMS[name] % made[0].ndim)]
        if name in _RESHAPES:
            return [_viewed(axes, each.shape, _strides(each.shape)) for each in made]
        if name in _VIEWS and (views := _views(function, args, kwargs, first)) is not None:
            return [_viewed(axes, each.shape, each.stride()) for each in views]
        return [self._kept(name, args, kwargs, known, each) for each in made]

    def _axes_of(self, tensor: Tensor) -> Axes | None:
        """Return a tensor's axes; if they are unknown, at most a first axis of images."""
        axes = self._of(tensor)
        if axes is None and tensor.ndim > 1 and len(tensor) == self._batch:
            return _plain(tensor)
        return axes

    def _kept(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        known: Sequence[tuple[Tensor, Axes]],
        made: Any,
    ) -> Axes | None:
        """Return the axes of an output that keeps those of an argument, or drops some."""
        if not isinstance(made, Tensor):
            return None
        alike = [(each, axes) for each, axes in known if each.ndim == made.ndim]
        if alike:
            # Of several, the largest: a gate with one place per unit is broadcast over the maps.
            _, axes = max(alike, key=lambda pair: (self.has_units(pair[0]), pair[0].numel()))
            return _resized(axes, made.shape)
        first, axes = known[0]
        dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
        if name not in _REDUCTIONS or dims is None:
            return None
        gone = {dims % first.ndim} if isinstance(dims, int) else {d % first.ndim for d in dims}
        return tuple(axis for place, axis in enumerate(axes) if place not in gone)

    def _multiplied(self, given: Sequence[Tensor], made: Tensor) -> Axes | None:
        """Return the axes of a matrix product; axes from weights are units."""
        left, right = given
        rows, columns = self._axes_of(left), self._axes_of(right)
        if columns and not rows and right.ndim == made.ndim:  # weights @ x
            return _with_units(columns, made, made.ndim - 2)
        if rows and not columns and left.ndim == made.ndim:
            return _with_units(rows, made, made.ndim - 1)
        if not rows or not columns or not left.ndim == right.ndim == made.ndim:
            return None
        return (*rows[:-1], columns[-1])

    def _summed(self, args: tuple[Any, ...], made: Tensor) -> Axes | None:
        """Return the axes of an einsum; letters that only weights have are units."""
        equation, *operands = args
        if isinstance(operands[0], tuple | list):
            operands = [*operands[0]]
        if not isinstance(equation, str) or "->" not in equation or "." in equation:
            axes = self._axes_of(operands[0])
            return _resized(axes, made.shape) if axes and len(axes) == made.ndim else None
        terms, result = equation.replace(" ", "").split("->")
        letters: dict[str, Axis] = {}
        for term, operand in zip(terms.split(","), operands, strict=True):
            letters |= dict(zip(term, self._axes_of(operand) or (), strict=False))
        new = [letter for letter in result if letter not in letters]
        axes = tuple(letters.get(letter, ((PLACES, 1),)) for letter in result)
        if len(new) != 1:
            return _resized(axes, made.shape)
        return _with_units(axes, made, result.index(new[0]))


class Usual(Followed):
    """Assumes that units are where `Followed.maps` puts them."""

    def follow(self, *_: Any) -> None:
        """Do nothing."""

    def of_images(self, tensor: Tensor) -> bool:
        """Return True."""
        return True

    def has_units(self, tensor: Tensor) -> bool:
        """Return False: unknown."""
        return False


def _tensors(given: Sequence[Any]) -> list[Tensor]:
    found = []
    for each in given:
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, tuple | list):
            found += _tensors(each)
    return found


def _plain(tensor: Tensor) -> Axes:
    """Return the axes of a tensor with a row for each image and no units."""
    batch, *sizes = tensor.shape
    return (((IMAGES, batch),), *(((PLACES, size),) for size in sizes))


def _with_units(axes: Axes, made: Tensor, place: int) -> Axes | None:
    """Return axes with units at `place`; former units become places."""
    if len(axes) != made.ndim:
        return None
    renamed = [
        tuple((PLACES if name == UNITS else name, size) for name, size in axis) for axis in axes
    ]
    renamed[place] = ((UNITS, made.shape[place]),)
    return _resized(tuple(renamed), made.shape)


def _resized(axes: Axes, shape: torch.Size) -> Axes:
    """Return axes resized to this shape: after pooling, padding, repeating or joining."""
    return tuple(_fitted(axis, size) for axis, size in zip(axes, shape, strict=True))


def _fitted(axis: Axis, size: int) -> Axis:
    if prod(n for _, n in axis) == size:
        return axis
    name, outer = axis[0]
    if len(axis) > 1 and name == IMAGES and size % outer == 0:
        return (name, outer), (PLACES, size // outer)
    names = {name for name, _ in axis}
    return ((UNITS if UNITS in names else name, size),)


def _columns(axis: Axis) -> Axis:
    """Return an axis without images as a single factor: units if it has any, else places."""
    names, size = {name for name, _ in axis}, prod(n for _, n in axis)
    if IMAGES in names:
        return axis
    return ((UNITS if UNITS in names else PLACES, size),)


def _strides(shape: Sequence[int]) -> list[int]:
    return [prod(shape[place + 1 :]) for place in range(len(shape))]


def _views(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    first: Tensor,
) -> list[Tensor] | None:
    """Return the views that a function which moves axes makes of a contiguous tensor."""
    with torch.inference_mode(False):  # in which torch does not report views
        model = torch.empty(first.shape, device="meta")
        moved = [model if each is first else each for each in args]
        try:
            views = function(*moved, **kwargs)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        several = [views] if isinstance(views, Tensor) else list(views)
        return several if all(each is model or each._is_view() for each in several) else None


def _viewed(axes: Axes, shape: Sequence[int], strides: Sequence[int]) -> Axes:
    """Return the axes of a view of a contiguous tensor with `axes`, from the view's strides."""
    factors = [factor for axis in axes for factor in axis]
    steps = _strides([size for _, size in factors])
    known = list(zip(factors, steps, strict=True))
    found = [_covered(known, size, stride) for size, stride in zip(shape, strides, strict=True)]
    if any(name == IMAGES for axis in found for name, _ in axis):
        return tuple(found)
    # A batch of one image has no stride by which to find it.
    step = next((step for (name, size), step in known if name == IMAGES and size == 1), None)
    for place, (size, stride) in product(range(len(found)), [(1, step)]):
        if (shape[place], strides[place]) == (size, stride):
            found[place] = ((IMAGES, 1),)
            break
    else:
        for place, axis in enumerate(found):
            if step is not None and shape[place] * strides[place] == step:
                found[place] = ((IMAGES, 1), *axis)
                break
    return tuple(found)


def _covered(known: Sequence[tuple[Factor, int]], size: int, stride: int) -> Axis:
    """Return the factors that an axis of this size and stride covers."""
    parts = []
    for (name, count), step in known:
        low, high = max(stride, step), min(stride * size, step * count)
        if high > low > 0:
            parts.append((name, high // low))
    if prod(n for _, n in parts) == size and parts:
        return tuple(parts)
    return ((parts[0][0] if len(parts) == 1 else PLACES, size),)


def _well_formed(axes: Axes, tensor: Tensor) -> bool:
    """Return whether axes have the sizes of a tensor, with images in exactly one of them."""
    sizes = tuple(prod(n for _, n in axis) for axis in axes)
    images = [name for axis in axes for name, _ in axis if name == IMAGES]
    return sizes == tuple(tensor.shape) and len(images) == 1
