"""Metrics: the measured quantities, for tables, figures, reports and claims.

A metric is declared next to the code that measures it, by registering it in `METRICS`. Those of
selbench are in the modules of `selbench.suites`, and importing that package registers them.
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
# How the rows of a metric become one number per network; seeds are averaged after that.
AVERAGES = {
    "mean": "over severities or budgets, then over conditions",
    "pooled": "over all severities of all conditions at once",
    "last": "at the last level of each condition, over conditions",
    "half": "the level at which half of the images have fallen",
    "derived": "computed from other columns",
}
READ = ("suite", "metric", "condition", "group")  # the columns that `RowFilter` reads
Average = Literal["mean", "pooled", "last", "half", "derived"]


@dataclass(frozen=True)
class Unit:
    """The unit of printed numbers: its name, the factor from the data, and the decimals."""

    name: str = ""
    factor: float = 1
    decimals: int = 3


PERCENT = Unit("%", 100, 1)
NUMBER = Unit()


@dataclass(frozen=True)
class RowFilter:
    """The rows of the store that a metric reads; rows of single layers are dropped before.

    Attributes:
        suites: any of these values in the column `suite`.
        metric: the value in the column `metric`.
        conditions: only these; () for all that every network has.
        without: conditions to leave out.
        groups: only these, such as "noise"; () for all.
    """

    suites: tuple[str, ...]
    metric: str = "accuracy"
    conditions: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def has(self, suite: str, metric: str, condition: str, group: str) -> bool:
        """Return whether it reads rows with these values of `READ`."""
        return (
            metric == self.metric
            and suite in self.suites
            and condition not in self.without
            and (not self.conditions or condition in self.conditions)
            and (not self.groups or group in self.groups)
        )

    def chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a store for which `has` is true."""
        kept = (rows["metric"] == self.metric) & rows["suite"].isin(self.suites)
        if self.without:
            kept &= ~rows["condition"].isin(self.without)
        for column, names in (("condition", self.conditions), ("group", self.groups)):
            if names:
                kept &= rows[column].isin(names)
        found: pd.DataFrame = rows[kept]
        return found


class IndexedRows:
    """Rows of a store, indexed by the columns that metrics read."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows, self._none = rows, rows.iloc[:0]
        self._places: dict[tuple[str, ...], list[int]] = {}
        for place, what in enumerate(zip(*(rows[name].tolist() for name in READ), strict=True)):
            self._places.setdefault(what, []).append(place)

    def chosen(self, reads: RowFilter) -> pd.DataFrame:
        """Return what `RowFilter.chosen` would."""
        matches = [places for what, places in self._places.items() if reads.has(*what)]
        found: pd.DataFrame = self._none
        return self._rows.iloc[sorted(chain.from_iterable(matches))] if matches else found


@dataclass(frozen=True)
class Panel:
    """The panel of a figure that shows a metric.

    Attributes:
        figure: the name of the figure.
        title: the title of the panel.
        axis: the label of the axis.
        row: the row of the panel, from 0.
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
        name: the name for users and tables.
        label: the heading, without the unit.
        meaning: a description in one sentence.
        suite: the suite that measures it; "" if every run does.
        reads: the rows that it is computed from.
        average: how rows are averaged: a key of `AVERAGES`.
        unit: the unit of printed numbers.
        better: whether more is better (1), less (-1), or neither (0).
        bounds: the smallest and the largest possible value, in the data's unit.
        source: a paper, such as "arXiv:1803.06959", or "ours".
        board: the tables that show it: "leaderboard", "calibration", or "" for none.
        table: the title of its table.
        place: the order in the table and the figure, low first; equal ones in order of
            registration.
        asked: whether printed tables show it only on request.
        rare: whether files of results leave it out if there are no measurements.
        null_of: the metric of which it is the chance level; "" for none.
        panel: the panel of a figure that shows it.
        most: metrics that are upper bounds for the same network: printed tables show the range up
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
        """The panel of a metric that a figure shows."""
        assert self.panel is not None, self.name
        return self.panel


class Metrics(Registry[Metric]):
    """Metrics by name."""

    def name_of(self, thing: Metric) -> str:
        return thing.name

    def drawn_in(self, figure: str) -> list[Metric]:
        """Return the metrics of a figure, in the order of its panels."""
        metrics = [each for each in self.values() if each.panel and each.panel.figure == figure]
        return sorted(metrics, key=lambda each: (each.shown.row, each.place))

    def null_of(self, metric: Metric) -> Metric | None:
        """Return the metric of a metric's chance level; None if it is not measured."""
        return next((each for each in self.values() if each.null_of == metric.name), None)


METRICS = Metrics("metric")
