"""Which networks of a store a command reads."""

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
    """Networks of a store, named as they were to `selbench run`."""

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
    """Return the networks of a store that options name; None where they name none.

    A network is called after its spec, the file of its weights and, in brackets, what else tells it
    from others.
    """
    from selbench.store.findings import whole_name

    if (options.weights or options.pretrained) and not options.model:
        raise SelbenchError("--weights and --pretrained are of a --model; name it too")
    files = [f" {path}" for path in options.weights or []] or [""]
    said = [f"{spec}{file}" for spec in options.model or [] for file in files]
    said += [str(path) for path in options.checkpoint or []]
    if not said and not options.name:
        return None
    found: list[str] = []
    for each in said:
        own = [n for n in names if n == each or n.startswith(f"{each} ")]
        own = [n for n in own if not options.pretrained or "pretrained" in n.removeprefix(each)]
        if not own:
            raise unknown("network of the store", each, names)
        found += own
    for name in options.name or []:
        own = [n for n in names if name in (n, whole_name(n))]
        if not own:
            raise unknown("network of the store", name, names)
        found += own
    return found


def pick(options: PickOptions, studies: "Sequence[StudyStore]") -> "list[StudyStore]":
    """Have studies show the networks that options name alone; those without one are left out."""
    every = [name for each in studies for name in each.manifest()["subjects"]]
    found = picked(options, every)
    if found is None:
        return [*studies]
    for each in studies:
        each.only = frozenset(found)
    return [each for each in studies if each.manifest()["subjects"]]
