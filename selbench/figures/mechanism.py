"""What in networks moves with alpha, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from selbench.errors import UnmeasuredError
from selbench.figures.style import FIGURES, colours_of, legend, line
from selbench.leaderboard.explained import REPRESENTATION, comparable

PGD = "paper-pgd"
WHOLE = 1.02  # where the axis of a share ends at the latest: intervals may reach further


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a metric over layers.

    Attributes:
        title: what is looked at.
        metric: its name in the measurements.
        unit: what its axis says.
        condition: those whose measurements are averaged: "clean", "axes", PGD, or "" for all
            corruptions and severities.
        null: a metric drawn as dotted lines beside it.
        log: whether the axis is logarithmic.
        share: whether it is at most 1.
    """

    title: str
    metric: str
    unit: str = ""
    condition: str = "clean"
    null: str = ""
    log: bool = False
    share: bool = False


@FIGURES
def selectivity(rows: pd.DataFrame, study: str) -> Figure:
    """Class selectivity over layers: of units, after random rotations, of the best axes.

    Dotted: what sampling alone gives.
    """
    panels = [
        Panel(
            "units (dotted: by sampling alone)",
            "selectivity_index",
            "selectivity index",
            null="selectivity_index_null",
            share=True,
        ),
        Panel(
            "random rotations of the units",
            "selectivity_index_rotated",
            condition="axes",
            share=True,
        ),
        Panel(
            "the best axis for each class",
            "selectivity_index_best_axis_held_out",
            condition="axes",
            share=True,
        ),
    ]
    shown = rows[rows["suite"] == "selectivity"]
    return _over_layers(rows, shown, study, "selectivity", [panels])


@FIGURES
def dimensionality(rows: pd.DataFrame, study: str) -> Figure:
    """Dimensionality over layers: of clean images, and of what corruptions and PGD change."""
    heads = {
        "": "clean images",
        "change_": "change by corruptions",
        PGD: "change by the papers' PGD",
    }
    metrics = {
        "dimension_fraction_95": "components for 95 % of the\nvariance, share of columns",
        "two_nn": "intrinsic dimension, TwoNN",
    }
    grid = []
    for metric, unit in metrics.items():
        share = "fraction" in metric
        clean = Panel(heads[""], metric, unit, share=share)
        corrupted = Panel(heads["change_"], f"change_{metric}", condition="", share=share)
        attacked = Panel(heads[PGD], f"change_{metric}", condition=PGD, share=share)
        grid.append([clean, corrupted, attacked])
    shown = comparable(rows[rows["suite"].isin(REPRESENTATION)])
    return _over_layers(rows, shown, study, "dimensionality", grid)


@FIGURES
def gradients(rows: pd.DataFrame, study: str) -> Figure:
    """Input-unit gradients over layers: their size, and how they vary over samples and units."""
    panels = [
        Panel("mean norm", "input_gradient_norm", "d unit / d image, L2 norm", log=True),
        Panel("over samples", "input_gradient_cv_samples", "coefficient of variation"),
        Panel("over units", "input_gradient_cv_units"),
    ]
    shown = rows[rows["suite"] == "gradients"]
    return _over_layers(rows, shown, study, "gradients", [panels])


@FIGURES
def jacobian(rows: pd.DataFrame, study: str) -> Figure:
    """The input-output Jacobian of each alpha: as it is, and with the logits' scale taken out."""
    panels = [
        Panel("Jacobian", "jacobian_frobenius", "Frobenius norm, mean"),
        Panel("Jacobian over margin", "jacobian_frobenius_relative_median", "median"),
        Panel("nearest boundary, linearised", "margin_distance_median", "L2 distance, median"),
    ]
    return _over_alphas(rows, study, "jacobian", panels)


@FIGURES
def elasticity(rows: pd.DataFrame, study: str) -> Figure:
    """Local elasticity of each alpha: does a step on one image move others of its class alone?"""
    panels = [
        Panel("within a class", "elasticity_within", "relative change of the logits"),
        Panel("between classes", "elasticity_between"),
        Panel("within over between", "elasticity_ratio", "ratio"),
    ]
    return _over_alphas(rows, study, "elasticity", panels)


