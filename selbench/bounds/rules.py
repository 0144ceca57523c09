"""What each operation does to bounds: affine maps of the values that depend on images, and others.

`RULES` holds a rule for each operation, by torch's name.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selbench.bounds import rounding
from selbench.bounds.maps import Affine, Call, Map, ReLU, Rising, Transposed
from selbench.bounds.program import Ref

aten = torch.ops.aten

RULES: dict[str, Callable[[Call], Map]] = {}
Rule = Callable[[Call], Map]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under the names of the operations that it covers."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


@rule("convolution")
def _convolution(call: Call) -> Affine:
    _, weight, bias, *geometry = call.args
    rectified = isinstance(call.before.get(call.first[0]), ReLU)
    return _convolved(call.first, weight, bias, geometry, rectified)


def _convolved(
    where: tuple[int],
    weight: Tensor,
    bias: Tensor | None,
    geometry: Sequence[Any],
    rectified: bool,
) -> Affine:
    """Return a convolution; `geometry` has torch's arguments from the stride on."""
    transposed, flat, wide = geometry[3], weight[0].numel(), (1, -1, *(1 for _ in geometry[0]))
    absolute = weight.abs()
    constant = weight.new_zeros(weight.shape[0]) if bias is None else bias

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return aten.convolution(x, weight, bias, *geometry)  # type: ignore[no-any-return]

    def back(outer: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
        # Four times as fast in float64 as the transposed convolution; the values of x do not
        # matter.
        x = outer.new_zeros(()).expand(len(outer), *shapes[0])
        made = aten.convolution_backward(outer, x, weight, None, *geometry, [True, False, False])
        return (made[0],)

    def scaled(scale: Tensor, shift: Tensor) -> Affine:
        per_filter = scale.view(-1, *(1 for _ in weight.shape[1:]))
        return _convolved(where, weight * per_filter, constant * scale + shift, geometry, rectified)

    return Affine(
        where,
        lambda x: apply(x, weight),
        lambda r: apply(r, absolute),
        None if bias is None else bias.view(wide),
        back,
        None if transposed else rounding.weighted(apply, weight, constant, flat, rectified),
        None if transposed else scaled,
    )


@rule("addmm", "mm", "linear")
def _linear(call: Call) -> Affine:
    name, args = call.operation.name, list(call.args)
    bias = args.pop(0) if name == "addmm" else None
    images, matrix = args[0], args[1]
    if name == "linear":
        matrix, bias = matrix.t(), args[2] if len(args) > 2 else None
    if not isinstance(images, Ref) or isinstance(matrix, Ref) or isinstance(bias, Ref):
        raise call.refused("with several operands that depend on the images")
    if call.kwargs.get("beta", 1) != 1 or call.kwargs.get("alpha", 1) != 1:
        raise call.refused("with alpha or beta other than 1")
    if len(call.shapes[images.place]) != 1:
        raise call.refused("on inputs with more than one dimension")
    absolute, (terms, outputs) = matrix.abs(), matrix.shape
    constant = matrix.new_zeros(outputs) if bias is None else bias
    return Affine(
        (images.place,),
        lambda x: x @ matrix,
        lambda r: r @ absolute,
        None if bias is None else bias.expand(1, outputs),
        lambda outer, shapes: (outer @ matrix.t(),),
        rounding.weighted(lambda x, a, b: torch.addmm(b, x, a), matrix, constant, terms),
    )


def _scaled(call: Call, where: tuple[int], scale: Tensor, constant: Tensor | None) -> Affine:
    """Return the map x * scale + constant; both broadcast to the shape of one image."""
    absolute, shape = scale.abs(), call.shape

    def back(outer: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
        return ((outer * scale).sum_to_size(len(outer), *shapes[0]),)

    def spread(x: Tensor) -> Tensor:
        return x if x.shape[1:] == shape else x.expand(len(x), *shape)

    added = (scale.new_zeros(()) if constant is None else constant).expand(1, *shape)
    return Affine(
        where,
        lambda x: spread(x * scale),
        lambda r: spread(r * absolute),
        None if constant is None else added,
        back,
        rounding.weighted(lambda x, a, b: torch.addcmul(b, x, a), scale, added, 1),
    )


@rule("add", "sub", "rsub")
def _sum(call: Call) -> Affine:
    left, right = call.args[:2]
    alpha = call.args[2] if len(call.args) > 2 else call.kwargs.get("alpha", 1)
    signs = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[call.operation.name]
    if isinstance(left, Ref) and isinstance(right, Ref):
        return _sum_of_two(call, (left.place, right.place), signs)
    following, other = (left, right) if isinstance(left, Ref) else (right, left)
    factor, added = signs if isinstance(left, Ref) else signs[::-1]
    return _scaled(call, (following.place,), call.one(factor), added * call.one(other))


def _sum_of_two(call: Call, where: tuple[int, int], signs: tuple[float, float]) -> Affine:
    def back(outer: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
        pairs = zip(signs, shapes, strict=True)
        return tuple(
            (outer if sign == 1 else sign * outer).sum_to_size(len(outer), *each)
            for sign, each in pairs
        )

    one, other = signs
    return Affine(
        where,
        lambda x, y: torch.add(x if one == 1 else one * x, y, alpha=other),
        lambda x, y: torch.add(x if one == 1 else abs(one) * x, y, alpha=abs(other)),
        None,
        back,
        partial(rounding.added, alpha=other) if (one, abs(other)) == (1, 1) else None,
    )


@rule("mul")
def _product(call: Call) -> Affine:
    left, right = call.args
    if isinstance(left, Ref) and isinstance(right, Ref):
        raise call.refused("of two values that both depend on the images")
    following, other = (left, right) if isinstance(left, Ref) else (right, left)
    return _scaled(call, (following.place,), call.one(other), None)


@rule("div")
def _quotient(call: Call) -> Affine:
    if call.kwargs.get("rounding_mode"):
        raise call.refused("that rounds")
    return _scaled(call, call.first, 1 / call.one(call.args[1]), None)


@rule("neg")
def _negative(call: Call) -> Affine:
    return _scaled(call, call.first, call.one(-1), None)


@rule("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(call: Call) -> Affine:
    _, weight, bias, mean, variance = call.args[:5]
    named = call.operation.name
    training = named != "_native_batch_norm_legit_no_training" and call.args[5]
    if training or mean is None:
        raise call.refused("whose statistics are those of the batch")
    epsilon = call.args[-1]
    scale = (variance + epsilon).rsqrt()
    scale = scale if weight is None else weight * scale
    constant = -mean * scale if bias is None else bias - mean * scale
    (first,) = call.first
    convolution = call.before.get(first)
    if isinstance(convolution, Affine) and convolution.scaled is not None:
        return convolution.scaled(scale, constant)
    wide = (1, -1, *(1 for _ in call.shape[1:]))
    return _scaled(call, call.first, scale.view(wide), constant.view(wide))


@rule("mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d")
@rule("upsample_bilinear2d", "_upsample_bilinear2d_aa")
def _nowhere_negative(call: Call) -> Affine:
    """Return a map whose matrix has no negative entry, so that |A| = A."""
    _check_batch(call)
    linear = _first_following(call)
    return Affine(call.first, linear, linear)


@rule("slice", "select", "upsample_nearest2d")
def _selected(call: Call) -> Affine:
    _check_batch(call)
    return _moved(call.first, _first_following(call))


def _first_following(call: Call) -> Callable[[Tensor], Tensor]:
    """Return the operation as a function of its first argument."""
    apply, args, named = call.operation.call, call.args[1:], call.kwargs
    return lambda x: apply(x, *args, **named)


def _check_batch(call: Call) -> None:
    """Refuse operations that mix images or leave some out."""
    name, args = call.operation.name, call.args
    if name in ("mean", "sum"):
        dims = args[1] if len(args) > 1 else None
        spread = len(call.shapes[args[0].place]) + 1
        if not dims or any(each % spread == 0 for each in dims):
            raise call.refused("over all images")
    elif name in ("slice", "select"):
        dim = args[1] if len(args) > 1 else 0
        complete = name == "slice" and (
            (args[2] if len(args) > 2 else None) in (None, 0)
            and (args[3] if len(args) > 3 else 2**63) >= 2**31
            and (args[4] if len(args) > 4 else 1) == 1
        )
        if dim == 0 and not complete:
            raise call.refused("that leaves out images")


@rule("constant_pad_nd")
def _padded(call: Call) -> Affine:
    where, sizes = call.first, call.args[1]
    value = float(call.args[2]) if len(call.args) > 2 else 0.0
    if len(sizes) > 2 * len(call.shape):
        raise call.refused("that adds images")

    def linear(x: Tensor) -> Tensor:
        return F.pad(x, sizes)

    if not value:
        return _moved(where, linear)
    inner = torch.zeros(1, *call.shapes[where[0]], dtype=torch.float64)
    return Affine(where, linear, linear, F.pad(inner, sizes, value=value))


@rule("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "expand")
def _viewed(call: Call) -> Affine:
    where, shape = call.first, call.shape
    inner = call.shapes[where[0]]
    if len(call.operation.shape) == 0 or call.operation.shape[0] != call.batch:
        raise call.refused("that joins images")
    if inner.numel() != shape.numel():
        raise call.refused("that repeats values")
    return _moved(where, lambda x: x.reshape(len(x), *shape))


def _moved(
    where: tuple[int, ...], apply: Callable[..., Tensor], back: Transposed | None = None
) -> Affine:
    """Return a map that moves values and leaves them as they are, so that |A| = A."""

    def single(*pairs: rounding.Pair) -> rounding.Pair:
        centres, radii = zip(*pairs, strict=True)
        return apply(*centres), apply(*radii)

    return Affine(where, apply, apply, None, back, single)


@rule("transpose", "permute", "t")
def _permuted(call: Call) -> Affine:
    where, name, args = call.first, call.operation.name, call.args[1:]
    spread = len(call.shapes[where[0]]) + 1
    order = list(range(spread))
    if name == "permute":
        order = [each % spread for each in args[0]]
    elif name == "transpose":
        one, other = (each % spread for each in args)
        order[one], order[other] = order[other], order[one]
    else:
        order = [1, 0]
    if order[0] != 0:
        raise call.refused("that joins images")
    return _moved(where, lambda x: x.permute(order))


@rule("split", "split_with_sizes", "unbind", "chunk")
def _part(call: Call) -> Affine:
    where, item = call.first, call.operation.item
    if call.operation.shape[0] != call.batch or item is None:
        raise call.refused("that leaves out images")
    apply, args, named = call.operation.call, call.args[1:], call.kwargs
    return _moved(where, lambda x: apply(x, *args, **named)[item])


@rule("cat")
def _joined(call: Call) -> Affine:
    parts = call.args[0]
    spread = len(call.operation.shape)
    dim = (call.args[1] if len(call.args) > 1 else 0) % spread
    where = tuple(each.place for each in parts if isinstance(each, Ref))
    if dim == 0 or len(where) < len(parts):
        raise call.refused("that joins images" if dim == 0 else "with constants")
    widths = [call.shapes[place][dim - 1] for place in where]

    def linear(*values: Tensor) -> Tensor:
        return torch.cat(values, dim)

    return _moved(where, linear, lambda outer, shapes: outer.split(widths, dim))


@rule("detach", "alias", "clone", "_to_copy", "as_strided_", "contiguous", "lift_fresh")
def _kept(call: Call) -> Affine:
    where = call.first
    if call.shapes[where[0]] != call.shape or not call.operation.shape[0] == call.batch:
        raise call.refused("that changes the shape")
    kind = call.kwargs.get("dtype")
    if kind is not None and not kind.is_floating_point:
        raise call.refused("that rounds")
    return _moved(where, lambda x: x, lambda outer, shapes: (outer,))


@rule("relu")
def _relu(call: Call) -> ReLU:
    return ReLU(call.first)


@rule("hardtanh", "relu6", "sigmoid", "tanh", "leaky_relu", "elu", "softplus", "hardsigmoid")
def _rising(call: Call) -> Rising:
    name, args = call.operation.name, call.args[1:]
    if name == "leaky_relu" and args and args[0] < 0:
        raise call.refused("with a negative slope")
    if name == "elu" and any(each < 0 for each in args):
        raise call.refused("with a negative factor")
    apply, named = call.operation.call, call.kwargs
    return Rising(call.first, lambda x: apply(x, *args, **named))


@rule("clamp", "clamp_min", "clamp_max")
def _clamped(call: Call) -> Rising:
    apply, args, named = call.operation.call, call.args[1:], call.kwargs
    if any(isinstance(each, Tensor) for each in (*args, *named.values())):
        raise call.refused("with a tensor")
    return Rising(call.first, lambda x: apply(x, *args, **named))


@rule("max_pool2d_with_indices", "max_pool2d", "adaptive_max_pool2d")
def _max_pool(call: Call) -> Rising:
    apply, args, named = call.operation.call, call.args[1:], call.kwargs
    if call.operation.item not in (0, None):
        raise call.refused("that returns places")
    return Rising(call.first, lambda x: _first(apply(x, *args, **named)))


def _first(result: Any) -> Tensor:
    value: Tensor = result if isinstance(result, Tensor) else result[0]
    return value
