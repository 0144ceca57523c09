"""The command `selbench leaderboard`: what studies measured, one row per alpha or network."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench._kit.errors import UnmeasuredError, unknown
from selbench.commands.options import Corruptions, Store, opened, say, split_words
from selbench.commands.remembered import check_columns, check_names

if TYPE_CHECKING:
    from selbench.store import StudyStore
    from selbench.tables import Leaderboard

Format = Annotated[
    str,
    typer.Option(
        help="table, md, csv, json, latex or html.",
        autocompletion=lambda: ["table", "md", "csv", "json", "latex", "html"],
    ),
]


def leaderboard(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PLACES",
            help="Studies of the store, or folders of studies or stores; several make one table. "
            "Without one, every study of the store. published:cifar10-c, published:cifar100-c and "
            "published:imagenet-c add published results.",
        ),
    ] = None,
    store: Store = Path("runs"),
    format: Format = "table",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
    extra: Annotated[
        bool, typer.Option("--extra", help="Count the extra corruptions too.")
    ] = False,
    corruption: Corruptions = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Only these columns, corruptions among them; repeat or use commas."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="The column whose best rows come first, with a rank.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help='The row that mCE is relative to, instead of "alpha=0"; published:alexnet for '
            "AlexNet's published errors on ImageNet-C."
        ),
    ] = None,
    correct_on_all: Annotated[
        bool,
        typer.Option(
            "--correct-on-all",
            help="Count only images that all networks classify correctly when clean.",
        ),
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Make one table of all studies of a store.")
    ] = False,
) -> None:
    """Print the leaderboard of a study, or of several.

    One table for each study; with several places, or --join, one table of all.
    """
    check_names("format", [format])
    only, chosen = split_words(corruption) or [], split_words(columns)
    check_columns([*(chosen or ()), *([sort] if sort else ())])
    check_names("corruption", only)

    from selbench.tables import leaderboard as derive
    from selbench.tables.published import PREFIX
    from selbench.tables.ranking import arranged

    chosen_format(format)
    foreign = [place for place in places or [] if place.startswith(PREFIX)]
    local = [place for place in places or [] if place not in foreign]
    nothing: list[StudyStore] = []
    with opened(local, store) if local or not foreign else nullcontext(nothing) as studies:
        sets = (
            [studies] if join or len(places or []) > 1 or foreign else [[each] for each in studies]
        )
        made = [
            derive(each, limit, extra, only, reference, correct_on_all, foreign) for each in sets
        ]
        show(_arranged(made, partial(arranged, columns=chosen, sort=sort)), format)


def _arranged(
    made: "Sequence[Leaderboard]", arrange: "Callable[[Leaderboard], Leaderboard]"
) -> "list[Leaderboard]":
    """Return the boards that have the chosen columns; report the others, or raise if none has."""
    found, problems = [], []
    for board in made:
        try:
            found.append(arrange(board))
        except UnmeasuredError as problem:
            problems.append(problem)
    if problems and not found:
        raise problems[0]
    for each in problems:
        say(f"left out: {each}", err=True)
    return found


def chosen_format(format: str) -> str:
    """Return the name of a format; raise `SelbenchError` if it is unknown."""
    from selbench.tables.formats import FORMATS

    if format not in ("table", *FORMATS):
        raise unknown("format", format, ("table", *FORMATS))
    return format


def show(boards: "Sequence[Leaderboard]", format: str, err: bool = False) -> None:
    """Print tables for people, or all tables in one file format; with `err` to standard error."""
    from selbench.tables.formats import FORMATS, to_table

    if format != "table":
        sys.stdout.write(FORMATS[format](boards))
        return
    console = Console(stderr=err)
    for board in boards:
        console.print(to_table(board, console.width))
