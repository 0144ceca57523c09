"""The trade-off between robustness to corruptions and to attacks."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures.style import FIGURES, Colour, colours_of, legend, titled
from selbench.metrics import RowFilter
from selbench.statistics.intervals import mean_interval
from selbench.study import exactly
from selbench.tables import tradeoff as measured
from selbench.tables.means import log_odds

PLACES = ("adversarial", "corrupted")  # across and up


@FIGURES
def tradeoff(rows: pd.DataFrame, study: str) -> Figure:
    """Corrupted against adversarial accuracy: a dot for each network, a cross for each alpha.

    A cross spans the 95 % intervals of the means over seeds; a line joins the means in the order of
    alpha.
    """
    figure, axes = _drawn(rows, 100 * measured.positions(rows, study)[list(PLACES)])
    under = measured.attacks(rows)
    axes.set_xlabel(f"accuracy under {under}, %: mean over budgets, then attacks")
    axes.set_ylabel("accuracy under corruptions, %")
    return _titled(figure, f"{study}: corruptions against attacks", rows)


@FIGURES
def tradeoff_relative(rows: pd.DataFrame, study: str) -> Figure:
    """The trade-off in shares of clean accuracy that are left under corruptions and attacks.

    Networks without a correct clean image are left out; `SelbenchError` if all are.
    """
    found = _right(measured.positions(rows, study), study)
    figure, axes = _drawn(rows, found[list(PLACES)].div(found["clean"], axis=0))
    axes.set_xlabel(f"share of clean accuracy left by {measured.attacks(rows)}")
    axes.set_ylabel("share of clean accuracy left by corruptions")
    return _titled(figure, f"{study}: corruptions against attacks, by clean accuracy", rows)


@FIGURES
def tradeoff_odds(rows: pd.DataFrame, study: str) -> Figure:
    """The trade-off in log odds minus those of clean accuracy: effective robustness.

    Networks without a correct clean image are left out; `SelbenchError` if all are.
    """
    found = _right(measured.positions(rows, study), study)
    images = float(rows.loc[rows["suite"] == "clean", "n"].min())
    odds = found[["clean", *PLACES]].apply(log_odds, images=images)
    figure, axes = _drawn(rows, odds[list(PLACES)].sub(odds["clean"], axis=0))
    axes.set_xlabel(f"log odds under {measured.attacks(rows)}, beyond clean")
    axes.set_ylabel("log odds under corruptions, beyond clean")
    return _titled(figure, f"{study}: corruptions against attacks, in log odds", rows)


@FIGURES
def tradeoff_selectivity(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy, clean, corrupted and attacked, against measured selectivity: a dot per network.

    Crosses are as in `tradeoff`.
    """
    found = measured.positions(rows, study)
    chosen = RowFilter(("selectivity",), "selectivity_index", ("clean",)).chosen(rows)
    index = chosen[chosen["layer"].isna()].set_index("subject")["value"].reindex(found.index)
    if index.isna().all():
        what = f"the study {study} holds no selectivity of networks under corruptions and attacks"
        raise UnmeasuredError(what, "--suite", "selectivity")
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True)
    titles = ("clean", "under corruptions", f"under {measured.attacks(rows)}")
    for axes, name, title in zip(panels, ("clean", *reversed(PLACES)), titles, strict=True):
        _crosses(axes, rows, pd.DataFrame({"x": index, "y": 100 * found[name]}).dropna())
        axes.set(title=title, xlabel="class selectivity index", ylabel="accuracy, %")
    legend(panels[-1], rows)
    return _titled(figure, f"{study}: accuracy against measured selectivity", rows)


@FIGURES
def differences(rows: pd.DataFrame, study: str) -> Figure:
    """Points by which each alpha differs from alpha = 0: clean, under corruptions and attacks.

    Bars are the 95 % intervals of the differences over seeds.
    """
    changes = measured.changes(measured.positions(rows, study))
    if not changes:
        what = f"the study {study} holds no accuracies of alpha = 0 and of other alphas"
        words = ("--suite", "corruptions", "--suite", "attacks", "--alpha", "-1,0,1")
        raise UnmeasuredError(what, *words)
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = ("clean", "under corruptions", f"under {measured.attacks(rows)}")
    alphas = sorted({each.alpha for each in changes})
    colours = colours_of(rows)
    for axes, name, title in zip(panels, ("clean", *reversed(PLACES)), titles, strict=True):
        axes.hlines(0, -0.5, len(alphas) - 0.5, color="0.8", linewidth=1, zorder=1)
        for each in (each for each in changes if each.quantity == name):
            place, colour = alphas.index(each.alpha), colours[exactly(each.alpha)]
            axes.plot([place], [100 * each.value], "D", color=colour, markersize=4.5)
            if found := each.difference:
                axes.vlines(place, 100 * found.low, 100 * found.high, color=colour, linewidth=1.2)
        axes.set_xticks(range(len(alphas)), list(map(exactly, alphas)))
        axes.set(title=title, xlabel="alpha")
        sns.despine(ax=axes)
    panels[0].set_ylabel("accuracy above alpha = 0, points")
    return _titled(figure, f"{study}: differences from alpha = 0", rows, "bars")


def _titled(figure: Figure, title: str, rows: pd.DataFrame, spread: str = "crosses") -> Figure:
    """Write the title of a figure of networks under corruptions and attacks."""
    sides = [set(rows.loc[rows["suite"] == each, "subject"]) for each in ("corruptions", "attacks")]
    shown = rows["suite"].isin(("clean", "corruptions", "attacks")) & (rows["metric"] == "accuracy")
    part = rows[shown & rows["subject"].isin(set.intersection(*sides))]
    titled(figure, title, part, spread)
    return figure


def _right(found: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return the networks with a correct clean image."""
    kept = found[found["clean"] > 0]
    if kept.empty:
        raise SelbenchError(f"no network of the study {study} has a clean image right")
    return kept


def _drawn(rows: pd.DataFrame, points: pd.DataFrame) -> tuple[Figure, Axes]:
    """Draw corrupted against adversarial accuracy."""
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.subplots()
    _crosses(axes, rows, points[list(PLACES)].set_axis(["x", "y"], axis=1))
    legend(axes, rows)
    return figure, axes


def _crosses(axes: Axes, rows: pd.DataFrame, points: pd.DataFrame) -> None:
    """Draw a dot for each network, a cross for each alpha, and the line that joins the crosses.

    `points` has each network's x and y.
    """
    facts = rows.drop_duplicates("subject").set_index("subject").loc[points.index]
    trained = facts["alpha"].dropna().sort_values()
    path = points.loc[trained.index].groupby(trained).mean()
    axes.plot(path["x"], path["y"], color="0.8", linewidth=1, zorder=1)
    for name, colour in colours_of(rows).items():
        members = points[facts["label"] == name]
        if not members.empty:
            _group(axes, members, name, colour)
    sns.despine(ax=axes)


def _group(axes: Axes, points: pd.DataFrame, name: str, colour: Colour) -> None:
    """Draw networks as dots and their means with intervals as a cross."""
    x, y = points["x"], points["y"]
    axes.plot(x, y, "o", color=colour, markersize=3.5, alpha=0.55, markeredgewidth=0, zorder=2)
    (across, wide), (up, high) = mean_interval(x.tolist()), mean_interval(y.tolist())
    axes.hlines(up, across - wide, across + wide, color=colour, linewidth=1.2, zorder=3)
    axes.vlines(across, up - high, up + high, color=colour, linewidth=1.2, zorder=3)
    axes.plot([across], [up], "D", color=colour, label=name, markersize=4.5, zorder=4)
