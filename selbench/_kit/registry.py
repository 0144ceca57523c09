"""Registries of things by name: one decorated function adds a data set, a model or a suite.

Other packages can add theirs: the entry-point group `selbench.plugins` names modules, and importing
a module registers what it defines:

    [project.entry-points."selbench.plugins"]
    my-models = "my_package.selbench_models"
"""

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any, TypeVar

from selbench._kit.errors import unknown

T = TypeVar("T")
GROUP = "selbench.plugins"
_seen: set[str] = set()  # a plugin may use registries while it is imported


def load_plugins() -> None:
    """Import the installed plugins, once per process.

    A plugin that cannot be imported is left out, with a `RuntimeWarning` that names it and its
    package.
    """
    if GROUP in _seen:
        return
    _seen.add(GROUP)
    for plugin in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        _load(plugin)


def _load(plugin: EntryPoint) -> None:
    try:
        plugin.load()
    except (Exception, SystemExit) as problem:  # plugins may raise anything
        package = f" of {plugin.dist.name}" if plugin.dist else ""
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
        warnings.warn(
            f"the plugin {plugin.name}{package} ({plugin.value}) is left out, since it cannot be "
            f"imported ({reason}); mend it or uninstall its package",
            RuntimeWarning,
            stacklevel=2,
        )


def discover(package: str) -> None:
    """Import every module of a package, so that it registers what it defines."""
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


class Registry(Mapping[str, T]):
    """Things by name; an unknown name raises `SelbenchError` with the nearest known one.

    A function's `__name__`, with dashes for underscores, is its name everywhere: on the command
    line, in the store, in tables and in tests. Plugins are imported when a registry is first read.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._functions: dict[str, T] = {}

    def __call__(self, thing: T, *more: T) -> T:
        """Register things; also works as a decorator."""
        for each in (thing, *more):
            name = self.name_of(each)
            if name in self._functions:
                raise ValueError(f"two {self.noun}s are named {name!r}")
            self._functions[name] = each
        return thing

    def name_of(self, thing: Any) -> str:
        """Return the name of a thing."""
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
