"""The command `selbench`. Heavy libraries are imported inside commands, so that --help is quick."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench import __version__
from selbench.cli_check import baseline, check
from selbench.cli_claims import claims
from selbench.cli_corrupt import corrupt
from selbench.errors import SelbenchError, unknown
from selbench.options import (
    Alphas,
    Corruptions,
    Data,
    Device,
    Layers,
    Quiet,
    Seeds,
    Store,
    StudyName,
    first_line,
    parse_channels,
    shown,
    split_words,
)

if TYPE_CHECKING:
    from selbench.leaderboard import Leaderboard

app = typer.Typer(
    name="selbench",
    help="Robustness of image classifiers across class selectivity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    study: StudyName = "digits",
    suite: Annotated[
        list[str] | None, typer.Option(help="Instead of the study's; may be repeated.")
    ] = None,
    alpha: Alphas = None,
    seed: Seeds = None,
    device: Device = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Take so many test images.")] = None,
    data: Data = None,
    store: Store = Path("runs"),
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Evaluate these weights of the study's model instead of training; may be repeated."
        ),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="A checkpoint's per-channel mean, as R,G,B on [0, 1].")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="A checkpoint's per-channel deviation, as R,G,B on [0, 1].")
    ] = None,
    corruption: Corruptions = None,
    source: Annotated[
        str | None,
        typer.Option(help='Corrupted images: "generated", "official", or the folder of a set.'),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(help="Corrupt with the constants for images of 32, 64 or 224 pixels."),
    ] = None,
    layers: Layers = None,
    columns: Annotated[
        str | None, typer.Option(help='Dimensionality of "units" or of flattened "maps".')
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help='Input-unit gradients by "probes" or "exact".')
    ] = None,
    save_adversarials: Annotated[
        int, typer.Option(min=0, help="Keep what attacks make of so many images.")
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Train a study's networks, evaluate them, and print the leaderboard.

    What the store and the cache hold already is not done again, so the same command resumes an
    interrupted run.
    """
    from selbench.session import Brought, Session

    if checkpoint and (alpha or seed):
        raise SelbenchError(
            "--alpha and --seed train, --checkpoint does not; leave out one of them"
        )
    if (mean or std) and not checkpoint:
        raise SelbenchError(
            "--mean and --std describe a --checkpoint; give one, or set them in the study's [model]"
        )
    brought = [
        Brought(path, parse_channels("--mean", mean), parse_channels("--std", std))
        for path in checkpoint or []
    ]
    session = Session.open(
        study,
        split_words(alpha),
        split_words(seed),
        device,
        data,
        shown(quiet),
        source,
        scale,
        {"layers": layers, "columns": columns, "estimator": estimator},
    )
    only = tuple(split_words(corruption) or ())
    board = session.run(
        store, tuple(suite or ()), limit, brought, sys.argv[1:], only, save_adversarials
    )
    _show(board)
    if not quiet:
        where = f"results in {store / session.study.name}"
        Console(stderr=True).print(where, style="dim", highlight=False)


@app.command()
def train(
    study: StudyName = "digits",
    alpha: Alphas = None,
    seed: Seeds = None,
    device: Device = "auto",
    data: Data = None,
    quiet: Quiet = False,
) -> None:
    """Train a study's networks and keep their weights; evaluate nothing."""
    from selbench.session import Session

    session = Session.open(study, split_words(alpha), split_words(seed), device, data, shown(quiet))
    for subject in session.train():
        typer.echo(f"{subject.name}  weights {subject.weights}")


