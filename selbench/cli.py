"""The command `selbench`. Heavy libraries are imported inside commands, so that --help is quick."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selbench import __version__
from selbench.commands.calibration import calibration
from selbench.commands.check import baseline, check
from selbench.commands.claims import claims
from selbench.commands.corrupt import corrupt
from selbench.commands.leaderboard import leaderboard
from selbench.commands.model_info import model_info
from selbench.commands.report import report
from selbench.commands.run import run
from selbench.commands.verify import verify
from selbench.errors import SelbenchError
from selbench.options import (
    Alphas,
    Data,
    Device,
    Place,
    Quiet,
    Seeds,
    Store,
    StudyName,
    expanded,
    first_line,
    shown,
    split_words,
)
from selbench.plugins import load_plugins

app = typer.Typer(
    name="selbench",
    help="Robustness of image classifiers across class selectivity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(run)


@app.command()
def train(
    study: StudyName = "digits",
    alpha: Alphas = None,
    seed: Seeds = None,
    device: Device = "auto",
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for copies of the weights, as safetensors.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Copies of half the size: float16.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a study's networks and keep their weights; evaluate nothing."""
    from selbench.session import Session
    from selbench.subjects import export

    if half and output is None:
        raise SelbenchError("--half is of the copies that --output FOLDER writes; give it too")
    output = expanded(output)
    session = Session.open(study, split_words(alpha), split_words(seed), device, data, shown(quiet))
    for subject in session.train():
        typer.echo(f"{subject.name}  weights {subject.weights}")
        if output is not None:
            words = [session.study.name, *subject.name.split()]
            export(subject, output / f"{'-'.join(words)}.safetensors", half)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Which one; see `selbench list`.")],
    place: Place = None,
    output: Annotated[Path, typer.Option(help="An .svg, .png or .pdf file.")] = Path("figure.svg"),
    store: Store = Path("runs"),
    limit: Annotated[int | None, typer.Option(min=1, help="Of the runs with this --limit.")] = None,
) -> None:
    """Draw a figure from a store."""
    from selbench.figures import draw
    from selbench.store import open_places

    studies = open_places([place] if place else [], store)
    if len(studies) > 1:
        names = ", ".join(each.study for each in studies)
        raise SelbenchError(f"{place or store} holds the studies {names}; name one of them")
    output = output.expanduser()
    draw(name, studies[0], limit, output)
    typer.echo(f"{output} shows {name} of {studies[0].study}")


@app.command(name="list")
def list_() -> None:
    """Show the studies, suites, corruptions, models, data sets, figures and columns there are."""
    from corruptions import CORRUPTIONS
    from selbench.datasets import DATASETS
    from selbench.figures import FIGURES
    from selbench.leaderboard.columns import COLUMNS
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
    columns = {name: column.heading for name, column in COLUMNS.items() if name not in CORRUPTIONS}
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


app.command(name="model-info")(model_info)
app.command()(leaderboard)
app.command()(corrupt)
app.command()(calibration)
app.command()(claims)
app.command()(baseline)
app.command()(check)
app.command()(report)
app.command()(verify)


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
    load_plugins()


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
