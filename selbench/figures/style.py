"""The style and the registry of figures: in all figures, colour stands for alpha."""

import textwrap
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backend_bases import get_registered_canvas_class
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from numpy.typing import ArrayLike

from selbench._kit.errors import unknown
from selbench._kit.files import replacing
from selbench._kit.outputs import PICTURE, check_file
from selbench._kit.registry import Registry
from selbench.statistics.intervals import mean_interval
from selbench.store import StudyStore
from selbench.study import count_of, exactly
from selbench.tables.current import current_rows, naming_command

FIGURES = Registry[Callable[[pd.DataFrame, str], Figure]]("figure")
SEEDS_FOR_A_BAND = 3
DPI = 150  # of PNG
SUFFIXES = (".svg", ".png", ".pdf")
# No dates and random ids, so that equal stores give equal bytes.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "selbench",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titley": 1.0,  # else every drawing looks for ticks above the title
}
SHADES = ("#0b4f8a", "#7fb3d5", "#8c8c8c", "#f0a860", "#b34700")  # from alpha < 0 to alpha > 0
LIGHT = 0.25  # position between grey and the end of the shade of the alpha nearest to 0
BROUGHT = (  # for users' networks, in turn
    *("#000000", "#1b7837", "#7b3294", "#c51b7d", "#00838f"),
    *("#a6761d", "#66bd63", "#af8dc3", "#d6001c", "#5b6770"),
)
SHORT, LETTER = (
    8,
    0.065,
)  # characters of a name that fit beside panels, and inches per further character
SMALL_LETTER = 0.058  # inches of a character of the small text
PALE = "0.35"  # grey of the small text
Colour = tuple[float, float, float, float]


def draw(name: str, store: StudyStore, limit: int | None, path: Path, force: bool = False) -> None:
    """Draw a figure of `FIGURES` from a study's store into a file.

    Raises:
        SelbenchError: as `check_figure`, and if the store lacks the results to draw.
    """
    check_figure(name, path, force)
    with naming_command(store, limit):
        made = drawn(name, current_rows(store, limit), store.study)
    save(made, path)


def check_figure(name: str, path: Path, force: bool = False) -> None:
    """Raise `SelbenchError` for an unknown figure or suffix, or a file that cannot be written.

    With `force`, a file that is no picture of selbench may be replaced.
    """
    if path.suffix not in SUFFIXES:
        raise unknown("suffix of a figure's file", path.suffix, SUFFIXES)
    FIGURES[name]
    check_file(path, PICTURE, "--output", force)


def drawn(name: str, rows: pd.DataFrame, study: str) -> Figure:
    """Draw a figure of `FIGURES` in the common style; raise `SelbenchError` as that figure does.

    `rows` are all current measurements of a study. The figure gets them with their `label`, so that
    names and colours agree between the study's figures. Names of networks and studies are drawn as
    text, not as formulas.
    """
    with mpl.rc_context(STYLE), sns.axes_style("ticks"):
        figure = FIGURES[name](rows.assign(label=labels_of(rows)), study)
    for text in _words(figure):
        text.set_parse_math(False)
    return figure


def _words(figure: Figure) -> list[Text]:
    """Return the texts with names; matplotlib's labels of numbers are formulas."""
    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    made = [axis for axis in axes if not isinstance(axis.get_major_locator(), FixedLocator)]
    numbers = {label for axis in made for label in axis.get_ticklabels(which="both")}
    return [text for text in figure.findobj(Text) if text not in numbers]


def save(figure: Figure, path: Path, trim: bool = True) -> None:
    """Write a figure, in the format of the path's suffix; equal figures give equal bytes.

    With `trim`, the margins of the picture are cut off.
    """
    kind = path.suffix.removeprefix(".")
    facts: dict[str, str | None] = {"Software" if kind == "png" else "Creator": "selbench"}
    facts |= {"Date": None} if kind == "svg" else {}
    with mpl.rc_context(STYLE), replacing(path, "--output") as temporary:
        get_registered_canvas_class(kind)(figure)  # whose texts have the sizes that it draws
        figure.set_dpi(DPI)
        layout = figure.get_layout_engine()
        if layout:
            layout.execute(figure)
            figure.set_layout_engine(None)  # else all would be drawn twice, to find the layout
        size = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"]) if trim else None
        figure.savefig(temporary, format=kind, dpi=DPI, bbox_inches=size, metadata=facts)
        figure.set_layout_engine(layout)


def titled(figure: Figure, title: str, part: pd.DataFrame, spread: str = "") -> None:
    """Write a figure's title, and at the bottom what it rests on.

    Args:
        figure: with its panels.
        title: begins with the study's name.
        part: the rows that are drawn, with their `label`.
        spread: what shows the 95 % intervals over seeds: "bands", "bars" or "crosses"; "" for none.
    """
    figure.suptitle(title, x=0.01, ha="left")
    footed(figure, basis(part, spread))


