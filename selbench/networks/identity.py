"""All that a network's logits depend on besides its weights: code, settings, other tensors.

Stored results are found by it: a difference that it misses would give results of another network.
"""

import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from selbench._kit.files import fingerprint
from selbench.networks.code import is_installed
from selbench.training import weights_hash

OF_TORCH = vars(nn.Module()).keys()  # attributes of every module: mode, hooks, ...
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
# Kinds of globals that belong to the user's module, not to a package.
NAMED = (int, float, str, list, tuple, dict, Tensor, np.ndarray, types.FunctionType)
DEEPEST = 4  # levels of nesting within attributes


def code_and_settings(model: nn.Module) -> Iterator[str]:
    """Yield the code of the user's classes in a network, and the settings of its modules."""
    modules = list(model.modules())
    for kind in dict.fromkeys(kind for each in modules for kind in type(each).__mro__):
        if kind is type(model) or not _is_installed(kind):
            try:
                yield inspect.getsource(kind)
            except (OSError, TypeError):  # defined at a prompt
                yield from _texts(_functions(kind))
    for each in modules:
        every = {n: v for n, v in vars(each).items() if n not in OF_TORCH and _is_plain(v)}
        yield repr(sorted(every.items(), key=itemgetter(0)))


def hidden(model: nn.Module) -> Iterator[str]:
    """Yield all else that a network's logits depend on; most networks have nothing here.

    These are tensors and functions in attributes of the user's modules, buffers that are not saved,
    hooks, global numbers in the modules of its code, and exported programs.
    """
    for name, each in model.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            if not any(name.startswith(f"{outer}.") for outer in _scripts(model) if outer != name):
                yield _script(each)
            continue
        if isinstance(each, fx.GraphModule):
            yield each.code
        for buffer in sorted(each._non_persistent_buffers_set):
            yield f"{name}.{buffer} {_text(each._buffers[buffer])}"
        custom = not _is_installed(type(each))
        for attribute, value in sorted(vars(each).items()):
            if attribute not in OF_TORCH and not _is_plain(value):
                text = _text(value) if custom or isinstance(value, Tensor) else ""
                if text:
                    yield f"{name}.{attribute} {text}"
        for place in HOOKS:
            yield from _texts({f"{place}{n}": f for n, f in enumerate(vars(each)[place].values())})
    for kind in dict.fromkeys(type(each) for each in model.modules()):
        if not _is_installed(kind):
            yield from _texts(_globals(kind))


def settings(model: nn.Module) -> list[str]:
    """Return all that identifies a network, except its trained weights."""
    kept = [
        f"{name}.{buffer} {_text(tensor)}"
        for name, each in model.named_modules()
        if not _is_installed(type(each))
        for buffer, tensor in each._buffers.items()
    ]
    return [repr(model), *code_and_settings(model), *hidden(model), *kept]


def _is_installed(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return module is not None and is_installed(module)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _functions(kind: type) -> dict[str, Any]:
    return {n: f for n, f in vars(kind).items() if isinstance(f, types.FunctionType)}


def _globals(kind: type) -> dict[str, Any]:
    """Return the global numbers, tensors and functions that the methods of a class use."""
    found: dict[str, Any] = {}
    for function in _functions(kind).values():
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, NAMED) and not _of_package(value):
                found[name] = value
    return found


def _of_package(value: object) -> bool:
    """Return whether a value is a function of a package, not of a user."""
    if not isinstance(value, types.FunctionType):
        return False
    module = sys.modules.get(value.__module__ or "")
    return module is not None and is_installed(module)


def _texts(named: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{name} {text}" for name, value in sorted(named.items()) if (text := _text(value)))


def _text(value: object, depth: int = 0) -> str:
    """Return a text for a value that is the same in every process; "" if there is none."""
    if _is_plain(value):
        return repr(value)
    if isinstance(value, Tensor):
        with suppress(RuntimeError, TypeError):  # on the meta device or sparse
            return weights_hash({"": value.detach()})
        return ""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return hashlib.sha256(
            repr((value.dtype, value.shape)).encode() + value.tobytes()
        ).hexdigest()
    if depth > DEEPEST:
        return ""
    return _of_parts(value, depth + 1)


def _of_parts(value: object, depth: int) -> str:
    if isinstance(value, types.MethodType):
        return _text(value.__func__, depth)
    if isinstance(value, types.FunctionType):
        return "" if _of_package(value) else _code(value, depth)
    if isinstance(value, partial):
        return _joined([value.func, value.args, value.keywords], depth)
    if isinstance(value, Mapping):
        return _joined([part for pair in value.items() for part in pair], depth)
    if isinstance(value, list | tuple):
        return _joined(value, depth)
    if isinstance(value, nn.Module):
        return repr(value)
    inner = getattr(value, "__dict__", None)
    return f"{type(value).__name__} {_text(inner, depth)}" if isinstance(inner, dict) else ""


def _joined(parts: Any, depth: int) -> str:
    texts = [_text(part, depth) for part in parts]
    return repr(texts) if any(texts) else ""


def _code(function: types.FunctionType, depth: int) -> str:
    code = function.__code__
    constants = [c for c in code.co_consts if _is_plain(c)]
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_set(cell)]
    parts = [code.co_code.hex(), constants, list(code.co_names), function.__defaults__, cells]
    return _joined(parts, depth)


def _is_set(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _scripts(model: nn.Module) -> list[str]:
    return [n for n, each in model.named_modules() if isinstance(each, torch.jit.ScriptModule)]


def _script(module: torch.jit.ScriptModule) -> str:
    """Hash a script: its code, and the constants of a frozen one."""
    graph: Any = module.inlined_graph
    lines = [line.partition(" # ")[0].rstrip() for line in str(graph).splitlines()]
    parts = [re.sub(r"___torch_mangle_\d+\.", "", line) for line in lines]
    for node in graph.findAllNodes("prim::Constant"):
        value = node.output().toIValue()
        if isinstance(value, Tensor):
            parts.append(_text(value))
    return fingerprint(parts)
