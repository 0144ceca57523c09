"""The commands `selbench baseline` and `selbench check`: whether a model got worse."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.places import place
from selbench.commands.naming import (
    chosen_study,
    network_words,
    networks_named,
    networks_of,
    opened_session,
    study_words,
)
from selbench.commands.options import (
    NETWORKS,
    Attacks,
    Corruptions,
    Device,
    Force,
    NetworkOptions,
    OptionalStudyName,
    Quiet,
    expanded,
    grouped,
    say,
    split_words,
)
from selbench.commands.remembered import check_typed

if TYPE_CHECKING:
    from selbench.regression.baseline import Baseline
    from selbench.regression.comparison import Comparison
    from selbench.regression.correctness import Candidate, Place
    from selbench.regression.summary import Report
    from selbench.request import Request
    from selbench.session import Session
    from selbench.study import Study

FORMATS = ("table", "json", "github")

Suites = Annotated[
    list[str] | None, typer.Option("--suite", help="Suites to compare; may be repeated.")
]
SubjectName = Annotated[
    str | None,
    typer.Option("--subject", help='The model, if a study has several: such as "alpha=0".'),
]
Outcomes = Annotated[
    Path | None,
    typer.Option(
        "--store",
        parser=place,
        metavar="PATH",
        help="Keep outcomes in this store, for interrupted commands, and reuse those of runs.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use this many test images.")]


@grouped
def baseline(
    study: OptionalStudyName = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "baseline.json"
    ),
    suite: Suites = None,
    corruption: Corruptions = None,
    attack: Attacks = None,
    subject: SubjectName = None,
    options: NetworkOptions = NETWORKS,
    limit: Limit = None,
    store: Outcomes = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Record which images a model classifies correctly now, for `selbench check`.

    The model is every seed of one alpha of the study, or --checkpoint. Several seeds show how much
    networks differ that are only trained again; three are few, five are good.
    """
    chosen_study(study, options)  # check for typing errors before torch is imported
    check_typed(suite, corruption, attack, options.alpha, options.seed)

    from selbench._kit.outputs import BASELINE, check_file
    from selbench.datasets import limited
    from selbench.networks.misfits import most_by_chance
    from selbench.regression.baseline import write_baseline
    from selbench.regression.check import plan_baseline, record
    from selbench.regression.summary import summary, warning
    from selbench.store import check_place

    output = output.expanduser()
    check_file(output, BASELINE, "--output", force)
    if store is not None:
        check_place(store)
    session = _open(study, subject, None, options, device, quiet)
    suites = suite or session.study.suites
    setting = session.setting(_asked(suite, corruption, attack))
    chosen = plan_baseline(suites, setting, session.dataset.test, limit)
    made = record(_candidate(session, options), chosen, _place(session, store))
    write_baseline(made, output, force)
    say(f"{output} {summary(made)}")
    if warned := warning(made, most_by_chance(limited(session.dataset.test, limit).labels)):
        say(warned, err=True)


