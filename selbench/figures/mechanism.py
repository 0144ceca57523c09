"""Measurements that may explain robustness, by layer and alpha."""

import math
from collections.abc import Sequence
from itertools import groupby, zip_longest

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from selbench._kit.errors import UnmeasuredError
from selbench.figures.style import FIGURES, colours_of, legend, line, titled
from selbench.metrics import Metric, Panel
from selbench.suites import METRICS
from selbench.tables.explained import comparable

LAYERS = 24  # most names of layers below a panel
WHOLE = 1.02  # the highest end of an axis of shares; intervals may be longer


@FIGURES
def selectivity(rows: pd.DataFrame, study: str) -> Figure:
    """Class selectivity over layers: of units, after random rotations, of the best axes.

    Dotted: the chance level.
    """
    return _over_layers(rows, study, "selectivity")


@FIGURES
def dimensionality(rows: pd.DataFrame, study: str) -> Figure:
    """Dimensionality over layers: on clean images, and of the change by corruptions and PGD."""
    return _over_layers(rows, study, "dimensionality")


@FIGURES
def gradients(rows: pd.DataFrame, study: str) -> Figure:
    """Gradients of units by the image over layers: their size, and how they vary."""
    return _over_layers(rows, study, "gradients")


@FIGURES
def jacobian(rows: pd.DataFrame, study: str) -> Figure:
    """The norm of the Jacobian for each alpha, also divided by the logits' scale."""
    return _over_alphas(rows, study, "jacobian")


@FIGURES
def elasticity(rows: pd.DataFrame, study: str) -> Figure:
    """Local elasticity for each alpha: does a step on one image only move others of its class?"""
    return _over_alphas(rows, study, "elasticity")


def _over_layers(rows: pd.DataFrame, study: str, name: str) -> Figure:
    """Draw a grid of panels with layers on x; columns without data are left out.

    A row shares its scale if only its first panel names the axis.
    """
    metrics = METRICS.drawn_in(name)
    shown = rows.assign(suite=rows["suite"].str.removesuffix("-maps"))
    shown = comparable(rows[shown["suite"].isin(_suites(metrics))])
    layered = shown.assign(suite=shown["suite"].str.removesuffix("-maps"))
    layered = layered[layered["layer"].notna()]
    _check(layered, study, name)
    grid = _filled(layered, metrics)
    height, width = len(grid), max(map(len, grid))
    figure = Figure(figsize=(3.2 * width, 2.6 * height + 1.0), layout="constrained")
    colours = colours_of(rows)
    one_scale = all(not metric.shown.axis for across in grid for metric in across[1:])
    everything = figure.subplots(
        height, width, squeeze=False, sharex=True, sharey="row" if one_scale else False
    )
    for across, of in zip(everything, grid, strict=True):
        for axes in across[len(of) :]:
            axes.set_axis_off()
        for axes, metric in zip(across, of, strict=False):
            lines, nulls = (
                _by_layer(metric.reads.chosen(layered)),
                _by_layer(_nulls(layered, metric)),
            )
            for label, colour in colours.items():
                if label in lines:
                    places = list(lines[label].columns)
                    line(axes, places, lines[label], label, colour, log=metric.shown.log)
                if label in nulls:
                    null = nulls[label]
                    axes.plot(null.columns, null.mean(), color=colour, linestyle=":", linewidth=1)
            _dress(axes, metric.shown)
            axes.set_xlabel("layer" if of is grid[-1] else "")
            _name_layers(axes, layered)
        for axes, metric in zip(across, of, strict=False):  # after all are drawn: they share it
            top = axes.get_ylim()[1]
            upper = min(top, WHOLE) if metric.bounds[1] == 1 else None
            axes.set_ylim(None if metric.shown.log else 0, upper)
    legend(figure.axes[width - 1], rows)
    titled(figure, f"{study}: {name} over layers", layered, "bands")
    return figure


def _name_layers(axes: Axes, rows: pd.DataFrame) -> None:
    """Name the layers on x, or number them where networks have different ones."""
    names = rows[["layer", "layer_name"]].drop_duplicates().sort_values("layer")
    if names["layer"].is_unique and names["layer_name"].notna().all():
        shown = names.iloc[:: math.ceil(len(names) / LAYERS)]
        texts = shown["layer_name"].str.removeprefix("network.")
        axes.set_xticks(shown["layer"].astype(int), texts, rotation=90, fontsize="x-small")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _suites(metrics: Sequence[Metric]) -> set[str]:
    return {suite for metric in metrics for suite in metric.reads.suites}


def _nulls(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the chance level of a metric."""
    null = METRICS.null_of(metric)
    return null.reads.chosen(rows) if null else rows[:0]


def _filled(rows: pd.DataFrame, metrics: Sequence[Metric]) -> list[tuple[Metric, ...]]:
    """Return rows of panels without columns that have no measurements."""
    grid = [list(part) for _, part in groupby(metrics, key=lambda each: each.shown.row)]
    columns = [
        column
        for column in zip_longest(*grid)  # a plugin may have a panel in only one of the rows
        if any(len(metric.reads.chosen(rows)) for metric in column if metric)
    ]
    return [tuple(filter(None, across)) for across in zip(*columns, strict=True)]


def _over_alphas(rows: pd.DataFrame, study: str, name: str) -> Figure:
    """Draw a row of panels with labels on x: each network as a dot, the mean as a dash."""
    metrics = METRICS.drawn_in(name)
    shown = rows[rows["suite"].isin(_suites(metrics))]
    _check(shown, study, name)
    figure = Figure(figsize=(3.2 * len(metrics), 2.8), layout="constrained")
    measured = shown["label"].unique()
    colours = {name: each for name, each in colours_of(rows).items() if name in measured}
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        part = metric.reads.chosen(shown)
        for place, (label, colour) in enumerate(colours.items()):
            values = part.loc[part["label"] == label, "value"]
            axes.plot([place] * len(values), values, "o", color=colour, markersize=4, alpha=0.7)
            axes.hlines(values.mean(), place - 0.3, place + 0.3, color=colour, linewidth=2)
        axes.set_xticks(range(len(colours)), list(colours))
        _dress(axes, metric.shown)
        axes.set_ylim(0, None if part.empty else 1.08 * part["value"].max())
        axes.set_xlabel("alpha" if shown["alpha"].notna().all() else "")
    titled(figure, f"{study}: {name}", shown)
    return figure


def _check(rows: pd.DataFrame, study: str, suite: str) -> None:
    if rows.empty:
        raise UnmeasuredError(f"the study {study} holds no {suite}", "--suite", suite)


def _by_layer(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each label's values, networks by layers, averaged over conditions."""
    means = part.groupby(["label", "subject", "layer"])["value"].mean().unstack()
    return {
        str(label): table.droplevel("label").dropna(axis="columns", how="all")
        for label, table in means.groupby(level="label")
    }


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel(panel.axis)
    axes.set_yscale("log" if panel.log else "linear")
    sns.despine(ax=axes)
