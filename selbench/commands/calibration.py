"""The command `selbench calibration`: how far confidence is from accuracy, under corruptions."""

from pathlib import Path
from typing import Annotated

import typer

from selbench._kit.errors import unknown
from selbench.commands.leaderboard import show
from selbench.commands.options import Place, Store, opened
from selbench.commands.remembered import check_names


def calibration(
    place: Place = None,
    store: Store = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json, latex or html.")] = "table",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
) -> None:
    """Print calibration errors on clean and corrupted images, before and after recalibration.

    `selbench run --suite calibration` measures them.
    """
    check_names("format", [format])

    from selbench.tables.calibrated import calibration_board
    from selbench.tables.formats import FORMATS

    if format not in ("table", *FORMATS):
        raise unknown("format", format, ("table", *FORMATS))
    with opened([place] if place else [], store) as studies:
        show([calibration_board(each, limit) for each in studies], format)
