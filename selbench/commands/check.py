"""The commands `selbench baseline` and `selbench check`: whether a model got worse."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench.errors import SelbenchError, unknown
from selbench.options import (
    Data,
    Device,
    Force,
    Quiet,
    Seeds,
    StudyName,
    expanded,
    say,
    shown,
    split_words,
)
from selbench.urls import place

if TYPE_CHECKING:
    from selbench.regression.baseline import Baseline
    from selbench.regression.comparison import Comparison
    from selbench.regression.evaluation import Candidate, Place
    from selbench.regression.report import Report
    from selbench.session import Session

FORMATS = ("table", "json", "github")

Suites = Annotated[list[str] | None, typer.Option("--suite", help="May be repeated.")]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="These weights of the study's model instead of training; repeat for other seeds of "
        "the same model.",
    ),
]
SubjectName = Annotated[
    str | None,
    typer.Option("--subject", help='The model, where a study has several: such as "alpha=0".'),
]
Outcomes = Annotated[
    Path | None,
    typer.Option(
        "--store",
        parser=place,
        metavar="PATH",
        help="Keep outcomes in this store, so that an interrupted command resumes; also a run's.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take so many test images.")]


def baseline(
    study: StudyName = "digits",
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "baseline.json"
    ),
    suite: Suites = None,
    subject: SubjectName = None,
    seed: Seeds = None,
    checkpoint: Checkpoints = None,
    limit: Limit = None,
    store: Outcomes = None,
    device: Device = "auto",
    data: Data = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write what a model recognises now, for `selbench check` to compare with.

    The model is every seed of one alpha of the study, or --checkpoint. Several seeds tell how
    much networks differ that were merely trained anew; three are few, five are good.
    """
    from selbench.outputs import BASELINE, check_file
    from selbench.regression.baseline import write_baseline
    from selbench.regression.check import plan_baseline, record
    from selbench.regression.report import summary
    from selbench.store import check_place

    output = output.expanduser()
    check_file(output, BASELINE, "--output", force)
    if store is not None:
        check_place(store)
    session = _open(study, subject, None, seed, checkpoint, device, data, quiet)
    suites = suite or session.study.suites
    chosen = plan_baseline(suites, session.setting(), session.dataset.test, limit)
    made = record(_candidate(session, checkpoint), chosen, _place(session, store))
    write_baseline(made, output, force)
    say(f"{output} {summary(made)}")


