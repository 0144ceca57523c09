"""The command `selbench verify`: is a store what was written, and what can be done about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench.options import Quiet
from selbench.urls import place

if TYPE_CHECKING:
    from selbench.verification import Findings

DAMAGED = 1  # exit code where a file is not what was written


def verify(
    store: Annotated[
        Path,
        typer.Argument(
            parser=place, metavar="PATH", help="The folder of a store, or of one of its studies."
        ),
    ] = Path("runs"),
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove what is damaged, so that a run makes it anew."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Check every file of a store against what was written; exit with 1 where one is damaged.

    With --repair, what is damaged and what runs that were cut off left behind is removed; the
    command that made it makes it anew.
    """
    from selbench.store import check_format
    from selbench.verification import repair as repair_study
    from selbench.verification import studies_at
    from selbench.verification import verify as verify_study

    damaged = False
    for study in studies_at(store):
        check_format(study.root)
        found = verify_study(study)
        if not quiet or found.faults:
            typer.echo(told(found))
        lasting = [each for each in found.faults if not each.harmless]
        if repair and found.faults:
            lasting = repair_study(found)
            typer.echo(f"{study.folder} is repaired; run again what made it")
        damaged |= bool(lasting)
    if damaged:
        raise typer.Exit(DAMAGED)


def told(found: "Findings") -> str:
    """Say what was found in the results of a study, a line for each file that is not whole."""
    damaged = sum(not each.harmless for each in found.faults)
    lines = [f"{each.path}: {each.problem}" for each in found.faults]
    unsigned = f", {found.unsigned} of an earlier version by their form alone"
    head = f"{found.store.folder}: {found.files} files checked{unsigned * bool(found.unsigned)}; "
    head += f"{damaged} damaged" if damaged else "none is damaged"
    left = len(lines) - damaged
    head += f", {left} left behind or out of date" if left else ""
    busy = [f"{holder} is at work there" for holder in dict.fromkeys(map(str, found.busy))]
    return "\n".join([head, *(f"  {line}" for line in [*lines, *busy])])