def _over_layers(
    rows: pd.DataFrame,
    shown: pd.DataFrame,
    study: str,
    suite: str,
    grid: Sequence[Sequence[Panel]],
) -> Figure:
    """Draw a grid of panels with the layers' numbers on x, those columns that there is data for.

    A row whose first panel alone has a unit shares its scale. `shown` are those of `rows` that
    panels choose from.
    """
    layered = shown[shown["layer"].notna()]
    _check(layered, study, suite)
    grid = _filled(layered, grid)
    height, width = len(grid), len(grid[0])
    figure = Figure(figsize=(3.2 * width, 2.6 * height + 0.4), layout="constrained")
    colours = colours_of(rows)
    one_scale = all(not panel.unit for panels in grid for panel in panels[1:])
    everything = figure.subplots(
        height, width, squeeze=False, sharex=True, sharey="row" if one_scale else False
    )
    for across, panels in zip(everything, grid, strict=True):
        for axes, panel in zip(across, panels, strict=True):
            part = _chosen(layered, panel, panel.metric)
            for name, colour in colours.items():
                line_of = _by_layer(part, name)
                if not line_of.empty:
                    line(axes, list(line_of.columns), line_of, name, colour, log=panel.log)
                null = _by_layer(_chosen(layered, panel, panel.null), name)
                if not null.empty:
                    axes.plot(null.columns, null.mean(), color=colour, linestyle=":", linewidth=1)
            _dress(axes, panel)
            axes.set_xlabel("layer" if panels is grid[-1] else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes, panel in zip(across, panels, strict=True):  # once all are drawn: they share it
            top = axes.get_ylim()[1]
            axes.set_ylim(None if panel.log else 0, min(top, WHOLE) if panel.share else None)
    legend(figure.axes[width - 1], rows)
    figure.suptitle(f"{study}: {suite} over layers", x=0.01, ha="left")
    return figure


def _filled(rows: pd.DataFrame, grid: Sequence[Sequence[Panel]]) -> list[tuple[Panel, ...]]:
    """Leave out the columns of panels for which nothing was measured."""
    columns = [
        panels
        for panels in zip(*grid, strict=True)
        if any(len(_chosen(rows, panel, panel.metric)) for panel in panels)
    ]
    return list(zip(*columns, strict=True))


def _over_alphas(rows: pd.DataFrame, study: str, suite: str, panels: Sequence[Panel]) -> Figure:
    """Draw a row of panels with the groups on x: every network as a dot, their mean as a dash."""
    shown = rows[rows["suite"] == suite]
    _check(shown, study, suite)
    figure = Figure(figsize=(3.2 * len(panels), 2.8), layout="constrained")
    measured = shown["group"].unique()
    colours = {name: each for name, each in colours_of(rows).items() if name in measured}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        part = _chosen(shown, panel, panel.metric)
        for place, (name, colour) in enumerate(colours.items()):
            values = part.loc[part["group"] == name, "value"]
            axes.plot([place] * len(values), values, "o", color=colour, markersize=4, alpha=0.7)
            axes.hlines(values.mean(), place - 0.3, place + 0.3, color=colour, linewidth=2)
        axes.set_xticks(range(len(colours)), list(colours))
        _dress(axes, panel)
        axes.set_ylim(0, None if part.empty else 1.08 * part["value"].max())
        axes.set_xlabel("alpha" if shown["alpha"].notna().all() else "")
    figure.suptitle(f"{study}: {suite}", x=0.01, ha="left")
    return figure


def _check(rows: pd.DataFrame, study: str, suite: str) -> None:
    if rows.empty:
        raise UnmeasuredError(f"the study {study} holds no {suite}", "--suite", suite)


def _chosen(rows: pd.DataFrame, panel: Panel, metric: str) -> pd.DataFrame:
    """Return a metric's measurements that a panel shows."""
    wanted = rows["condition"] == panel.condition
    if not panel.condition:
        wanted = rows["level"].notna()  # severities: only corruptions have them
    return rows[wanted & (rows["metric"] == metric)]


def _by_layer(part: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return a group's networks by layers, averaged over conditions."""
    own = part[part["group"] == group]
    table: pd.DataFrame = own.pivot_table("value", "subject", "layer", aggfunc="mean")
    return table


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.set_yscale("log" if panel.log else "linear")
    sns.despine(ax=axes)
