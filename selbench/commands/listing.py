"""The command `selbench list`: names that commands accept."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from selbench._kit.errors import unknown
from selbench.commands.options import first_line

if TYPE_CHECKING:
    from selbench.metrics import Metric

Facts = Mapping[str, Any]  # the facts on one thing, with a "description"


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Only these: studies, corruptions, suites, models, datasets, figures, columns or "
            "metrics.",
            autocompletion=lambda: [*KINDS],
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: for each kind a list of names and facts.")
    ] = False,
) -> None:
    """Show what commands can name: studies, suites, corruptions, models, data sets and metrics."""
    if kind is not None and kind not in KINDS:
        raise unknown("kind of thing", kind, KINDS)
    chosen = {name: made() for name, made in KINDS.items() if kind in (None, name)}
    if as_json:
        content = {
            noun: [{"name": name, **facts} for name, facts in things.items()]
            for noun, things in chosen.items()
        }
        typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for noun, things in chosen.items():
        console.print(noun, style="bold")
        for name, facts in things.items():
            console.print(f"  {name:<18} {facts['description']}", soft_wrap=True, markup=False)


def _studies() -> dict[str, Facts]:
    from selbench.study import load_study, shipped_studies

    studies = {name: load_study(name) for name in shipped_studies()}
    return {
        name: {
            "description": each.description,
            "dataset": each.dataset.name,
            "model": each.model.name,
            "alphas": each.alphas,
            "seeds": each.seeds,
        }
        for name, each in studies.items()
    }


def _corruptions() -> dict[str, Facts]:
    from corruptions import CORRUPTIONS

    marks = {name: _mark(bool(each.bar), each.extra) for name, each in CORRUPTIONS.items()}
    return {
        name: {
            "description": f"{each.family}{marks[name]}; {first_line(each.function)}",
            "family": each.family,
            "extra": each.extra,
            "c_bar": bool(each.bar),
        }
        for name, each in CORRUPTIONS.items()
    }


def _mark(bar: bool, extra: bool) -> str:
    if bar:
        return ", C-bar"
    return ", extra" if extra else ""


def _suites() -> dict[str, Facts]:
    from selbench.suites import SUITES

    return _functions(SUITES)


def _models() -> dict[str, Facts]:
    from selbench.models import MODELS

    return _functions(MODELS)


def _datasets() -> dict[str, Facts]:
    from selbench.datasets import DATASETS

    return _functions(DATASETS)


def _figures() -> dict[str, Facts]:
    from selbench.figures import FIGURES

    return _functions(FIGURES)


def _functions(registry: Mapping[str, Callable[..., Any]]) -> dict[str, Facts]:
    return {name: {"description": first_line(each)} for name, each in registry.items()}


def _columns() -> dict[str, Facts]:
    from corruptions import CORRUPTIONS
    from selbench.tables.columns import COLUMNS

    return {name: _measured(each) for name, each in COLUMNS.items() if name not in CORRUPTIONS}


def _metrics() -> dict[str, Facts]:
    from selbench.suites import METRICS
    from selbench.tables.columns import COLUMNS

    return {name: _measured(each) for name, each in METRICS.items() if name not in COLUMNS}


def _measured(metric: "Metric") -> Facts:
    return {
        "description": f"{metric.heading}: {metric.meaning} ({metric.source})",
        "heading": metric.heading,
        "meaning": metric.meaning,
        "source": metric.source,
        "suite": metric.suite,
        "better": {1: "higher", -1: "lower", 0: ""}[metric.better],
    }


KINDS: dict[str, Callable[[], dict[str, Facts]]] = {
    "studies": _studies,
    "corruptions": _corruptions,
    "suites": _suites,
    "models": _models,
    "datasets": _datasets,
    "figures": _figures,
    "columns": _columns,
    "metrics": _metrics,
}
