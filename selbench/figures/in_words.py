"""Figures in words, for readers who cannot see them, from the drawn elements."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

ACROSS = 12  # columns of a table of a line's numbers


@dataclass(frozen=True)
class Curve:
    """A named line: its y values by x."""

    name: str
    values: dict[float, float]


def described(figure: Figure) -> str:
    """Describe a figure in words: its title, and the main facts of every panel."""
    legends = [axes.get_legend() for axes in figure.axes]
    by_alpha = any(each and each.get_title().get_text() == "alpha" for each in legends)
    parts, unit = [f"{'; '.join(figure.get_suptitle().splitlines())}."], ""
    if basis := figure.get_supxlabel():
        parts.append(f"{' '.join(basis.split())}.")
    for axes in figure.axes:
        unit = axes.get_ylabel() or unit  # the panels of a row share it
        facts = _panel(axes, "alpha = " if by_alpha else "")
        if facts:
            about = axes.get_title(), f"({unit})" if unit and not axes.images else ""
            heading = " ".join(" ".join(about).split())
            parts.append(f"{heading}: {facts}." if axes.get_title() else f"{facts}.")
    return " ".join(parts)


@dataclass(frozen=True)
class Numbers:
    """A panel's lines as a table: what its rows are of, places across, and a row for each line."""

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def numbers(figure: Figure) -> list[Numbers]:
    """Return the numbers of named lines, panel by panel, at the places that their axes name.

    Maps write theirs themselves, and dots over groups are told in words.
    """
    legends = [axes.get_legend() for axes in figure.axes]
    corner = next((each.get_title().get_text() for each in legends if each), "") or "network"
    found = []
    for axes in figure.axes:
        named = [each for each in axes.lines if not str(each.get_label()).startswith("_")]
        curves = [Curve(str(each.get_label()), _values(each)) for each in named]
        if not curves or axes.images:
            continue
        title = axes.get_title() or "; ".join(figure.get_suptitle().splitlines())
        if all(len(each.values) == 1 for each in curves):
            columns = [axes.get_xlabel(), axes.get_ylabel()]
            rows = [(each.name, [*map(_short, next(iter(each.values.items())))]) for each in curves]
        else:
            places = _few(axes, sorted({place for each in curves for place in each.values}))
            columns = [_name(axes.xaxis, place) for place in places]
            shown = [[each.values.get(place) for place in places] for each in curves]
            texts = [["-" if v is None else _short(v) for v in values] for values in shown]
            rows = [(each.name, text) for each, text in zip(curves, texts, strict=True)]
        found.append(Numbers(title, corner, columns, rows))
    return found


def _few(axes: Axes, places: list[float]) -> list[float]:
    """Return at most `ACROSS` places, those that the axis names before others."""
    if len(places) <= ACROSS:
        return places
    marked = [place for place in places if place in {*map(float, axes.get_xticks())}]
    chosen = marked if 1 < len(marked) <= ACROSS else places
    return [chosen[int(at)] for at in np.linspace(0, len(chosen) - 1, min(len(chosen), ACROSS))]


def _panel(axes: Axes, before: str) -> str:
    """Describe one panel, with a word `before` every name; "" if it is empty."""
    if axes.images:
        return _map(axes)
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    curves = [Curve(f"{before}{line.get_label()}", _values(line)) for line in named]
    if not curves:
        return _groups(axes, [values for line in axes.lines if (values := _values(line))])
    return (_points if all(len(each.values) == 1 for each in curves) else _curves)(axes, curves)


def _values(line: Line2D) -> dict[float, float]:
    """Return y by x; the mean of several dots at the same x."""
    x, y = (np.ravel(np.asarray(data, float)) for data in (line.get_xdata(), line.get_ydata()))
    return {float(place): float(y[x == place].mean()) for place in np.unique(x)}


def _map(axes: Axes) -> str:
    shown = axes.images[0].get_array()
    values: NDArray[np.float64] = np.asarray(np.ma.filled(np.ma.asarray(shown, float), np.nan))
    if np.isnan(values).all():
        return ""
    ends = []
    for word, at in (("lowest", np.nanargmin(values)), ("highest", np.nanargmax(values))):
        down, across = np.unravel_index(at, values.shape)
        row, column = _name(axes.yaxis, float(down)), _name(axes.xaxis, float(across))
        where = f"{row}, {axes.get_xlabel()} {column}"
        ends.append(f"{word} {_short(values[down, across])} ({where})")
    return ", ".join(ends)


def _points(axes: Axes, curves: list[Curve]) -> str:
    pairs = [(each.name, *next(iter(each.values.items()))) for each in curves]
    means = "; ".join(f"{name}: {_short(x)} and {_short(y)}" for name, x, y in pairs)
    across, up = (label.partition(":")[0] for label in (axes.get_xlabel(), axes.get_ylabel()))
    return f"Means of {across} (across) and {up} (up): {means}"


def _curves(axes: Axes, curves: list[Curve]) -> str:
    """Describe the ends of the lines, and where they are farthest apart."""
    starts, stops = ([list(each.values.values())[end] for each in curves] for end in (0, -1))
    ends = f"on the left {_range(starts)}, on the right {_range(stops)}"
    places = set.intersection(*(set(each.values) for each in curves))
    if isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        places &= set(axes.get_xticks())  # the others have no name
    if len(curves) < 2 or not places:
        return ends
    wide = {float(place): np.ptp([c.values[place] for c in curves]) for place in sorted(places)}
    at = max(wide, key=lambda place: wide[place])
    order = sorted(curves, key=lambda each: each.values[at])
    top, bottom = (f"{each.name} {_short(each.values[at])}" for each in (order[-1], order[0]))
    return f"{ends}; farthest apart at {_name(axes.xaxis, at)}: {top}, {bottom}"


def _groups(axes: Axes, dots: list[dict[float, float]]) -> str:
    """Describe the mean of the dots at every label of the axis."""
    before = f"{axes.get_xlabel()} = " if axes.get_xlabel() else ""
    means = [next(iter(each.items())) for each in dots]
    return ", ".join(f"{before}{_name(axes.xaxis, at)}: {_short(mean)}" for at, mean in means)


def _name(axis: Axis, place: float) -> str:
    """Return the label at a position of an axis, or the number if it has none."""
    ticks = [float(tick) for tick in axis.get_ticklocs()]
    labels = axis.get_major_formatter().format_ticks(ticks)
    named = [label for tick, label in zip(ticks, labels, strict=True) if tick == place and label]
    return named[0] if named else _short(place)


def _range(values: list[float]) -> str:
    low, high = _short(min(values)), _short(max(values))
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    return f"{value:.3g}"
