"""The command `selbench report`: a static site of a store's results."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from selbench.commands.options import Place, Quiet, Store, expanded, grouped, opened, say, shown
from selbench.commands.picking import PICKS, PickOptions, pick


@grouped
def report(
    place: Place = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new folder, or that of an earlier report.")
    ] = Path("site"),
    store: Store = Path("runs"),
    options: PickOptions = PICKS,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The folder of the test images, to show some of them.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a store's results as a web site that works from disk, offline."""
    from selbench.report.site import write_report

    gc.freeze()  # no collection needs to look at the modules again
    progress = shown(quiet)
    with opened([place] if place else [], store) as studies:
        write_report(pick(options, studies), output, limit, expanded(data), progress)
        say(f"open {output / 'index.html'} in a browser")
