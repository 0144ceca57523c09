"""Options that select networks of a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench._kit.errors import SelbenchError, unknown

if TYPE_CHECKING:
    from selbench.store import StudyStore


@dataclass(frozen=True)
class PickOptions:
    """Networks of a store, named as for `selbench run`."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="SPEC", help="Only this network, as it was named to `selbench run`."
        ),
    ] = None
    weights: Annotated[
        list[Path] | None, typer.Option("--weights", help="Only with these of a --model's weights.")
    ] = None
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only with a --model's published weights.")
    ] = False
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="Only this network of a file.")
    ] = None
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Only the network with this name in tables.")
    ] = None


PICKS = PickOptions()  # all networks


def picked(options: PickOptions, names: Sequence[str]) -> list[str] | None:
    """Return the networks of a store that the options name; None if they name none.

    A network's name is its spec, the file of its weights and, in brackets, other differences.
    """
    from selbench.store.findings import whole_name

    if (options.weights or options.pretrained) and not options.model:
        raise SelbenchError("--weights and --pretrained need a --model; name it too")
    files = [f" {path}" for path in options.weights or []] or [""]
    named = [f"{spec}{file}" for spec in options.model or [] for file in files]
    named += [str(path) for path in options.checkpoint or []]
    if not named and not options.name:
        return None
    found: list[str] = []
    for each in named:
        matching = [n for n in names if n == each or n.startswith(f"{each} ")]
        matching = [
            n for n in matching if not options.pretrained or "pretrained" in n.removeprefix(each)
        ]
        if not matching:
            raise unknown("network of the store", each, names)
        found += matching
    for name in options.name or []:
        matching = [n for n in names if name in (n, whole_name(n))]
        if not matching:
            raise unknown("network of the store", name, names)
        found += matching
    return found


def pick(options: PickOptions, studies: "Sequence[StudyStore]") -> "list[StudyStore]":
    """Restrict studies to the named networks; leave out studies without any."""
    every = [name for each in studies for name in each.manifest()["subjects"]]
    found = picked(options, every)
    if found is None:
        return [*studies]
    for each in studies:
        each.only = frozenset(found)
    return [each for each in studies if each.manifest()["subjects"]]
