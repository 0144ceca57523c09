"""Figures: pure functions of a study's measurements, with alpha as the colour."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from selbench.errors import SelbenchError, unknown
from selbench.files import replacing
from selbench.leaderboard import current_rows
from selbench.registry import Registry
from selbench.stats import mean_interval
from selbench.store import StudyStore
from selbench.study import exactly

FIGURES = Registry[Callable[[pd.DataFrame, str], Figure]]("figure")
SEEDS_FOR_A_BAND = 3
SUFFIXES = (".svg", ".png", ".pdf")
# Without dates and random ids, equal stores give equal bytes.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "selbench",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 10,
}

SHADES = ("#0b4f8a", "#7fb3d5", "#8c8c8c", "#f0a860", "#b34700")  # from alpha < 0 to alpha > 0
PANELS = {
    "fgsm-linf": "FGSM, L-inf",
    "pgd-linf": "PGD, L-inf",
    "pgd-l2": "PGD, L2",
    "paper-pgd": "the papers' PGD",
}


def draw(name: str, store: StudyStore, limit: int | None, path: Path) -> None:
    """Draw a figure of `FIGURES` from a study's store into a file.

    Raises:
        SelbenchError: for an unknown figure, a suffix that is none of `SUFFIXES`, and a store that
            lacks what is to be drawn.
    """
    if path.suffix not in SUFFIXES:
        raise unknown("suffix of a figure's file", path.suffix, SUFFIXES)
    function = FIGURES[name]
    with mpl.rc_context(STYLE), sns.axes_style("ticks"):
        figure = function(current_rows(store, limit), store.study)
        with replacing(path, "--output") as temporary:
            kind = path.suffix.removeprefix(".")
            facts = {"Date": None} if kind == "svg" else {}
            figure.savefig(temporary, format=kind, dpi=150, bbox_inches="tight", metadata=facts)


@FIGURES
def attacks(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy against the budget of each attack, one line per alpha.

    The mean over seeds with its 95 % interval; with two seeds, which say nothing of an interval,
    each of them as a thin line.
    """
    accuracy = rows[(rows["metric"] == "accuracy") & rows["layer"].isna()]
    clean = accuracy[accuracy["suite"] == "clean"].set_index("subject")["value"]
    present = [name for name in PANELS if (accuracy["condition"] == name).any()]
    if not present:
        raise SelbenchError(
            f"the study {study} holds no attacks; run `selbench run {study} --suite attacks`"
        )
    figure = Figure(figsize=(3.2 * len(present), 3.2), layout="constrained")
    panels = figure.subplots(1, len(present), sharey=True, squeeze=False)[0]
    colours = _colours(accuracy)
    for axes, name in zip(panels, present, strict=True):
        part = accuracy[accuracy["condition"] == name]
        _curves(axes, part, clean, colours)
        axes.set_title(PANELS[name])
        axes.set_xlabel("steps of 0.0001" if name == "paper-pgd" else "epsilon, in 255ths")
        sns.despine(ax=axes)
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(0, 100)
    title = "alpha" if accuracy["alpha"].notna().all() else ""
    panels[-1].legend(title=title, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{study}: accuracy under attack", x=0.01, ha="left")
    return figure


def _groups(rows: pd.DataFrame) -> pd.Series:
    """Name the line that each row belongs to: its alpha, or a brought network."""
    return rows["alpha"].map(exactly, na_action="ignore").fillna(rows["subject"])


def _colours(rows: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Give every alpha a colour, blue below 0, grey at 0, orange above, and networks black."""
    shades = sns.blend_palette(SHADES, as_cmap=True)
    alphas = rows.loc[rows["alpha"].notna(), "alpha"]
    most = alphas.abs().max() or 1.0
    colours = {
        exactly(alpha): shades(0.5 + 0.5 * np.sign(alpha) * (abs(alpha) / most) ** 0.5)
        for alpha in sorted(set(alphas))
    }
    brought = rows.loc[rows["alpha"].isna(), "subject"].unique()
    return colours | dict.fromkeys(sorted(brought), (0.0, 0.0, 0.0))


def _curves(
    axes: Axes,
    part: pd.DataFrame,
    clean: pd.Series,
    colours: dict[str, tuple[float, ...]],
) -> None:
    """Draw a line per group, over evenly spaced levels that begin with the clean images."""
    levels = sorted(part["level"].unique())
    curves = part.pivot(index="subject", columns="level", values="value")[levels]
    curves.insert(0, 0.0, clean.reindex(curves.index))
    groups = _groups(part.drop_duplicates("subject")).set_axis(part["subject"].unique())
    places = np.arange(len(levels) + 1)
    for name, colour in colours.items():
        chosen = curves.loc[groups.index[groups == name]]
        if chosen.empty:
            continue
        pairs = [mean_interval(chosen[level].tolist()) for level in chosen.columns]
        mean, half = 100 * np.array(pairs).T
        marker = "o" if len(levels) < 20 else None
        axes.plot(places, mean, color=colour, label=name, marker=marker, markersize=3)
        if len(chosen) >= SEEDS_FOR_A_BAND:
            low, high = np.clip([mean - half, mean + half], 0, 100)
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        elif len(chosen) > 1:
            axes.plot(places, 100 * chosen.T, color=colour, linewidth=0.5, alpha=0.6)
    step = max(1, len(levels) // 8)
    axes.set_xticks(places[::step], [f"{level:g}" for level in [0, *levels][::step]])
