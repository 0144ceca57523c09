"""What attacks cost, and what they find."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench.errors import UnmeasuredError
from selbench.figures.style import FIGURES
from selbench.suites.attacking import PASSES

NORMS = {"linf": "L-inf", "l2": "L2"}


@FIGURES
def cost(rows: pd.DataFrame, study: str) -> Figure:
    """Passes of an image against the errors found, of those by the best attack at each epsilon.

    As AttackBench (arXiv:2404.19460) counts: a pass forward is one, a gradient another one. Errors
    are the accuracy that an attack takes away, added up over epsilons. A dot for each attack, the
    mean over networks.
    """
    table = costs(rows)
    if table.empty:
        raise UnmeasuredError(f"the study {study} holds no costs of attacks", "--suite", "attacks")
    norms = [norm for norm in NORMS if norm in set(table["norm"])]
    figure = Figure(figsize=(4.6 * len(norms), 3.6), layout="constrained")
    panels = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
    for axes, norm in zip(panels, norms, strict=True):
        _drawn(axes, table[table["norm"] == norm])
        axes.set_title(NORMS[norm])
    panels[0].set_ylabel("errors found, % of the best attack's")
    n, networks = rows.loc[rows["metric"].isin(PASSES), "n"].max(), rows["subject"].nunique()
    title = f"{study}: cost of attacks ({n} images, networks: {networks})"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return of each attack its norm, passes of an image, and the share of errors it finds.

    Attacks whose levels are no epsilons are left out, and those whose passes were not counted.
    """
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


def _drawn(axes: Axes, table: pd.DataFrame) -> None:
    """Draw attacks as dots with their names and passes, on a logarithmic axis."""
    axes.plot(table["passes"], 100 * table["found"], "o", color="#0b4f8a", markersize=4)
    for place, (attack, passes, found) in enumerate(
        table[["attack", "passes", "found"]].itertuples(index=False)
    ):
        name = attack.rpartition(f"-{table['norm'].iloc[0]}")
        text = f"{name[0]}{name[2]} {passes:,.0f}"
        up = place % 2 == 0
        axes.annotate(
            text,
            (passes, 100 * found),
            (0, 5 if up else -5),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
            fontsize=7,
        )
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_ylim(0, 108)
    axes.set_xlabel("passes of an image, forward and back")
    sns.despine(ax=axes)
