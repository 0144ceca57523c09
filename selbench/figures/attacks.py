"""Accuracy under attack."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench._kit.errors import UnmeasuredError
from selbench.figures.style import FIGURES, Colour, colours_of, group_of_each, legend, line
from selbench.suites import METRICS


@FIGURES
def attacks(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy against the budget of each attack, one line per alpha.

    The mean over seeds with its 95 % interval; with two seeds, which say nothing of an interval,
    each of them as a thin line.
    """
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    clean = accuracy[accuracy["suite"] == "clean"].set_index("subject")["value"]
    shown = [(each, each.reads.chosen(accuracy)) for each in METRICS.drawn_in("attacks")]
    present = [(metric.shown, part) for metric, part in shown if not part.empty]
    if not present:
        raise UnmeasuredError(f"the study {study} holds no attacks", "--suite", "attacks")
    figure = Figure(figsize=(3.2 * len(present), 3.2), layout="constrained")
    panels = figure.subplots(1, len(present), sharey=True, squeeze=False)[0]
    colours = colours_of(rows)
    for axes, (panel, part) in zip(panels, present, strict=True):
        _curves(axes, part, clean, colours)
        axes.set_title(panel.title)
        axes.set_xlabel(panel.axis)
        sns.despine(ax=axes)
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(0, 100)
    legend(panels[-1], rows)
    figure.suptitle(f"{study}: accuracy under attack", x=0.01, ha="left")
    return figure


def _curves(axes: Axes, part: pd.DataFrame, clean: pd.Series, colours: dict[str, Colour]) -> None:
    """Draw a line per group, over evenly spaced levels that begin with the clean images."""
    levels = sorted(part["level"].unique())
    curves = part.pivot(index="subject", columns="level", values="value")[levels]
    curves.insert(0, 0.0, clean.reindex(curves.index))
    groups = group_of_each(part)
    places = np.arange(len(levels) + 1)
    for name, colour in colours.items():
        chosen = curves.loc[groups.index[groups == name]]
        if not chosen.empty:
            line(axes, places, 100 * chosen, name, colour, "o" if len(levels) < 20 else "")
    step = -(-len(levels) // 8)  # rounded up
    axes.set_xticks(places[::step], [f"{level:g}" for level in [0, *levels][::step]])
