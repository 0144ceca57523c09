"""The command `selbench calibration`: how far confidence is from accuracy, under corruptions."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selbench.errors import unknown
from selbench.options import Place, Store, opened


def calibration(
    place: Place = None,
    store: Store = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json, latex or html.")] = "table",
    limit: Annotated[int | None, typer.Option(min=1, help="Of the runs with this --limit.")] = None,
) -> None:
    """Print calibration errors on clean and corrupted images, before and after recalibration.

    `selbench run --suite calibration` measures what there is to print.
    """
    from selbench.calibrated import calibration_board
    from selbench.leaderboard.tables import FORMATS, to_table

    if format not in ("table", *FORMATS):
        raise unknown("format", format, ("table", *FORMATS))
    boards = [calibration_board(each, limit) for each in opened([place] if place else [], store)]
    if format != "table":
        sys.stdout.write(FORMATS[format](boards))
        return
    for board in boards:
        Console().print(to_table(board))