@grouped
def check(
    study: OptionalStudyName = None,
    baseline: Annotated[Path, typer.Option(help="The file that `selbench baseline` wrote.")] = Path(
        "baseline.json"
    ),
    suite: Suites = None,
    corruption: Corruptions = None,
    attack: Attacks = None,
    tolerance: Annotated[
        float, typer.Option(help="Accept drops up to this, as a fraction of 1.")
    ] = 0.01,
    detect: Annotated[
        float | None,
        typer.Option(help="Also fail if a drop of this many points could not have been found."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Compare as much as fits in a nominal time, such as 60s or 5m.",
            rich_help_panel="What is measured",
        ),
    ] = None,
    subject: SubjectName = None,
    options: NetworkOptions = NETWORKS,
    limit: Limit = None,
    store: Outcomes = None,
    format: Annotated[str, typer.Option(help="table, json or github.")] = "table",
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare a model with its baseline; exit with 1 if it got worse.

    It got worse if a drop is larger than the tolerance and significant, over examples and over
    seeds, after correction for the number of conditions. The study's networks get the baseline's
    seeds if it has several, else the study's.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    chosen_study(study, options)  # check for typing errors before torch is imported
    check_typed(suite, corruption, attack, options.alpha, options.seed)

    from selbench._kit.outputs import JUNIT, check_file
    from selbench.regression.check import check_detect, check_tolerance
    from selbench.regression.summary import Report
    from selbench.store import check_place

    check_tolerance(tolerance)
    check_detect(detect, tolerance)
    junit = expanded(junit)
    if junit is not None:
        check_file(junit, JUNIT, "--junit", force)
    if store is not None:
        check_place(store)
    recorded = _read(baseline, study, options)
    session = _open(study, subject, recorded, options, device, quiet)
    where = _place(session, store)
    asked = _asked(suite, corruption, attack, limit)
    candidate, found = _compare(session, recorded, asked, tolerance, budget, options, where)
    report = Report(found, recorded, candidate.subject, candidate.findings, detect)
    _tell(report, format, junit)
    if report.failed:
        raise typer.Exit(1)


def _read(path: Path, study: str | None, options: NetworkOptions) -> "Baseline":
    from selbench.regression.baseline import read_baseline

    named = study_words(study, options, alpha=options.alpha, seed=options.seed)
    words = [*named, *network_words(options), "-o", str(path)]
    return read_baseline(path.expanduser(), f"`{shlex.join(['selbench', 'baseline', *words])}`")


def _open(
    name: str | None,
    subject: str | None,
    recorded: "Baseline | None",
    options: NetworkOptions,
    device: str,
    quiet: bool,
) -> "Session":
    """Open a study; if the model is one of its networks, with one alpha only."""
    from selbench.study import exactly

    networks_named(options)  # reports options that do not fit, before data are loaded
    chosen = chosen_study(name, options)
    if subject and (options.brings or options.alpha):
        raise SelbenchError(
            "--subject names an alpha of the study; leave out either it or --model, --checkpoint "
            "and --alpha"
        )
    if options.brings:
        return opened_session(chosen, options, device, quiet)
    if options.alpha is None:
        alpha = exactly(_alpha(chosen, subject, recorded))
        options = replace(options, alpha=[alpha])
    elif len(split_words(options.alpha) or []) != 1:
        raise SelbenchError("a baseline covers one alpha; name one with --alpha")
    if recorded and not options.seed and not options.trained:
        options = replace(options, seed=_seeds(recorded))
    return opened_session(chosen, options, device, quiet)


def _alpha(study: "Study", subject: str | None, recorded: "Baseline | None") -> float:
    """Return the alpha of the model: the named one, the baseline's, or the study's only one."""
    from selbench.study import exactly

    alphas = {f"alpha={exactly(alpha)}": alpha for alpha in study.alphas}
    if subject is not None and subject not in alphas:
        raise unknown("subject", subject, alphas)
    wanted = subject or (recorded.subject if recorded else None)
    if wanted in alphas:
        return alphas[str(wanted)]
    if len(alphas) == 1:
        return next(iter(alphas.values()))
    raise SelbenchError(
        f"the study has several subjects ({', '.join(alphas)}); name one with --subject"
    )


def _seeds(recorded: "Baseline") -> list[str] | None:
    """Return the baseline's seeds; None if there is only one, or if its networks were brought.

    With None the study's seeds are used, which show how much networks vary.
    """
    from selbench.networks.network import seed_of

    seeds = [seed_of(each.name) for each in recorded.networks]
    if len(seeds) == 1 or None in seeds:
        return None
    return [str(seed) for seed in seeds]


def _dataset(session: "Session") -> str:
    """Return the data set's name, with the folder of images if it has one."""
    root = session.study.dataset.root
    return session.dataset.name if root is None else f"{session.dataset.name} {root.name}"


def _place(session: "Session", store: Path | None) -> "Place":
    from selbench.regression.correctness import Place

    return Place(session.dataset, session.device, session.progress, store, session.study)


def _candidate(session: "Session", options: NetworkOptions) -> "Candidate":
    """Train the study's networks, load trained ones, or use brought ones."""
    from selbench.regression.correctness import Candidate, looked_at
    from selbench.study import exactly

    study = session.study
    found = networks_of(session, options, networks_named(options), quiet=True)
    if options.brings and not options.name:
        # The baseline may be committed, so it holds only the last part of a path.
        found = [replace(each, name=Path(each.name).name) for each in found]
    networks = found or session.train()
    first, described = networks[0], {"name": study.model.name, **study.model.options}
    candidate = Candidate(
        subject=", ".join(each.name for each in networks)
        if options.brings
        else f"alpha={exactly(study.alphas[0])}",
        networks=networks,
        architecture={"name": first.architecture} if options.model else described,
        study=study.name,
        dataset=_dataset(session),
    )
    return looked_at(candidate, session.dataset)


def _asked(
    suite: list[str] | None,
    corruption: list[str] | None,
    attack: list[str] | None,
    limit: int | None = None,
) -> "Request":
    """Return the work to record or compare, as the request of a run."""
    from selbench.request import Request

    return Request(
        suites=tuple(suite or ()),
        corruptions=tuple(split_words(corruption) or ()),
        attacks=tuple(split_words(attack) or ()),
        limit=limit,
    )


def _compare(
    session: "Session",
    recorded: "Baseline",
    asked: "Request",
    tolerance: float,
    budget: str | None,
    options: NetworkOptions,
    where: "Place",
) -> "tuple[Candidate, Comparison]":
    """Check that the comparison is possible; then train and compare."""
    from selbench.regression import check as regression
    from selbench.regression.budget import seconds_of

    test, suites, limit = session.dataset.test, asked.suites or recorded.suites, asked.limit
    seconds = None if budget is None else seconds_of(budget)
    regression.check_data(recorded, _dataset(session), test, limit)
    chosen = regression.plan(recorded, suites, session.setting(asked), limit)
    candidate = _candidate(session, options)
    if seconds is not None:
        chosen = regression.within(seconds, chosen, candidate, test)
    return candidate, regression.run(candidate, recorded, chosen, where, tolerance)


def _tell(report: "Report", format: str, junit: Path | None) -> None:
    """Print the report, and write the requested files."""
    from selbench._kit.files import write_text
    from selbench.regression import github
    from selbench.regression.summary import headline, to_json, to_junit, to_table

    if junit:
        write_text(junit, to_junit(report), "--junit")
    if format == "json":
        sys.stdout.write(to_json(report))
    elif format == "table":
        Console().print(to_table(report))
        for line in (headline(report), *report.findings):
            say(line)
    if format == "github" or github.on_github():
        # GitHub reads annotations from both streams; stdout must stay valid JSON.
        typer.echo(github.annotations(report), nl=False, err=format == "json")
    github.append_summary(report)
