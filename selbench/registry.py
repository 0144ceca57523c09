"""Names to things: adding a data set, a model or a suite is one function under one decorator."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from selbench.errors import unknown
from selbench.plugins import load_plugins

F = TypeVar("F", bound=Callable[..., Any])


class Registry(Mapping[str, F]):
    """Functions by name; an unknown name raises `SelbenchError` with the nearest known one.

    A function's `__name__`, with dashes for underscores, is its name on the command line, in the
    store, in the tables and in the tests. What other packages add is there too, since their plugins
    are imported when a registry is first looked into.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._functions: dict[str, F] = {}

    def __call__(self, function: F) -> F:
        """Register `function`; used as a decorator."""
        name = function.__name__.replace("_", "-")
        if name in self._functions:
            raise ValueError(f"two {self.noun}s are named {name!r}")
        self._functions[name] = function
        return function

    def __getitem__(self, name: str) -> F:
        load_plugins()
        if name not in self._functions:
            raise unknown(self.noun, name, self._functions)
        return self._functions[name]

    def __contains__(self, name: object) -> bool:
        load_plugins()
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(self._functions)

    def __len__(self) -> int:
        load_plugins()
        return len(self._functions)
