"""The command `selbench run`: trains networks or uses yours, evaluates them, prints a table."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench._kit.errors import SelbenchError
from selbench.commands.leaderboard import Format, chosen_format, show
from selbench.commands.naming import (
    chosen_study,
    network_words,
    networks_named,
    networks_of,
    note,
    opened_session,
    starting,
    study_words,
)
from selbench.commands.options import (
    INCOMPLETE,
    NETWORKS,
    Address,
    Adversarials,
    Attacks,
    Corruptions,
    Device,
    DryRun,
    EngineName,
    Eot,
    GpusPerTask,
    Layers,
    NetworkOptions,
    OptionalStudyName,
    Pixels,
    Quiet,
    Store,
    TimeLimit,
    Verbose,
    grouped,
    say,
    split_words,
)
from selbench.commands.remembered import check_names, check_typed
from selbench.commands.stopping import (
    Budget,
    Margin,
    Threshold,
    refuse_several,
    show_least,
    show_stopped,
    stop_of,
)

if TYPE_CHECKING:
    from selbench._engine.dry_run import DryRun as Plan
    from selbench._engine.ran import RunResult
    from selbench.request import Request
    from selbench.session import Session

Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="LOGGER:PLACE",
        help="Also send the leaderboard to a logger, such as mlflow:sqlite:///runs.db; may be "
        "repeated.",
    ),
]


@grouped
def run(
    study: OptionalStudyName = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="What to evaluate; may be repeated. See `selbench list suites`."),
    ] = None,
    device: Device = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many test images.")] = None,
    store: Store = Path("runs"),
    options: NetworkOptions = NETWORKS,
    corruption: Corruptions = None,
    attack: Attacks = None,
    layers: Layers = None,
    columns: Annotated[
        str | None, typer.Option(help='Dimensionality of "units" or of flattened "maps".')
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help='Input-unit gradients by "probes" or "exact".')
    ] = None,
    sigma: Annotated[
        list[str] | None,
        typer.Option(help="Deviations of the noise of smoothing; repeat or use commas."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Draws of this noise for each image, to count votes.")
    ] = None,
    error: Annotated[
        float | None, typer.Option(help="Absolute error of estimated probabilities.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Confidence that each is within this error.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help='Bounds in the suite probability: "linear" or "interval".')
    ] = None,
    save_adversarials: Annotated[
        int,
        typer.Option(
            min=0, max=1000, help="Keep the adversarials of this many images, at most 1000."
        ),
    ] = 0,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Run AutoAttack at every epsilon, not only in undecided cases."
        ),
    ] = False,
    pixels: Pixels = None,
    eot: Eot = None,
    adversarials: Adversarials = None,
    budget: Budget = None,
    margin: Margin = None,
    threshold: Threshold = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed cells of earlier runs again.")
    ] = False,
    time_limit: TimeLimit = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus_per_task: GpusPerTask = None,
    dry_run: DryRun = False,
    format: Format = "table",
    log: Log = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train a study's networks, or use yours; evaluate them, and print the leaderboard.

    The first of several new seeds has its table before the others are trained. Results in the store
    and the cache are reused: if interrupted, rerun it to resume. If cells fail, the others are
    kept, and the exit code is 3. Several devices, such as cuda:0,cuda:1, share the work, one
    process each. With --budget, --margin or --threshold, attacks of attacks-strong stop once
    networks are decided.
    """
    from selbench.request import Request, chosen_draws, chosen_pixels
    from selbench.settings import numbers, settled

    specs = networks_named(options)
    if time_limit is not None and not 0 < time_limit < inf:
        raise SelbenchError(f"--time-limit takes seconds above 0, got {time_limit}")
    specs = [replace(each, time_limit=time_limit) for each in specs]
    mechanism = {"layers": layers, "columns": columns, "estimator": estimator}
    random = {"draws": draws, "error": error, "confidence": confidence, "method": method}
    settings = {"sigma": numbers("sigma", sigma), **mechanism, **random}
    asked = settled(chosen_study(study, options), settings, suite or ())
    first, *others = device.split(",")
    request = Request(
        suites=tuple(suite or ()),
        limit=limit,
        corruptions=tuple(split_words(corruption) or ()),
        attacks=tuple(split_words(attack) or ()),
        save=save_adversarials,
        retry=retry_failed,
        full=full,
        pixels=chosen_pixels(pixels),
        eot=chosen_draws(eot, pixels),
        adversarials=tuple(adversarials or ()),
        time_limit=time_limit,
        study=study_words(study, options, **mechanism),
        networks=network_words(options),
    )
    words = sys.argv[1:]
    check_typed(suite, corruption, attack, options.alpha, options.seed)
    check_names("format", [format])
    check_names("--engine", [engine])
    starting(quiet)
    stop = stop_of(budget, margin, threshold)
    refuse_several(stop, engine, others)

    from selbench._engine import also_on, opened  # imports torch, after the checks above
    from selbench._engine.ran import RunResult
    from selbench.store import StudyStore, check_place
    from selbench.tables.loggers import check_logger
    from selbench.tables.loggers import log as log_board

    chosen_format(format)
    for spec in log or []:
        check_logger(spec)
    if not dry_run:
        check_place(store)
    with opened(engine, address, gpus_per_task, 1 + len(others)) as chosen:
        session = opened_session(asked, options, first, quiet, chosen, verbose)
        networks = networks_of(session, options, specs, quiet, store)
        if dry_run:
            show_plan(session.dry_run(store, request, networks))
            if stop is not None:
                show_least(session, request, networks, stop)
            return
        if stop is not None:
            seen = session.stopped(store, request, networks, words, stop)
            request = request.model_copy(update={"limit": seen.images})
        with also_on(first, others, words):
            alone = format == "table" and not (networks or stop or others or quiet)
            before = _first_seed(session, store, request, words) if alone else RunResult()
            ran = session.run(store, request, networks, words).after(before)
    board = session.board(StudyStore(store, session.study.name), request, ran)
    if stop is not None:
        show_stopped(seen, stop)
    if board is not None:
        show([board], format)
        for spec in log or []:
            log_board(board, spec)
    _tell(ran, store / session.study.name, words, quiet)


