"""Calibration under corruptions."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench.figures.style import (
    FIGURES,
    Colour,
    colours_of,
    label_of_each,
    legend,
    line,
    titled,
)
from selbench.suites import METRICS
from selbench.tables.calibrated import by_condition, by_network, check_measured


@FIGURES
def calibration(rows: pd.DataFrame, study: str) -> Figure:
    """Calibration error against severity, one line per alpha: as trained, and recalibrated.

    The mean over corruptions, then seeds. Dotted: the error of a perfectly calibrated network.
    """
    check_measured(rows, study, "ece")
    shown = METRICS.drawn_in("calibration")
    present = [metric for metric in shown if (rows["metric"] == metric.reads.metric).any()]
    figure = Figure(figsize=(1.2 + 3.4 * len(present), 3.4), layout="constrained")
    panels = figure.subplots(1, len(present), sharey=True, squeeze=False)[0]
    colours = colours_of(rows)
    for axes, metric in zip(panels, present, strict=True):
        _curves(axes, _by_severity(rows, metric.name), rows, colours)
        if null := METRICS.null_of(metric):
            _curves(axes, _by_severity(rows, null.name), rows, colours, null=True)
        axes.set_title(metric.shown.title)
        axes.set_xlabel("severity")
        sns.despine(ax=axes)
    panels[0].set_ylabel(present[0].shown.axis)
    panels[0].set_ylim(bottom=0)
    legend(panels[-1], rows)
    about = "calibration under corruptions\ndotted, a perfectly calibrated network"
    measured = rows[rows["metric"].isin([metric.reads.metric for metric in present])]
    titled(figure, f"{study}: {about}", measured, "bands")
    return figure


def _by_severity(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric's mean over corruptions, networks by severities; 0 is clean images."""
    clean = by_network(rows, metric, "clean")
    table = by_condition(rows, metric).groupby(level="level").mean().T
    if table.empty:
        table = pd.DataFrame(index=clean.index)
    table.insert(0, 0.0, clean.reindex(table.index))
    return table.dropna()


def _curves(
    axes: Axes,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    colours: dict[str, Colour],
    null: bool = False,
) -> None:
    """Draw a line per label over severities."""
    labels = label_of_each(rows)
    places = np.arange(len(table.columns))
    for name, colour in colours.items():
        chosen = 100 * table.loc[labels.reindex(table.index) == name]
        if chosen.empty:
            continue
        if null:
            axes.plot(places, chosen.mean(), color=colour, linestyle=":", linewidth=1)
        else:
            line(axes, places, chosen, name, colour)
    axes.set_xticks(places, ["clean", *(f"{level:g}" for level in table.columns[1:])])
