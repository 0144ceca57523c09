"""The cost of attacks against the errors that they find."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures.style import FIGURES, titled
from selbench.suites.attacking import PASSES

NORMS = {"linf": "L-inf", "l2": "L2"}


@FIGURES
def cost(rows: pd.DataFrame, study: str) -> Figure:
    """Passes of an image against errors found, as a share of the best attack's at each epsilon.

    Passes are counted as in AttackBench (arXiv:2404.19460): one forward, another for a gradient.
    Errors are the drop of accuracy, summed over epsilons. Means over networks; the attacks of a
    norm are sorted by cost.
    """
    table = costs(rows)
    if table.empty and rows["metric"].isin(PASSES).any():
        raise SelbenchError(f"no attack on the networks of {study} found an error")
    if table.empty:
        raise UnmeasuredError(f"the study {study} holds no costs of attacks", "--suite", "attacks")
    norms = [norm for norm in NORMS if norm in set(table["norm"])]
    sizes = [(table["norm"] == norm).sum() for norm in norms]
    figure = Figure(figsize=(7.4, 1.4 + 0.26 * sum(sizes)), layout="constrained")
    pairs = figure.subplots(len(norms), 2, sharex="col", squeeze=False, height_ratios=sizes)
    for pair, norm in zip(pairs, norms, strict=True):
        attacks = table[table["norm"] == norm]
        names = attacks["attack"].str.replace(f"-{norm}", "")
        _dots(pair[0], names, attacks["passes"], "{:,.0f}")
        _dots(pair[1], names, 100 * attacks["found"], "{:.0f}")
        pair[0].set_ylabel(NORMS[norm])
        pair[0].set_xscale("log")
        pair[1].set_yticklabels([])
    pairs[0, 0].set_title("passes of an image, forward and back")
    pairs[0, 1].set_title("errors found, % of the best attack's")
    pairs[0, 1].set_xlim(-3, 120)
    spent = rows[rows["metric"].isin(PASSES)]
    titled(figure, f"{study}: what attacks cost and find", spent)
    return figure


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the norm, the passes of an image and the share of errors found of each attack.

    Attacks without epsilons or without counted passes are left out.
    """
    rows = rows[rows["metric"].isin(["accuracy", *PASSES])]
    rows = rows.assign(norm=rows["condition"].str.extract("-(linf|l2)(?:-|$)", expand=False))
    clean = rows[rows["suite"].eq("clean") & rows["metric"].eq("accuracy")]
    spent = rows[rows["metric"].isin(PASSES) & rows["norm"].notna()]
    keys = ["subject", "norm", "condition"]
    passes = spent.pivot(index=keys, columns="metric", values="value").reindex(columns=PASSES)
    attacked = rows[rows["metric"].eq("accuracy") & rows["condition"].isin(spent["condition"])]
    before = attacked["subject"].map(clean.set_index("subject")["value"])
    attacked = attacked.assign(lost=before - attacked["value"])
    best = attacked.groupby(["subject", "norm", "level"])["lost"].transform("max")
    sums = attacked.assign(best=best).groupby(keys)[["lost", "best"]].sum()
    found = pd.DataFrame(
        {
            "passes": passes[PASSES[0]] + 2 * passes[PASSES[1]],
            "found": (sums["lost"] / sums["best"]).where(sums["best"] > 0),
        }
    )
    means = found.dropna().groupby(["norm", "condition"]).mean().reset_index()
    return means.rename(columns={"condition": "attack"}).sort_values(["norm", "passes"])


def _dots(axes: Axes, names: pd.Series, values: pd.Series, number: str) -> None:
    """Draw a dot for each name, the first at the top, with its number next to it."""
    places = range(len(values))
    axes.hlines(places, 0, 1, "0.92", linewidth=0.8, transform=axes.get_yaxis_transform(), zorder=0)
    axes.plot(values, places, "o", color="#0b4f8a", markersize=4.5)
    for place, value in zip(places, values, strict=True):
        text = number.format(value)
        axes.annotate(
            text, (value, place), (6, 0), textcoords="offset points", va="center_baseline"
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.margins(x=0.25)
    axes.tick_params(axis="y", length=0)
    sns.despine(ax=axes, left=True)