@app.command()
def leaderboard(
    study: Annotated[
        str | None, typer.Argument(help="One study of the store; without it, all.")
    ] = None,
    store: Store = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json, latex or html.")] = "table",
    limit: Annotated[int | None, typer.Option(min=1, help="Of the runs with this --limit.")] = None,
    extra: Annotated[
        bool, typer.Option("--extra", help="Count the four extra corruptions in.")
    ] = False,
    corruption: Corruptions = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Only these columns of the CSV; repeat or use commas.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="The column whose best rows come first, with a rank.")
    ] = None,
) -> None:
    """Print the leaderboard of a store."""
    from selbench.leaderboard import leaderboard as derive
    from selbench.ranking import arranged
    from selbench.store import open_studies
    from selbench.tables import FORMATS

    if format not in ("table", *FORMATS):
        raise unknown("format", format, ("table", *FORMATS))
    only = split_words(corruption) or []
    chosen = split_words(columns)
    boards = [
        arranged(derive(each, limit, extra, only), chosen, sort)
        for each in open_studies(store, study)
    ]
    if format == "table":
        for board in boards:
            _show(board)
    else:
        sys.stdout.write(FORMATS[format](boards))


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Which one; see `selbench list`.")],
    study: Annotated[
        str | None, typer.Argument(help="A study of the store; needed where it has several.")
    ] = None,
    output: Annotated[Path, typer.Option(help="An .svg, .png or .pdf file.")] = Path("figure.svg"),
    store: Store = Path("runs"),
    limit: Annotated[int | None, typer.Option(min=1, help="Of the runs with this --limit.")] = None,
) -> None:
    """Draw a figure from a store."""
    from selbench.figures import draw
    from selbench.store import open_studies

    studies = open_studies(store, study)
    if len(studies) > 1:
        names = ", ".join(each.study for each in studies)
        raise SelbenchError(f"the store {store} holds the studies {names}; name one of them")
    draw(name, studies[0], limit, output)
    typer.echo(f"{output} shows {name} of {studies[0].study}")


@app.command(name="list")
def list_() -> None:
    """Show the studies, suites, corruptions, models, data sets, figures and columns there are."""
    from corruptions import CORRUPTIONS
    from selbench.datasets import DATASETS
    from selbench.figures import FIGURES
    from selbench.leaderboard import COLUMNS
    from selbench.models import MODELS
    from selbench.study import load_study, shipped_studies
    from selbench.suites import SUITES

    console = Console(highlight=False)
    studies = {name: load_study(name).description for name in shipped_studies()}
    corruptions = {
        name: f"{each.family}{', extra' if each.extra else ''}; {first_line(each.function)}"
        for name, each in CORRUPTIONS.items()
    }
    registries = {"suites": SUITES, "models": MODELS, "datasets": DATASETS, "figures": FIGURES}
    described = {
        noun: {n: first_line(f) for n, f in each.items()} for noun, each in registries.items()
    }
    columns = {name: column.heading for name, column in COLUMNS.items()}
    everything = {"studies": studies, "corruptions": corruptions, **described, "columns": columns}
    for noun, things in everything.items():
        console.print(noun, style="bold")
        for name, description in things.items():
            console.print(f"  {name:<18} {description}", soft_wrap=True, markup=False)


@app.command()
def download(
    dataset: Annotated[
        str, typer.Argument(help="cifar10, tiny-imagenet, cifar10-c or tiny-imagenet-c.")
    ],
    quiet: Quiet = False,
) -> None:
    """Download a data set, check it, and unpack it where studies look for it.

    A download that was cut off goes on where it stopped when the command is given again.
    """
    from selbench.datasets import DOWNLOADS
    from selbench.files import home

    place = DOWNLOADS[dataset](home() / "datasets", shown(quiet))
    typer.echo(f"{dataset} is in {place}")


app.command()(corrupt)
app.command()(claims)
app.command()(baseline)
app.command()(check)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"selbench {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


# Older releases of typer raise click's own class, newer ones that of a private copy.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line; a problem the user can mend is one sentence and exit code 2."""
    warnings.formatwarning = lambda message, *place: f"selbench: {message}\n"
    try:
        code = app(standalone_mode=False)
    except SelbenchError as problem:
        code = _fail(str(problem), 2)
    except UsageError as problem:
        code = _fail(f"{problem.format_message().rstrip('.')}. See selbench --help.", 2)  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    if code == 130:
        _fail("interrupted; the same command goes on where this one stopped", code)
    sys.exit(code)


def _fail(sentence: str, code: int) -> int:
    typer.echo(f"selbench: {sentence}", err=True)
    return code


def _show(board: "Leaderboard") -> None:
    from selbench.tables import to_table

    Console().print(to_table(board))
