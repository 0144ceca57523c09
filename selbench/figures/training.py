"""How the networks were trained."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from selbench.errors import UnmeasuredError
from selbench.figures.style import FIGURES, colours_of, group_of_each, legend, line
from selbench.leaderboard.curves import SUITE
from selbench.metrics import METRICS


@FIGURES
def training(rows: pd.DataFrame, study: str) -> Figure:
    """Training curves of each alpha: loss, selectivity and validation accuracy after each epoch.

    The mean over seeds with its 95 % interval. Where alpha is 0, training does not look at
    selectivity.
    """
    curves = rows[rows["suite"] == SUITE]
    if curves.empty:
        raise UnmeasuredError(
            f"the study {study} holds no training curves, which brought networks have not"
        )
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    metrics = METRICS.drawn_in("training")
    panels = figure.subplots(1, len(metrics))
    colours = colours_of(rows)
    for axes, metric in zip(panels, metrics, strict=True):
        part = metric.reads.chosen(curves)
        values = part.pivot(index="subject", columns="level", values="value")
        groups = group_of_each(part)
        for name, colour in colours.items():
            own = values.loc[groups.index[groups == name]].dropna(axis="columns")
            if not own.empty:
                line(axes, own.columns, metric.unit.factor * own, name, colour, marker="")
        axes.set_title(metric.shown.title)
        axes.set_xlabel("epoch")
        sns.despine(ax=axes)
    panels[-1].set_ylim(0, 100)
    legend(panels[-1], rows)
    figure.suptitle(f"{study}: training", x=0.01, ha="left")
    return figure
