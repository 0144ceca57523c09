"""A GPU that needs no hardware: tensors that say they lie elsewhere, and compute on the CPU.

Inside of a `StandIn` what is put on its device holds real numbers. Counted are the operators, and
what makes a program wait for a GPU, by the line of the packages that does: a number that is read, a
mask, a copy that is not told to go on. Operators that mix tensors of both devices are refused.
Forward mode and eagerpy take no tensors of this kind.
"""

import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
DEVICE = torch.device("meta")  # the one kind that torch lets nobody compute on
MEMORY = 2**34  # bytes
PACKAGES = ("/selbench/", "/corruptions/", "/torchvision/")
WAITING = {
    *(aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default),
    *(aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default),
    *(aten.masked_select.default, aten.bincount.default, aten.repeat_interleave.Tensor),
    *(aten.isin.Tensor_Tensor, aten._linalg_eigh.default, aten.linalg_inv_ex.default),
}
INDEXING = {
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default),
    *(aten._index_put_impl_.default, aten._unsafe_index.Tensor),
}
COPYING = {aten._to_copy.default, aten.copy_.default}


class Elsewhere(torch.Tensor):
    """A tensor of the stand-in; `held` has its numbers."""

    is_cuda = True

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self):
        return f"elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return StandIn.current.call(function, args, kwargs or {})


class StandIn(TorchDispatchMode):
    """The device; what happened on it is counted.

    Attributes:
        operators: how many ran.
        waits: how often a program waited, by what for and where.
        scans: where running sums of fractions were taken along the last axis, which a GPU takes in
            an order of its own.
        share: of the memory, that this process may take.
    """

    current = None

    def __init__(self):
        super().__init__()
        self.operators, self.waits, self.scans, self.share = 0, Counter(), set(), 1.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.call(function, args, kwargs or {})

    def put(self, given):
        """Put a tensor or a module on the device, and count nothing of that."""
        with self.uncounted():
            return given.to(DEVICE)

    @contextmanager
    def uncounted(self):
        """Leave what happens inside out of the counts."""
        before = self.operators, self.waits.copy()
        yield
        self.operators, self.waits = before

    def call(self, function, args, kwargs):
        """Run an operator on what tensors hold."""
        tensors = list(_tensors((*args, *kwargs.values())))
        here = any(isinstance(each, Elsewhere) for each in tensors)
        target = kwargs.get("device")
        comes = target is not None and torch.device(target) == DEVICE
        leaves = target is not None and not comes
        if here or comes:
            self.operators += 1
            self._look(function, args, kwargs, tensors, here)
        if function is aten.detach.default and here:
            return return_and_correct_aliasing(
                function, args, kwargs, Elsewhere(args[0].held.detach())
            )
        named = {name: _held(each) for name, each in kwargs.items()}
        made = function(*_held(args), **(named | {"device": "cpu"} if comes else named))
        if leaves or not (here or comes):
            return made
        made = Elsewhere(made) if isinstance(made, torch.Tensor) else _elsewhere(made)
        aliases = here and _aliases(function)
        return return_and_correct_aliasing(function, args, kwargs, made) if aliases else made

    def _look(self, function, args, kwargs, tensors, here):
        others = [each for each in tensors if not isinstance(each, Elsewhere)]
        if function in COPYING:
            across = (here and others) or "device" in kwargs
            waits = across and not (kwargs.get("non_blocking") or (*args, False)[2:3] == (True,))
            if waits and (others or torch.device(kwargs["device"]) != DEVICE):
                self.wait("copy")
        elif function in INDEXING:
            places = list(_tensors(args[1]))
            if any(each.dtype == torch.bool for each in places):
                self.wait("mask")
            if any(not isinstance(each, Elsewhere) for each in places):
                self.wait("copy of places")
            if args[2:3] and not isinstance(args[2], Elsewhere):
                self.wait("copy of a number")
            assert isinstance(args[0], Elsewhere), f"{function} mixes devices in {_line()}"
        elif here:
            if function is aten.cumsum.default and _fractions_along_the_last(*args[:2]):
                self.scans.add(_line())
            mixed = [each for each in others if each.dim()]
            assert not mixed, f"{function} mixes devices in {_line()}"
            if function in WAITING:
                self.wait(str(function).removeprefix("aten."))

    def wait(self, what):
        """Count that a program waits here."""
        self.waits[what, _line()] += 1


def _tensors(given):
    for each in given:
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, tuple | list):
            yield from _tensors(each)


def _held(given):
    if isinstance(given, Elsewhere):
        return given.held
    if isinstance(given, tuple | list):
        return type(given)(_held(each) for each in given)
    return given


def _elsewhere(made):
    return tree_map_only(torch.Tensor, Elsewhere, made)


@cache
def _aliases(function):
    schema = function._schema
    return any(each.alias_info for each in (*schema.arguments, *schema.returns))


def _fractions_along_the_last(tensor, axis):
    return tensor.is_floating_point() and axis % tensor.ndim == tensor.ndim - 1


def _line():
    frame = sys._getframe(1)
    while frame:
        file = frame.f_code.co_filename
        if any(name in file for name in PACKAGES):
            return f"{'/'.join(file.split('/')[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


class Numbers(TorchFunctionMode):
    """Has what does not go through operators find the stand-in: numbers that come and go."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.tensor and kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            return torch.tensor(*args, **kwargs | {"device": None}).to(device)
        if function in (torch.Tensor.new_tensor, torch.Tensor.tolist):
            own, *others = args
            if isinstance(own, Elsewhere) and others:
                return torch.tensor(*others, **{"dtype": own.dtype} | kwargs).to(DEVICE)
            if isinstance(own, Elsewhere):
                self.device.wait("list")
                return own.held.detach().tolist()
        return function(*args, **kwargs)


@contextmanager
def standing_in(patch):
    """Yield a stand-in; `patch` tells modules of it."""
    made, autocast = StandIn(), torch.autocast

    def casting(kind, *args, **kwargs):
        return nullcontext() if kind == DEVICE.type else autocast(kind, *args, **kwargs)

    patch.setattr(torch, "autocast", casting)
    patch.setattr(torch.inference_mode, "__enter__", _enter)  # of which such tensors know nothing
    patch.setattr(torch.inference_mode, "__exit__", _leave)
    for sizes in _sizes():
        patch.setitem(sizes, DEVICE.type, sizes["cuda"])
    # Modules that are converted get other parameters, as what these hold would stay.
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    memory = SimpleNamespace(total_memory=MEMORY)
    patch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    patch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: made.share)
    patch.setattr(torch.cuda, "empty_cache", lambda: None)
    patch.setattr(StandIn, "current", made)
    with made, Numbers(made):
        yield made


def _sizes():
    from selbench._kit import chunks
    from selbench.analyses import elasticity
    from selbench.sets import source
    from selbench.suites import attacking

    return chunks.CHUNK, chunks.BATCH, elasticity.BATCH, source.VALUES, attacking.CHUNK


def _enter(mode):
    mode.before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(mode.before and not mode.mode)


def _leave(mode, *_):
    torch._C._set_grad_enabled(mode.before)