def footed(figure: Figure, text: str) -> int:
    """Write a small text below a figure, as wide as that; return the number of its lines."""
    filled = textwrap.fill(text, int(figure.get_figwidth() / SMALL_LETTER))
    figure.supxlabel(filled, x=0.01, ha="left", fontsize="small", color=PALE)
    return filled.count("\n") + 1


def basis(part: pd.DataFrame, spread: str = "") -> str:
    """Say how many networks and images rows are about, and what shows intervals; see `titled`."""
    networks = part.drop_duplicates("subject")
    seeds = networks.loc[networks["alpha"].notna(), "alpha"].value_counts()
    said = [count_of(len(networks), "network")]
    if len(seeds) > 1:
        said[0] += f", {_range(seeds)} per alpha"
    images = part.loc[part["n"] > 0, "n"]  # 0: not counted
    if len(images):
        said.append(f"{_range(images)} images")
    least = SEEDS_FOR_A_BAND if spread == "bands" else 2
    if spread and networks["label"].value_counts().max() >= least:
        said.append(f"{spread}: 95 % intervals over seeds")
    return "; ".join(said)


def _range(numbers: pd.Series) -> str:
    least, most = int(numbers.min()), int(numbers.max())
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def labels_of(rows: pd.DataFrame) -> pd.Series:
    """Return the label of each row: its alpha, or the name of a user's network."""
    alphas = rows.drop_duplicates("subject").set_index("subject")["alpha"]
    files = {subject: Path(subject).name for subject in alphas.index}
    if len(set(files.values())) < len(files):  # files of one name in several folders
        files = {subject: subject for subject in alphas.index}
    names = alphas.map(exactly, na_action="ignore").astype(object).fillna(files)
    return rows["subject"].map(names)


def label_of_each(rows: pd.DataFrame) -> pd.Series:
    """Return the `label` of each subject."""
    return rows.drop_duplicates("subject").set_index("subject")["label"]


def colours_of(rows: pd.DataFrame) -> dict[str, Colour]:
    """Return a colour per label: blue for alpha < 0, grey for 0, orange for > 0; others for users'.

    Shades on either side have equal steps, whatever the steps of alpha. `rows` are all of the study
    with their `label`, since shades depend on all alphas.
    """
    shades = sns.blend_palette(SHADES, as_cmap=True)
    alphas = sorted(set(rows["alpha"].dropna()))
    below, above = ([each for each in alphas if sign * each > 0] for sign in (-1, 1))
    places = [*np.linspace(0, LIGHT, len(below)), *[0.5] * (0 in alphas)]
    places += [*np.linspace(1, 1 - LIGHT, len(above))[::-1]]
    colours = {exactly(alpha): shades(at) for alpha, at in zip(alphas, places, strict=True)}
    brought = sorted(rows.loc[rows["alpha"].isna(), "label"].unique())
    return colours | dict(zip(brought, cycle(map(to_rgba, BROUGHT)), strict=False))


def line(
    axes: Axes,
    places: ArrayLike,
    values: pd.DataFrame,
    name: str,
    colour: Colour,
    marker: str = "o",
    log: bool = False,
) -> None:
    """Draw the mean over networks with its 95 % interval; two networks as two thin lines.

    `values` has a row for each network and a column for each of `places`. With `log`, means and
    intervals are computed from logarithms.
    """
    table = np.log(values.to_numpy()) if log else values.to_numpy()
    pairs = [mean_interval(column.tolist()) for column in table.T]
    mean, half = np.array(pairs).T
    middle, low, high = (np.exp(v) if log else v for v in (mean, mean - half, mean + half))
    axes.plot(places, middle, color=colour, label=name, marker=marker or None, markersize=3)
    if len(values) >= SEEDS_FOR_A_BAND:
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    elif len(values) > 1:
        axes.plot(places, values.T, color=colour, linewidth=0.5, alpha=0.6)


def legend(axes: Axes, rows: pd.DataFrame) -> None:
    """Put the legend next to the last panel; long names widen the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # of axes with lines
    drawn = {each.get_label() for panel in figure.axes for each in panel.get_lines()}
    title = "alpha" if rows.loc[rows["label"].isin(drawn), "alpha"].notna().all() else ""
    lines = [
        Line2D([], [], color=to_hex(colour), marker="o", markersize=3, label=name)
        for name, colour in colours_of(rows).items()
        if name in drawn
    ]
    longest = max((len(str(each.get_label())) for each in lines), default=0)
    figure.set_figwidth(figure.get_figwidth() + LETTER * max(0, longest - SHORT))
    beside = (1.0, 0.5)
    axes.legend(handles=lines, title=title, frameon=False, loc="center left", bbox_to_anchor=beside)
