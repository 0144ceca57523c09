"""A network as a list of operations on tensors, recorded while a few images pass through it.

Recording resolves all Python control flow, so it works for any module. The number of images stays
open: other batches can follow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from selbench._kit.errors import UnboundedError, in_short
from selbench._kit.types import Images

IMAGES = 0  # the place of the images among the operations
# Operations that return the same values, without their history or in another memory layout.
KEEPING = frozenset(
    {"detach", "alias", "clone", "_to_copy", "as_strided_", "contiguous", "lift_fresh"}
)

# Operations that turn a tensor's values into Python numbers, which a network may branch on.
DECIDING = frozenset({"_local_scalar_dense", "is_nonzero", "item", "nonzero", "equal"})


@dataclass(frozen=True)
class Ref:
    """A reference to the output of an earlier operation."""

    place: int


@dataclass(frozen=True)
class Operation:
    """One operation of a network.

    Attributes:
        name: torch's, such as "convolution"; "images" for the input.
        args, kwargs: its arguments, with `Ref`s for outputs of other operations.
        shape: shape of its output for the recorded images.
        item: which of several outputs it is; None if there is only one.
        follows: whether it depends on the images.
        call: a function that runs the operation without side effects.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: torch.Size
    item: int | None = None
    follows: bool = True
    call: Any = None

    @property
    def refs(self) -> list[int]:
        """The places of the values that it uses."""
        return [each.place for each in tree_leaves(self.args) if isinstance(each, Ref)] + [
            each.place for each in tree_leaves(dict(self.kwargs)) if isinstance(each, Ref)
        ]


@dataclass(frozen=True)
class Recorded:
    """The operations that compute the logits, in order: images first, logits last.

    Attributes:
        operations: by place, without those that the logits do not need.
        batch: how many images were recorded.
    """

    operations: Mapping[int, Operation]
    batch: int

    @property
    def output(self) -> int:
        """The place of the logits."""
        return max(self.operations)

    def constants(self) -> dict[int, Tensor]:
        """Compute the values that do not depend on the images, with the current weights."""
        found: dict[int, Tensor] = {}

        def value(each: Any) -> Any:
            return found[each.place] if isinstance(each, Ref) else each

        for place, each in self.operations.items():
            if not each.follows:
                args, kwargs = tree_map(value, (each.args, dict(each.kwargs)))
                made = each.call(*args, **kwargs)
                found[place] = made if each.item is None else made[each.item]
        return found


def record(network: nn.Module, images: Images) -> Recorded:
    """Record what a network in evaluation mode does to `images`; a few are enough.

    Raises:
        UnboundedError: if the network branches on single values or changes parts of tensors.
    """
    recorder = _Recorder()
    images = images.detach().clone()
    with torch.no_grad(), recorder:
        recorder.enter(images, Operation("images", (), {}, images.shape))
        logits = network(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise UnboundedError("bounds need a network that returns logits, one row for each image")
    last = recorder.ref(logits)
    if not isinstance(last, Ref) or not recorder.operations[last.place].follows:
        raise UnboundedError("bounds need a network whose logits depend on the images")
    return Recorded(_needed(recorder.operations, last.place), len(images))


def _needed(operations: Sequence[Operation], output: int) -> dict[int, Operation]:
    needed = {output}
    for place in range(output, -1, -1):
        if place in needed:
            needed |= {*operations[place].refs}
    return {place: operations[place] for place in sorted(needed)}


@dataclass
class _Known:
    """A tensor that an operation made, kept alive so that no other tensor gets its id.

    Attributes:
        stale: whether another tensor that shares its memory was changed.
    """

    tensor: Tensor
    place: int
    stale: bool = False


@dataclass
class _Recorder(TorchDispatchMode):
    """Records every operation that runs inside."""

    operations: list[Operation] = field(default_factory=list)
    known: dict[int, _Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled, and importing torch's compiler takes seconds."""
        return False

    def ref(self, value: Any) -> Any:
        """Return the reference to a tensor that an operation made; anything else unchanged."""
        known = self.known.get(id(value)) if isinstance(value, Tensor) else None
        if known is None:
            return value
        if known.stale:
            raise UnboundedError(
                "bounds cannot follow a network that changes a part of a tensor in place"
            )
        return Ref(known.place)

    def enter(self, tensor: Tensor, operation: Operation) -> None:
        """Record an operation and the tensor that it made."""
        self.operations.append(operation)
        self.known[id(tensor)] = _Known(tensor, len(self.operations) - 1)

    def __torch_dispatch__(
        self, op: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        own_args, own_kwargs = tree_map(self.ref, (args, kwargs))
        name, call = op.overloadpacket.__name__, op
        refs = [each for each in tree_leaves((own_args, own_kwargs)) if isinstance(each, Ref)]
        follows = any(self.operations[each.place].follows for each in refs)
        if follows and name in DECIDING:
            raise UnboundedError(
                "bounds cannot follow a network that decides by single values of its images"
            )
        made = op(*args, **kwargs)
        if op._schema.is_mutable and name.endswith("_") and name not in KEEPING:
            self._forget(args[0])
            name = name.removesuffix("_")
            call = getattr(getattr(torch.ops.aten, name), op._overloadname)
        several = isinstance(made, tuple | list)
        for item, each in enumerate(made if several else (made,)):
            if isinstance(each, Tensor):
                index = item if several else None
                what = Operation(name, own_args, own_kwargs, each.shape, index, follows, call)
                self.enter(each, what)
        return made

    def _forget(self, changed: Tensor) -> None:
        """Mark all tensors that share the memory of a changed one as stale."""
        memory = changed.untyped_storage()._cdata
        for each in self.known.values():
            each.stale |= each.tensor.untyped_storage()._cdata == memory


def not_bounded(operation: Operation, reason: str = "") -> UnboundedError:
    """Return the error for an operation without known bounds."""
    why = f" {reason}" if reason else ""
    return UnboundedError(
        f"no bounds are known for the operation {in_short(operation.name)}{why}; networks of "
        "convolutions, linear layers, batch norms, ReLUs, sums and pooling have bounds"
    )
