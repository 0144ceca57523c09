"""Figures for phones: the panels of a wide figure in one column."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from selbench.figures.style import footed

WIDTH = 3.9  # inches of 390 pixels with text at full size
CURVES = 2.5  # height of a panel of lines, in inches
LETTERS = 44  # characters in a line of the title
LINE = 0.13  # height of a line of the text below a figure, in inches
BESIDE = 32  # letters of a line beside a panel
TITLE = 0.25  # characters in a line of a panel's title
BAR = 0.5  # height of a colour bar, in inches
ACROSS = 6  # entries of the legend in a line, if they are short


def narrow(figure: Figure) -> Figure:
    """Stack the panels of a figure in place, with its legend on top.

    Each panel gets the names of axes that it shared with others; a colour bar lies on top.
    """
    bars = [bar for axes in figure.axes if (bar := getattr(axes, "_colorbar", None))]
    for bar in bars:
        bar.remove()
    panels = [axes for axes in figure.axes if axes.axison]
    for axes in set(figure.axes) - set(panels):
        axes.remove()
    heights = [_height(axes) for axes in panels]
    _name_axes(panels)
    grid = GridSpec(len(panels), 1, figure, height_ratios=heights)
    for number, axes in enumerate(panels):
        axes.set_subplotspec(grid[number, 0])
        axes.tick_params(labelbottom=True, labelleft=True)
    above = _lift_legend(panels)
    for bar in bars:
        label = bar.ax.get_ylabel()
        figure.colorbar(bar.mappable, ax=panels, location="top", aspect=30, pad=0.01, label=label)
        above += BAR
    figure.set_size_inches(WIDTH, sum(heights) + 0.4 + above)
    lines = figure.get_suptitle().splitlines()
    title = "\n".join(part for each in lines for part in textwrap.wrap(each, LETTERS))
    figure.suptitle(title, x=0.01, ha="left")
    if foot := " ".join(figure.get_supxlabel().split()):
        figure.set_figheight(figure.get_figheight() + LINE * footed(figure, foot))
    return figure


def _height(axes: Axes) -> float:
    """Return the height of a panel in inches; rows of maps must be legible."""
    rows = len(axes.images[0].get_array()) if axes.images else 0  # type: ignore[arg-type]
    return 0.6 + 0.18 * rows if rows else CURVES


def _name_axes(panels: list[Axes]) -> None:
    """Label the axes of every panel like the nearest labelled panel of its grid."""
    below, unit = "", ""
    for axes in panels:
        unit = axes.get_ylabel() or unit
        axes.set_ylabel(textwrap.fill(unit, BESIDE))
    for axes in reversed(panels):
        below = axes.get_xlabel() or below
        axes.set_xlabel(textwrap.fill(below, LETTERS))


def _lift_legend(panels: list[Axes]) -> float:
    """Move the legend above the first panel; return its height in inches."""
    for axes in panels:
        beside = axes.get_legend()
        if beside is None:
            continue
        handles = [Line2D([], [], linestyle=""), *filter(None, beside.legend_handles)]
        labels = [text.get_text() for text in (beside.get_title(), *beside.get_texts())]
        beside.remove()
        columns = ACROSS if max(map(len, labels)) < ACROSS else 1
        entries = [*zip(handles, labels, strict=True)][not labels[0] :]
        ordered = [
            entries[place] for c in range(columns) for place in range(c, len(entries), columns)
        ]
        above = panels[0].legend(  # which it fills column by column, and people read by lines
            *zip(*ordered, strict=True),
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(-0.17, 1.0 + TITLE / CURVES),
            ncols=columns,
            handlelength=1,
            columnspacing=1,
        )
        for text in above.get_texts():
            text.set_parse_math(False)  # names are not formulas
        return 0.1 + 0.18 * -(-len(labels) // columns)
    return 0.0
