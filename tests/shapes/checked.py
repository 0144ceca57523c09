"""Shapes are checked once for all calls that are alike: with tensors of the same shapes."""

from functools import partial, update_wrapper, wraps
from types import FunctionType
from typing import ForwardRef, get_args

import jaxtyping
import numpy as np
from jaxtyping._decorator import jaxtyped as decorated
from torch import Tensor

ARRAYS = (Tensor, np.ndarray)
CONTAINERS = (tuple, list, dict)
PLAIN = {int, float, bool, type(None)}
FEW = 8  # longest list whose items' kinds are compared
ALWAYS = object()  # what is of this kind is checked in every call


def checked(function=None, **words):
    """Decorate a function as `jaxtyping.jaxtyped` does, when it is called first.

    No class, but its `__init__`; no function whose annotations have no shapes, which is for mypy;
    and no function within a function: each call of the outer one would do so again.
    """
    if function is None:
        return partial(checked, **words)
    if not isinstance(function, FunctionType):
        return decorated(function, **words)
    if "<locals>" in function.__qualname__ or not any(map(_shaped, _annotations(function))):
        return function
    return _remembering(function, partial(decorated, **words))


def _annotations(function):
    return function.__annotations__.values()


def _shaped(annotation):
    """Say whether an annotation has a shape, or may have one: a name of what is defined later."""
    if isinstance(annotation, (str, ForwardRef)):
        return True
    if isinstance(annotation, list):  # the parameters of a callable
        return any(map(_shaped, annotation))
    arrays = isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray)
    return arrays or any(map(_shaped, get_args(annotation)))


def _remembering(function, decorate):
    known = {}  # by the kinds of arguments: those of results
    full = []

    def first(kinds, args, words):
        if not full:
            full.append(decorate(function))
        result = full[0](*args, **words)
        if kinds is not ALWAYS:
            known.setdefault(kinds, set()).add(kind(result))
        return result

    @wraps(function)
    def call(*args, **words):
        __tracebackhide__ = True
        kinds = kind((args, words))
        if kinds not in known:
            return first(kinds, args, words)
        result = function(*args, **words)
        found = kind(result)
        if found not in known[kinds]:
            decorate(_returning(result, function))(*args, **words)
            if found is not ALWAYS:
                known[kinds].add(found)
        return result

    by_value = "{" in "".join(map(str, _annotations(function)))  # no tensor's sizes
    return decorate(function) if by_value else call


def _returning(result, function):
    """Return a function that has the signature of another one, and returns this result."""

    def returned(*_, **__):
        return result

    parts = returned.__code__, function.__globals__, function.__name__, None, returned.__closure__
    return update_wrapper(FunctionType(*parts), function)


def kind(value):
    """Return what annotations ask of a value: types, and shapes of tensors."""
    own = type(value)
    if own in PLAIN:
        return own
    if isinstance(value, ARRAYS):
        return own, value.dtype, value.shape
    if isinstance(value, CONTAINERS):
        if len(value) > FEW:
            return ALWAYS
        named = isinstance(value, dict)
        kinds = (own, *value, *map(kind, value.values())) if named else (own, *map(kind, value))
        return ALWAYS if ALWAYS in kinds else kinds
    return (value,) if isinstance(value, (str, type)) else own
