"""Names to things: adding a data set, a model or a suite is one function under one decorator."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from selbench._kit.errors import unknown
from selbench._kit.plugins import load_plugins

T = TypeVar("T")


def discover(package: str) -> None:
    """Import every module of a package, which registers what it defines: a new one is one file."""
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


class Registry(Mapping[str, T]):
    """Things by name; an unknown name raises `SelbenchError` with the nearest known one.

    A function's `__name__`, with dashes for underscores, is its name on the command line, in the
    store, in the tables and in the tests. What other packages add is there too, since their plugins
    are imported when a registry is first looked into.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._functions: dict[str, T] = {}

    def __call__(self, thing: T, *more: T) -> T:
        """Register things; used as a decorator of functions."""
        for each in (thing, *more):
            name = self.name_of(each)
            if name in self._functions:
                raise ValueError(f"two {self.noun}s are named {name!r}")
            self._functions[name] = each
        return thing

    def name_of(self, thing: Any) -> str:
        """Return what a thing is called."""
        name: str = thing.__name__
        return name.replace("_", "-")

    def __getitem__(self, name: str) -> T:
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