def check(
    study: StudyName = "digits",
    baseline: Annotated[Path, typer.Option(help="The file that `selbench baseline` wrote.")] = Path(
        "baseline.json"
    ),
    suite: Suites = None,
    tolerance: Annotated[
        float, typer.Option(help="Accept drops up to this, as a fraction of 1.")
    ] = 0.01,
    budget: Annotated[
        str | None,
        typer.Option(help="Compare as much as fits in a nominal time, such as 60s or 5m."),
    ] = None,
    subject: SubjectName = None,
    seed: Seeds = None,
    checkpoint: Checkpoints = None,
    limit: Limit = None,
    store: Outcomes = None,
    format: Annotated[str, typer.Option(help="table, json or github.")] = "table",
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    device: Device = "auto",
    data: Data = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare a model with its baseline; exit with 1 where it got worse.

    It got worse where a drop is larger than the tolerance and significant, over examples and over
    seeds, after correction for the number of conditions.
    """
    from selbench.outputs import JUNIT, check_file
    from selbench.regression.check import check_tolerance
    from selbench.regression.report import Report
    from selbench.store import check_place

    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    check_tolerance(tolerance)
    junit = expanded(junit)
    if junit is not None:
        check_file(junit, JUNIT, "--junit", force)
    if store is not None:
        check_place(store)
    recorded = _read(baseline)
    session = _open(study, subject, recorded, seed, checkpoint, device, data, quiet)
    where = _place(session, store)
    candidate, found = _compare(
        session, recorded, suite, tolerance, budget, checkpoint, limit, where
    )
    report = Report(found, recorded, candidate.subject, candidate.findings)
    _tell(report, format, junit)
    if report.failed:
        raise typer.Exit(1)


def _read(path: Path) -> "Baseline":
    from selbench.regression.baseline import read_baseline

    return read_baseline(path.expanduser())


def _open(
    name: str,
    subject: str | None,
    recorded: "Baseline | None",
    seed: list[str] | None,
    checkpoint: Sequence[Path] | None,
    device: str,
    data: Path | None,
    quiet: bool,
) -> "Session":
    """Open a study with the one alpha that is the model's."""
    from selbench.session import Session
    from selbench.study import exactly

    if checkpoint and (subject or seed):
        raise SelbenchError(
            "--subject and --seed choose what is trained, --checkpoint trains nothing; leave out "
            "one of them"
        )
    alphas = None if checkpoint else [exactly(_alpha(name, subject, recorded))]
    return Session.open(name, alphas, split_words(seed), device, data, shown(quiet))


def _alpha(study: str, subject: str | None, recorded: "Baseline | None") -> float:
    """Return the alpha of the model: the one named, the baseline's, or the study's only one."""
    from selbench.study import exactly, load_study

    alphas = {f"alpha={exactly(alpha)}": alpha for alpha in load_study(study).alphas}
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


def _dataset(session: "Session") -> str:
    """Name the data set, and the folder of images if it is one."""
    root = session.study.dataset.root
    return session.dataset.name if root is None else f"{session.dataset.name} {root.name}"


def _place(session: "Session", store: Path | None) -> "Place":
    from selbench.regression.evaluation import Place

    return Place(session.dataset, session.device, session.progress, store, session.study)


def _candidate(session: "Session", checkpoint: Sequence[Path] | None) -> "Candidate":
    """Train the model's networks, or find them trained, or take checkpoints."""
    from selbench.bring import NetworkSpec
    from selbench.regression.evaluation import Candidate, looked_at
    from selbench.study import exactly

    study = session.study
    brought = [session.bring(NetworkSpec(path.expanduser())) for path in checkpoint or []]
    # The file is committed: of a path it holds the last part only.
    networks = [replace(each, name=Path(each.name).name) for each in brought] or session.train()
    names = ", ".join(each.name for each in networks)
    candidate = Candidate(
        subject=names if brought else f"alpha={exactly(study.alphas[0])}",
        networks=networks,
        architecture={"name": study.model.name, **study.model.options},
        study=study.name,
        dataset=_dataset(session),
    )
    return looked_at(candidate, session.dataset)


def _compare(
    session: "Session",
    recorded: "Baseline",
    suite: list[str] | None,
    tolerance: float,
    budget: str | None,
    checkpoint: Sequence[Path] | None,
    limit: int | None,
    where: "Place",
) -> "tuple[Candidate, Comparison]":
    """Refuse what cannot be compared, then train, then compare."""
    from selbench.regression import check as regression
    from selbench.regression.budget import seconds_of

    test, suites = session.dataset.test, suite or recorded.suites
    seconds = None if budget is None else seconds_of(budget)
    regression.check_data(recorded, _dataset(session), test, limit)
    chosen = regression.plan(recorded, suites, session.setting(), limit)
    candidate = _candidate(session, checkpoint)
    if seconds is not None:
        chosen = regression.within(seconds, chosen, candidate, test)
    return candidate, regression.run(candidate, recorded, chosen, where, tolerance)


def _tell(report: "Report", format: str, junit: Path | None) -> None:
    """Print the report, and write the files that were asked for."""
    from selbench.files import write_text
    from selbench.regression import github
    from selbench.regression.report import headline, to_json, to_junit, to_table

    if junit:
        write_text(junit, to_junit(report), "--junit")
    if format == "json":
        sys.stdout.write(to_json(report))
    elif format == "table":
        Console().print(to_table(report))
        for line in (headline(report), *report.findings):
            say(line)
    if format == "github" or github.on_github():
        # Annotations are read from both streams; that of JSON stays JSON.
        typer.echo(github.annotations(report), nl=False, err=format == "json")
    github.append_summary(report)