def _first_seed(
    session: "Session", store: Path, request: "Request", words: Sequence[str]
) -> "RunResult":
    """Evaluate the first of several seeds, and print its table to the standard error."""
    from selbench._engine.ran import RunResult
    from selbench.store import StudyStore
    from selbench.study import count_of

    early = session.first_seed(request)
    if early is None:
        return RunResult()
    ran = early.run(store, request, (), words)
    board = early.board(StudyStore(store, early.study.name), request, ran)
    if board is not None:
        show([board], "table", err=True)
        more = count_of(early.rest, "further seed")
        note(f"this is seed {early.study.seeds[0]}; the table of all follows after {more}")
    return ran


def _tell(ran: "RunResult", folder: Path, words: Sequence[str], quiet: bool) -> None:
    """Print which cells are missing and exit with code 3, or print what the run did."""
    from selbench.store.missing import lost, missing

    if ran.failures:
        retrying = [] if "--retry-failed" in words else ["--retry-failed"]
        again = shlex.join(["selbench", *words, *retrying])
        typer.echo(f"selbench: {missing(ran.failures, ran.earlier, folder, again)}", err=True)
    if ran.lost:
        again = shlex.join(["selbench", *words])
        typer.echo(f"selbench: {lost(ran.lost, folder, again)}", err=True)
    if ran.failures or ran.lost:
        raise typer.Exit(INCOMPLETE)
    if not quiet:
        note(_summary(ran))
        note(f"results in {folder}; show them as a web site: `{_next(folder)}`")


def _summary(ran: "RunResult") -> str:
    from selbench._engine.dry_run import duration
    from selbench.study import count_of

    networks = count_of(ran.networks, "network")
    if not ran.evaluated:
        return f"{networks}; nothing new to evaluate, all was in the store"
    return f"{networks}; {count_of(ran.evaluated, 'cell')} evaluated in {duration(ran.seconds)}"


def _next(folder: Path) -> str:
    """Return the command that most users need after a run."""
    from selbench.tables.current import RUNS

    store = [] if folder.parent == RUNS else ["--store", str(folder.parent)]
    return shlex.join(["selbench", "report", folder.name, *store])


def show_plan(plan: "Plan") -> None:
    """Print the work of a dry run."""
    from selbench._engine.dry_run import described

    for line in described(plan):
        say(line)
