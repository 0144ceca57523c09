"""The command `selbench verify`: is a store what was written, and what can be done about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench.options import Quiet, say
from selbench.printable import printable
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
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate",
            help="Give a store of an earlier version the present format, if it is whole.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Check every file of a store against what was written; exit with 1 where one is damaged.

    With --repair, what is damaged and what runs that were cut off left behind is removed; the
    command that made it makes it anew.
    """
    from selbench.store import check_format
    from selbench.verification import migrate as migrate_store
    from selbench.verification import repair as repair_study
    from selbench.verification import studies_at
    from selbench.verification import verify as verify_study

    studies = studies_at(store)
    if migrate:  # a store has one format
        studies = studies_at(studies[0].root)
    found, damaged = [], False
    for study in studies:
        check_format(study.root)
        found.append(verify_study(study))
        if not quiet or found[-1].faults:
            typer.echo(told(found[-1]))
        lasting = [each for each in found[-1].faults if not each.harmless]
        if repair and found[-1].faults:
            lasting = repair_study(found[-1])
            say(f"{study.folder} is repaired; run again what made it")
        damaged |= bool(lasting)
    if damaged:
        raise typer.Exit(DAMAGED)
    if migrate:
        migrate_store(found)
        say(f"{studies[0].root} has the present format")


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
    return "\n".join(map(printable, [head, *(f"  {line}" for line in [*lines, *busy])]))
