"""Accuracy under attack."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench._kit.errors import UnmeasuredError
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


@FIGURES
def attacks(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy against the level of each attack, one line per alpha.

    The mean over seeds with its 95 % interval; two seeds have no interval and are thin lines. The
    area between an attack and certified accuracy is shaded.
    """
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    clean = accuracy[accuracy["suite"] == "clean"].set_index("subject")["value"]
    shown = [(each, each.reads.chosen(accuracy)) for each in METRICS.drawn_in("attacks")]
    present = [(metric, part) for metric, part in shown if not part.empty]
    if not present:
        raise UnmeasuredError(f"the study {study} holds no attacks", "--suite", "attacks")
    figure = Figure(figsize=(3.2 * len(present), 3.2), layout="constrained")
    panels = figure.subplots(1, len(present), sharey=True, squeeze=False)[0]
    colours = colours_of(rows)
    for axes, (metric, part) in zip(panels, present, strict=True):
        _curves(axes, part, clean, colours)
        for lower in (each for each in METRICS.values() if metric.name in each.most):
            _gaps(axes, part, lower.reads.chosen(accuracy), clean, colours)
        axes.set_title(metric.shown.title)
        axes.set_xlabel(metric.shown.axis)
        sns.despine(ax=axes)
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(0, 100)
    legend(panels[-1], rows)
    of_panels = pd.concat([part for _, part in present])
    titled(figure, f"{study}: accuracy under attack", of_panels, "bands")
    return figure


@FIGURES
def probability(rows: pd.DataFrame, study: str) -> Figure:
    """The probability that a point of a ball changes a prediction, one line per alpha.

    The line is what attacks find; the area above it reaches up to what bounds leave open.
    """
    (metric,) = METRICS.drawn_in("probability")
    found = metric.reads.chosen(rows)
    if found.empty:
        raise UnmeasuredError(f"the study {study} holds no probabilities", "--suite", "probability")
    (bound,) = metric.most
    never = pd.Series(0.0, found["subject"].unique())  # without a perturbation
    figure = Figure(figsize=(4.4, 3.2), layout="constrained")
    axes, colours = figure.subplots(), colours_of(rows)
    _curves(axes, found, never, colours)
    _gaps(axes, found, METRICS[bound].reads.chosen(rows), never, colours)
    axes.set_title(metric.shown.title)
    axes.set_xlabel(metric.shown.axis)
    axes.set_ylabel("probability, %")
    axes.set_ylim(0, 100)
    sns.despine(ax=axes)
    legend(axes, rows)
    titled(figure, f"{study}: probability of a flip", found, "bands")
    return figure


def _curves(axes: Axes, part: pd.DataFrame, clean: pd.Series, colours: dict[str, Colour]) -> None:
    """Draw a line per label, over evenly spaced levels after the clean images."""
    levels, curves = sorted(part["level"].unique()), _of_networks(part, clean)
    labels = label_of_each(part)
    places = np.arange(len(levels) + 1)
    for name, colour in colours.items():
        chosen = curves.loc[labels.index[labels == name]]
        if not chosen.empty:
            line(axes, places, 100 * chosen, name, colour, "o" if len(levels) < 20 else "")
    step = -(-len(levels) // 8)  # rounded up
    axes.set_xticks(places[::step], [f"{level:g}" for level in [0, *levels][::step]])


def _of_networks(part: pd.DataFrame, clean: pd.Series) -> pd.DataFrame:
    """Return accuracies, networks by rising levels, with clean images first."""
    curves = part.pivot(index="subject", columns="level", values="value").sort_index(axis=1)
    curves.insert(0, 0.0, clean.reindex(curves.index))
    return curves


def _gaps(
    axes: Axes,
    attacked: pd.DataFrame,
    certified: pd.DataFrame,
    clean: pd.Series,
    colours: dict[str, Colour],
) -> None:
    """Shade the area between both means, over the networks and levels that have both."""
    high, low = _of_networks(attacked, clean), _of_networks(certified, clean)
    labels = label_of_each(attacked)
    for name, colour in colours.items():
        members = labels.index[labels == name].intersection(low.index)
        shared = high.columns.intersection(low.columns)
        if len(members) and len(shared) == len(high.columns):
            places = np.arange(len(shared))
            least, most = (100 * each.loc[members, shared].mean() for each in (low, high))
            axes.fill_between(places, least, most, color=colour, alpha=0.12, lw=0)
            axes.plot(places, least, ":", color=colour, lw=1)
