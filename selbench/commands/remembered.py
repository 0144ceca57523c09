"""Names that an earlier command found in the registries: others are refused before torch's import.

The registries need torch. A command that has loaded them keeps their names, until a file of the
packages changes.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import fingerprint, home, write_json
from selbench._kit.registry import GROUP
from selbench.commands.options import split_words
from selbench.networks.described import check_source

FILE = "names.json"  # in `home`
OF_FOLDERS = "shifted_"  # columns that a store names
PACKAGES = ("selbench", "corruptions")
Names = dict[str, list[str]]  # by what they are names of
SOURCES: dict[str, tuple[str, Callable[[ModuleType], Iterable[str]]]] = {
    "suite": ("selbench.suites", lambda suites: suites.SUITES),
    "attack": ("selbench.suites", lambda suites: suites.attack_names()),
    "corruption": ("corruptions", lambda corruptions: corruptions.CORRUPTIONS),
    "figure": ("selbench.figures", lambda figures: figures.FIGURES),
    "format": ("selbench.tables.formats", lambda formats: ["table", *formats.FORMATS]),
    "column": ("selbench.tables.ranking", lambda ranking: ranking.COLUMNS),
    "heading": ("selbench.tables.ranking", lambda ranking: ranking.headings()),
    "model": ("selbench.networks.zoo", lambda zoo: zoo.ZOOS),
    "--engine": ("selbench._engine.engines", lambda engines: engines.ENGINES),
}


def check_typed(
    suites: list[str] | None,
    corruptions: list[str] | None,
    attacks: list[str] | None,
    alphas: list[str] | None,
    seeds: list[str] | None,
) -> None:
    """Raise `SelbenchError` for a mistyped value of the options that many commands have."""
    from selbench.study import parse_alphas, parse_seeds

    if alphas:
        parse_alphas(split_words(alphas) or ())
    if seeds:
        parse_seeds(split_words(seeds) or ())
    check_names("suite", suites)
    check_names("corruption", split_words(corruptions))
    check_names("attack", split_words(attacks))


def check_names(noun: str, names: Sequence[str] | None) -> None:
    """Raise `SelbenchError` for a name of this kind that is not among the remembered ones.

    With plugins, after torch's import, or without remembered names, registries check them later.
    """
    known = _known(noun)
    for name in names or ():
        if known and name not in known:
            raise unknown(noun, name, known)


def check_models(specs: Iterable[str]) -> None:
    """Raise `SelbenchError` for a network's source that is neither remembered nor there."""
    kinds = _known("model")
    for spec in specs:
        if kinds and spec:
            check_source(spec, kinds)


def _known(noun: str) -> list[str]:
    if "torch" in sys.modules or entry_points(group=GROUP):
        return []
    return _remembered(home() / FILE).get(noun, [])


def check_columns(names: Sequence[str]) -> None:
    """Raise `SelbenchError` for an unknown column; the table knows what its headings mean."""
    headings = _remembered(home() / FILE).get("heading", [])
    plain = [name for name in names if name.removesuffix(" %").lower() not in headings]
    check_names("column", [name for name in plain if not name.startswith(OF_FOLDERS)])


def remember() -> None:
    """Keep the names in the registries that this command has loaded, where they are not known."""
    path = home() / FILE
    loaded = {noun for noun, (module, _) in SOURCES.items() if module in sys.modules}
    known = _remembered(path)
    if loaded <= known.keys() or entry_points(group=GROUP):
        return
    for noun in loaded:
        module, names = SOURCES[noun]
        known[noun] = [*names(sys.modules[module])]
    with suppress(SelbenchError):  # a cache that cannot be written only costs time
        write_json(path, {"of": _sources(), "names": known})


@cache
def _remembered(path: Path) -> Names:
    """Return the names in a file; none if it is of other sources, or no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names: Names = found["names"] if found["of"] == _sources() else {}
        return {noun: [*map(str, names[noun])] for noun in SOURCES.keys() & names.keys()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _sources() -> str:
    """Return a hash that changes with every file of the packages."""
    specs = [spec for spec in map(find_spec, PACKAGES) if spec]
    roots = [Path(root) for spec in specs for root in spec.submodule_search_locations or ()]
    files = sorted(file for root in roots for file in root.rglob("*.py"))
    return fingerprint([[str(f), (s := f.stat()).st_size, s.st_mtime_ns] for f in files])
