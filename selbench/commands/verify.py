"""The command `selbench verify`: checks the files of a store, and repairs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench._kit.places import UrlPath, place
from selbench._kit.printable import printable
from selbench.commands.options import Quiet, say

if TYPE_CHECKING:
    from selbench.commands.cached import Fault
    from selbench.commands.verification import Findings

DAMAGED = 1  # exit code if a file is damaged


def verify(
    store: Annotated[
        Path,
        typer.Argument(
            parser=place, metavar="PATH", help="The folder of a store, or of one of its studies."
        ),
    ] = Path("runs"),
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove damaged files; a run makes them again."),
    ] = False,
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate",
            help="Convert a store of an earlier version to the present format, if it is undamaged.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Check every file of a store against its digest; exit with 1 if one is damaged.

    The cache in SELBENCH_HOME is checked too, and mentioned only if something is wrong.
    With --repair, damaged files and leftovers of interrupted commands are removed; the same command
    makes them again.
    """
    from selbench.commands.verification import migrate as migrate_store
    from selbench.commands.verification import repair as repair_study
    from selbench.commands.verification import studies_at
    from selbench.commands.verification import verify as verify_study
    from selbench.store import check_format

    studies = studies_at(store)
    if migrate:  # all studies of a store share one format
        studies = studies_at(studies[0].root)
    found, damaged = [], False
    for study in studies:
        check_format(study.root)
        found.append(verify_study(study))
        if not quiet or found[-1].faults:
            typer.echo(findings_text(found[-1]))
        lasting = [each for each in found[-1].faults if not each.harmless]
        if repair and found[-1].faults:
            lasting = repair_study(found[-1])
            say(f"{study.folder} is repaired; run the command that made it again")
        damaged |= bool(lasting)
    damaged |= _verify_home(studies[0].root, repair)
    if damaged:
        raise typer.Exit(DAMAGED)
    if migrate:
        migrate_store(found)
        say(f"{studies[0].root} has the present format")


def _verify_home(store: Path, repair: bool) -> bool:
    """Report problems of the cache and leftovers of reports; return whether damage remains."""
    from selbench.commands.cached import Fault, repair_home, verify_home
    from selbench.report.output_folder import clear, left_behind

    found = verify_home()
    near = {Path(), *([] if isinstance(store, UrlPath) else [store.parent])}
    left = sorted({path.resolve() for folder in near for path in left_behind(folder)})
    words = "a report was interrupted while being written"
    faults = [*found.faults, *(Fault(path, words, harmless=True) for path in left)]
    if faults:
        typer.echo(_lines(found.folder, f"{found.files} files checked", faults))
    if repair and faults:
        repair_home(found)
        for path in left:
            clear(path)
        say(f"{found.folder} is repaired")
    return not repair and any(not each.harmless for each in faults)


def findings_text(found: "Findings") -> str:
    """Return what was found in a study's results, with a line for each damaged file."""
    unsigned = f", {found.unsigned} of an earlier version, without digests"
    checked = f"{found.files} files checked{unsigned * bool(found.unsigned)}"
    busy = [f"{holder} is at work there" for holder in dict.fromkeys(map(str, found.busy))]
    return _lines(found.store.folder, checked, found.faults, busy)


def _lines(place: Path, checked: str, faults: "Sequence[Fault]", notes: Sequence[str] = ()) -> str:
    damaged = sum(not each.harmless for each in faults)
    left = len(faults) - damaged
    head = f"{place}: {checked}; {f'{damaged} damaged' if damaged else 'none is damaged'}"
    head += f", {left} left behind or out of date" if left else ""
    lines = [*(f"{each.path}: {each.problem}" for each in faults), *notes]
    return "\n".join(map(printable, [head, *(f"  {line}" for line in lines)]))
