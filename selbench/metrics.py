"""Metrics: what is measured, as nouns that tables, figures, reports and claims read.

A metric is declared beside what measures it, by entering it into `METRICS`. Those of selbench stand
in the modules of `selbench.suites`; importing that package enters them.
"""

import math
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import pandas as pd

from selbench._kit.registry import Registry

INFINITE = math.inf
SHARE = (0.0, 1.0)  # bounds
AMOUNT = (0.0, INFINITE)
# How what a metric reads becomes one number of a network; seeds are averaged after that.
AVERAGES = {
    "mean": "over severities or budgets, then over conditions",
    "pooled": "over all severities of all conditions at once",
    "last": "at the last level of each condition, over conditions",
    "half": "the level at which half of the images have fallen",
    "derived": "computed from other columns",
}
READ = ("suite", "metric", "condition", "group")  # the columns that `RowFilter` asks
Average = Literal["mean", "pooled", "last", "half", "derived"]


@dataclass(frozen=True)
class Unit:
    """What a number is written in: the unit's name, the factor from the data's, and decimals."""

    name: str = ""
    factor: float = 1
    decimals: int = 3


PERCENT = Unit("%", 100, 1)
NUMBER = Unit()


@dataclass(frozen=True)
class RowFilter:
    """Which rows of the store a metric reads, of whole networks.

    Attributes:
        suites: the store's column of that name; any of these.
        metric: the store's column of that name.
        conditions: only these; () for all that every network has.
        without: not these.
        groups: only of these, such as "noise"; () for all.
    """

    suites: tuple[str, ...]
    metric: str = "accuracy"
    conditions: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def has(self, suite: str, metric: str, condition: str, group: str) -> bool:
        """Say whether it reads rows that have these values of `READ`."""
        return (
            metric == self.metric
            and suite in self.suites
            and condition not in self.without
            and (not self.conditions or condition in self.conditions)
            and (not self.groups or group in self.groups)
        )

    def chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return those of a store's rows, as `has` would."""
        kept = (rows["metric"] == self.metric) & rows["suite"].isin(self.suites)
        if self.without:
            kept &= ~rows["condition"].isin(self.without)
        for column, names in (("condition", self.conditions), ("group", self.groups)):
            if names:
                kept &= rows[column].isin(names)
        found: pd.DataFrame = rows[kept]
        return found


class IndexedRows:
    """Rows of a store, indexed once by the columns that metrics choose by."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        self._places: dict[tuple[str, ...], list[int]] = {}
        for place, what in enumerate(zip(*(rows[name] for name in READ), strict=True)):
            self._places.setdefault(what, []).append(place)

    def chosen(self, reads: RowFilter) -> pd.DataFrame:
        """Return what `Rows.chosen` would."""
        own = [places for what, places in self._places.items() if reads.has(*what)]
        found: pd.DataFrame = self._rows.iloc[sorted(chain.from_iterable(own))]
        return found


@dataclass(frozen=True)
class Panel:
    """Where a figure shows a metric.

    Attributes:
        figure: its name.
        title: above the pair of axes.
        axis: what the axis says.
        row: of pairs of axes, from 0.
        log: whether the axis is logarithmic.
    """

    figure: str
    title: str
    axis: str = ""
    row: int = 0
    log: bool = False


@dataclass(frozen=True)
class Metric:
    """A quantity of networks.

    Attributes:
        name: what users type, and tables call it.
        label: what headings call it, before the unit.
        meaning: in one sentence.
        suite: what `selbench run --suite` measures it with; "" where every run does.
        reads: the rows that it is made of.
        average: how; a key of `AVERAGES`.
        unit: that it is written in.
        better: whether more of it is better (1), less (-1), or neither (0).
        bounds: it is never below the first nor above the second, in the data's unit.
        source: a paper, such as "arXiv:1803.06959", or "ours".
        board: the tables that show it: "leaderboard", "calibration", or "" for none.
        table: the title of the one among them.
        place: there and in the figure, lower ones first; equal ones as they were entered.
        asked: whether tables for people show it only where it is asked for.
        rare: whether files of results leave it out where nothing was measured.
        null_of: the metric of which it is the chance level; "" for none.
        panel: where a figure shows it.
        most: metrics that are never less of the same network: tables for people show the range up
            to the least of them.
    """

    name: str
    label: str
    meaning: str
    suite: str
    reads: RowFilter
    average: Average = "mean"
    unit: Unit = PERCENT
    better: int = 1
    bounds: tuple[float, float] = SHARE
    source: str = "ours"
    board: str = "leaderboard"
    table: str = "further measurements"
    place: int = 0
    asked: bool = False
    rare: bool = False
    null_of: str = ""
    panel: Panel | None = None
    most: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").isalnum():
            raise ValueError(f"a metric's name has letters, digits and _ alone, not {self.name!r}")
        if self.better not in (-1, 0, 1):
            raise ValueError(f"better of the metric {self.name} is 1, -1 or 0, not {self.better}")
        if self.average not in AVERAGES:
            raise ValueError(f"average of the metric {self.name} is none of {', '.join(AVERAGES)}")

    @property
    def heading(self) -> str:
        """The label with its unit: "clean %"."""
        return f"{self.label} {self.unit.name}".rstrip()

    @property
    def shown(self) -> Panel:
        """Where a figure shows it, of a metric that one does."""
        assert self.panel is not None, self.name
        return self.panel


class Metrics(Registry[Metric]):
    """Metrics by name."""

    def name_of(self, thing: Metric) -> str:
        return thing.name

    def drawn_in(self, figure: str) -> list[Metric]:
        """Return the metrics of a figure, in the order of its panels."""
        own = [each for each in self.values() if each.panel and each.panel.figure == figure]
        return sorted(own, key=lambda each: (each.shown.row, each.place))

    def null_of(self, metric: Metric) -> Metric | None:
        """Return what chance alone gives of a metric; None where that is not measured."""
        return next((each for each in self.values() if each.null_of == metric.name), None)


METRICS = Metrics("metric")
