"""Accuracy under every corruption at every severity, for each alpha."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures.style import FIGURES, titled

ACROSS = 5  # panels in a row
ALL = "mean of the above"
COMMON = "mean of common"  # of those above that all labels have
REFERENCE = "alpha = 0"  # the reference of differences
DARK = 0.179  # relative luminance below which white text is more legible than black (WCAG 2)


@FIGURES
def corruptions(rows: pd.DataFrame, study: str) -> Figure:
    """Accuracy, in per cent, under each corruption (down) and severity (across), per alpha."""
    maps = _accuracies(rows, study)
    figure = _maps(maps, "mako", (0, 100), "{:.0f}")
    titled(figure, f"{study}: accuracy under corruptions, %", _chosen(rows))
    return figure


@FIGURES
def corruption_differences(rows: pd.DataFrame, study: str) -> Figure:
    """Points by which each alpha's accuracy under corruptions exceeds that of alpha = 0."""
    maps = _accuracies(rows, study)
    if rows["alpha"].isna().all():
        raise SelbenchError(f"the study {study} holds no networks that selbench trained")
    if REFERENCE not in maps or len(maps) < 2:
        what = f"the study {study} holds no corruptions of alpha = 0 and of other networks"
        raise UnmeasuredError(what, "--suite", "corruptions", "--alpha", "-1,0,1")
    reference = maps.pop(REFERENCE)
    apart = {name: part - reference for name, part in maps.items()}
    most = max(float(np.nanmax(np.abs(part.to_numpy()))) for part in apart.values()) or 1.0
    title = f"{study}: accuracy under corruptions, points above that of alpha = 0"
    figure = _maps(apart, "PRGn", (-most, most), "{:+.0f}")
    titled(figure, title, _chosen(rows))
    return figure


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    suites = ["corruptions", "corruptions-extra"]
    return rows[rows["suite"].isin(suites) & (rows["metric"] == "accuracy")]


def _accuracies(rows: pd.DataFrame, study: str) -> dict[str, pd.DataFrame]:
    """Return the mean accuracy of each label in per cent: corruptions by severities.

    The mean over the benchmark's corruptions stands below them, and the extra ones below that.
    """
    chosen = _chosen(rows)
    if chosen.empty:
        raise UnmeasuredError(f"the study {study} holds no corruptions", "--suite", "corruptions")
    labels = chosen["label"].mask(chosen["alpha"].notna(), "alpha = " + chosen["label"])
    present = {*chosen["condition"]}
    levels = sorted(chosen["level"].unique())
    tables = {}
    for name in _ordered(chosen, labels):
        part = chosen[labels == name]
        table = 100 * part.pivot_table("value", "condition", "level", aggfunc="mean")
        tables[name] = table.reindex(columns=levels)
    order = [name for name in CORRUPTIONS if name in present]
    averaged = [name for name in order if not CORRUPTIONS[name].extra] or order  # as tables do
    whole = [table.reindex(averaged).notna().all(axis=1) for table in tables.values()]
    shared = [name for name in averaged if all(each[name] for each in whole)]
    mean = ALL if shared == averaged else COMMON
    down = [*averaged, mean, *(name for name in order if name not in averaged)]
    for name, table in tables.items():
        table.loc[mean] = table.reindex(shared).mean()
        tables[name] = table.reindex(down)
    return tables


def _ordered(rows: pd.DataFrame, labels: pd.Series) -> list[str]:
    """Return the labels: rising alphas, then users' networks."""
    facts = pd.DataFrame({"label": labels, "alpha": rows["alpha"]}).drop_duplicates("label")
    return facts.sort_values(["alpha", "label"], na_position="last")["label"].tolist()


def _maps(
    maps: dict[str, pd.DataFrame], colours: str, limits: tuple[float, float], form: str
) -> Figure:
    """Draw a heat map for each label, with numbers."""
    columns = min(ACROSS, len(maps))
    height = -(-len(maps) // columns)  # rounded up
    first = next(iter(maps.values()))
    size = (1.1 + 1.75 * columns, 0.5 + (0.6 + 0.19 * len(first)) * height)
    figure = Figure(figsize=size, layout="constrained")
    everything = figure.subplots(height, columns, squeeze=False).ravel().tolist()
    for place, (axes, name) in enumerate(zip(everything, maps, strict=False)):
        _map(axes, maps[name], colours, limits, form)
        axes.set_title(name)
        axes.tick_params(labelleft=place % columns == 0)
    for axes in everything[len(maps) :]:
        axes.set_axis_off()
    return figure


def _map(
    axes: Axes, table: pd.DataFrame, colours: str, limits: tuple[float, float], form: str
) -> None:
    low, high = limits
    image = axes.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(table.columns)), [f"{level:g}" for level in table.columns])
    axes.set_yticks(range(len(table)), [str(name).replace("_", " ") for name in table.index])
    axes.tick_params(length=0)
    axes.set_xlabel("severity")
    for side in axes.spines.values():
        side.set_visible(False)
    for line in _borders(list(table.index)):
        axes.axhline(line, color="white", linewidth=2)
    for (down, across), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            shade = (
                "white"
                if _luminance(np.ravel(image.to_rgba(value))[:3].tolist()) < DARK
                else "black"
            )
            text = form.format(value)
            text = text if float(text) else "0"  # not "+0"
            number = axes.text(
                across, down, text, ha="center", va="center", fontsize=7, color=shade
            )
            number.set_in_layout(False)  # it lies within its panel


def _borders(names: Sequence[str]) -> list[float]:
    """Return the rows after which the family changes."""
    families = [CORRUPTIONS[name].family if name in CORRUPTIONS else "" for name in names]
    pairs = enumerate(pairwise(families))
    return [number + 0.5 for number, (one, other) in pairs if one != other]


def _luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of an sRGB colour, from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
