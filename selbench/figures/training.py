"""Training curves."""

import math

import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures.style import FIGURES, colours_of, label_of_each, legend, line, titled
from selbench.metrics import METRICS, PERCENT
from selbench.study import count_of
from selbench.tables.curves import SUITE


@FIGURES
def training(rows: pd.DataFrame, study: str) -> Figure:
    """Training curves of each alpha: loss, selectivity and validation accuracy after each epoch.

    If known, a second row explains dead units: their number, and the norms of the gradients of
    cross-entropy and of the regulariser. The mean over seeds with its 95 % interval. For alpha = 0,
    training does not compute selectivity.
    """
    curves = _curves(rows, study)
    curves = curves[curves["layer"].isna()]
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
        labels = label_of_each(part)
        for name, colour in colours.items():
            members = values.loc[labels.index[labels == name]].dropna(axis="columns")
            if not members.empty:
                shown = metric.unit.factor * members
                if metric.shown.log:  # without 0, which is the gradient of a dead network
                    shown = shown.where(shown > 0)
                line(axes, members.columns, shown, name, colour, "", log=metric.shown.log)
        axes.set_title(metric.shown.title)
        axes.set_xlabel("epoch")
        axes.set_yscale("log" if metric.shown.log else "linear")
        if metric.unit is PERCENT:
            axes.set_ylim(0, 100)
        elif not metric.shown.log:  # intervals may exceed the possible range
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, metric.bounds[0]), min(high, metric.bounds[1]))
        sns.despine(ax=axes)
    legend(panels[-1], rows)
    titled(figure, f"{study}: training", curves, "bands")
    return figure


@FIGURES
def training_layers(rows: pd.DataFrame, study: str) -> Figure:
    """The class selectivity index of each layer after each epoch, on validation images.

    A panel for each alpha, with a line for each ReLU in order of calls, lighter with depth; means
    over seeds.
    """
    curves = _curves(rows, study)
    curves = curves[curves["layer"].notna()]
    if curves.empty:
        raise UnmeasuredError(
            f"an earlier version trained the networks of {study}, without the index of layers"
        )
    labels = [name for name in colours_of(rows) if name in set(curves["label"])]
    width = min(len(labels), 4)
    height = math.ceil(len(labels) / width)
    size = (2.5 * width + 0.9, 2.3 * height + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(height, width, sharex=True, sharey=True, squeeze=False).flat)
    depth = int(curves["layer"].max())
    shades = sns.color_palette("viridis", as_cmap=True)
    scale = ScalarMappable(Normalize(1, max(depth, 2)), shades)
    for axes, name in zip(panels, labels, strict=False):
        label_rows = curves[curves["label"] == name]
        table = label_rows.pivot_table(index="level", columns="layer", values="value")
        for layer, values in table.items():
            colour = shades((int(str(layer)) - 1) / max(depth - 1, 1))
            axes.plot(table.index, values, color=colour, linewidth=1.1)
        seeds = count_of(label_rows["subject"].nunique(), "network")
        axes.set_title(f"alpha = {name} ({seeds})")
        axes.set_ylim(0, 1)
        sns.despine(ax=axes)
    for spare in panels[len(labels) :]:
        spare.set_axis_off()
    for axes in panels[len(labels) - width : len(labels)]:  # the lowest panel of a column
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    figure.colorbar(scale, ax=panels, label="layer", aspect=30, pad=0.01)
    for axes in panels[::width]:
        axes.set_ylabel("selectivity index")
    titled(figure, f"{study}: selectivity of layers in training", curves)
    return figure


def _curves(rows: pd.DataFrame, study: str) -> pd.DataFrame:
    curves = rows[rows["suite"] == SUITE]
    if curves.empty:
        what = f"the study {study} holds no training curves: selbench did not train its networks"
        brought = len(rows) and rows["alpha"].isna().all()
        raise SelbenchError(what) if brought else UnmeasuredError(what)
    return curves
