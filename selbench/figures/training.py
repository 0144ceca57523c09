"""How the networks were trained."""

import math

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from selbench.errors import UnmeasuredError
from selbench.figures.style import FIGURES, colours_of, group_of_each, legend, line
from selbench.leaderboard.curves import SUITE
from selbench.metrics import METRICS, PERCENT


@FIGURES
def training(rows: pd.DataFrame, study: str) -> Figure:
    """Training curves of each alpha: loss, selectivity and validation accuracy after each epoch.

    Below, where it is known, why units die: how many are dead, and norms of the gradients of
    cross-entropy and of the regulariser. The mean over seeds with its 95 % interval. Where alpha is
    0, training does not look at selectivity.
    """
    curves = rows[rows["suite"] == SUITE]
    if curves.empty:
        raise UnmeasuredError(
            f"the study {study} holds no training curves, which brought networks have not"
        )
    known = set(curves["metric"])
    metrics = [each for each in METRICS.drawn_in("training") if each.reads.metric in known]
    width = len(metrics) if len(metrics) <= 4 else 3
    height = math.ceil(len(metrics) / width)
    figure = Figure(figsize=(3.2 * width, 3.2 * height), layout="constrained")
    panels = list(figure.subplots(height, width, squeeze=False).flat)
    for spare in panels[len(metrics) :]:
        spare.set_axis_off()
    panels = panels[: len(metrics)]
    colours = colours_of(rows)
    for axes, metric in zip(panels, metrics, strict=True):
        part = metric.reads.chosen(curves)
        values = part.pivot(index="subject", columns="level", values="value")
        groups = group_of_each(part)
        for name, colour in colours.items():
            own = values.loc[groups.index[groups == name]].dropna(axis="columns")
            if not own.empty:
                shown = metric.unit.factor * own
                if metric.shown.log:  # which knows no 0, the gradient of a dead network
                    shown = shown.where(shown > 0)
                line(axes, own.columns, shown, name, colour, "", log=metric.shown.log)
        axes.set_title(metric.shown.title)
        axes.set_xlabel("epoch")
        axes.set_yscale("log" if metric.shown.log else "linear")
        if metric.unit is PERCENT:
            axes.set_ylim(0, 100)
        elif not metric.shown.log:  # intervals may reach beyond what there can be
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, metric.bounds[0]), min(high, metric.bounds[1]))
        sns.despine(ax=axes)
    legend(panels[-1], rows)
    figure.suptitle(f"{study}: training", x=0.01, ha="left")
    return figure
