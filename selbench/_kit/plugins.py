"""What other installed packages add to the registries.

A package names its modules in the entry-point group `selbench.plugins`; importing one enters what
it defines:

    [project.entry-points."selbench.plugins"]
    my-models = "my_package.selbench_models"
"""

import warnings
from importlib.metadata import EntryPoint, entry_points

GROUP = "selbench.plugins"
_seen: set[str] = set()  # a plugin asks registries itself while it is imported


def load_plugins() -> None:
    """Import the plugins that are installed, each once in a process.

    One that cannot be imported is left out with a `RuntimeWarning` that names it and its package.
    """
    if GROUP in _seen:
        return
    _seen.add(GROUP)
    for plugin in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        _load(plugin)


def _load(plugin: EntryPoint) -> None:
    try:
        plugin.load()
    except (Exception, SystemExit) as problem:  # others' code raises whatever it likes
        package = f" of {plugin.dist.name}" if plugin.dist else ""
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
        warnings.warn(
            f"the plugin {plugin.name}{package} ({plugin.value}) is left out, since it cannot be "
            f"imported ({reason}); mend it or uninstall its package",
            RuntimeWarning,
            stacklevel=2,
        )
