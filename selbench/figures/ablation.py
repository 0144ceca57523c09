"""Accuracy against the share of units removed."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench._kit.errors import UnmeasuredError
from selbench.figures.style import FIGURES, Colour, colours_of, label_of_each, legend, line, titled
from selbench.metrics import Metric
from selbench.suites import METRICS

LINEAR = 0.1  # up to this share the axis is linear, beyond it logarithmic


@FIGURES
def ablation(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy as units are removed, the most selective first: clean, corrupted, attacked.

    Dashed: as many random units of the same layers. The mean over seeds with its 95 % interval.
    """
    part = rows[(rows["suite"] == "ablation") & rows["layer"].isna()]
    shown = [(each, each.reads.chosen(part)) for each in METRICS.drawn_in("ablation")]
    present = [(metric, metric_rows) for metric, metric_rows in shown if not metric_rows.empty]
    if not present:
        raise UnmeasuredError(f"the study {study} holds no ablation", "--suite", "ablation")
    figure = Figure(figsize=(2.5 * len(present) + 0.9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(present), sharey=True, squeeze=False)[0]
    colours = colours_of(rows)
    for axes, (metric, metric_rows) in zip(panels, present, strict=True):
        control = METRICS[f"{metric.name}_control"].reads.chosen(part)
        _curves(axes, metric, metric_rows, control, colours)
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(0, 100)
    legend(panels[-1], rows)
    title = f"{study}: units removed, the most selective first (dashed: at random)"
    titled(figure, title, pd.concat([each for _, each in present]), "bands")
    return figure


def _curves(
    axes: Axes,
    metric: Metric,
    metric_rows: pd.DataFrame,
    control: pd.DataFrame,
    colours: dict[str, Colour],
) -> None:
    """Draw a line per label, and a dashed control; the axis has more room for small shares."""
    ordered, random = (
        each.pivot(index="subject", columns="level", values="value")
        for each in (metric_rows, control)
    )
    labels = label_of_each(metric_rows)
    places = 100 * ordered.columns.to_numpy(dtype=float)
    for name, colour in colours.items():
        members = labels.index[labels == name]
        if len(members):
            line(axes, places, 100 * ordered.loc[members], name, colour, "")
            mean = 100 * random.loc[members].mean()
            axes.plot(places, mean, color=colour, linestyle="--", linewidth=1)
    axes.set_xscale("symlog", linthresh=100 * LINEAR)
    ticks = [share for share in (0, 2, 5, 10, 20, 50, 100) if share <= places.max()]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_title(metric.shown.title)
    axes.set_xlabel(metric.shown.axis)
    sns.despine(ax=axes)
