"""What claims read from a store's rows: one number for each network."""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from corruptions import CORRUPTIONS
from selbench._kit.errors import unknown
from selbench.claims.claim import Reading, makers
from selbench.study import exactly
from selbench.tables import means

TYPING_ERROR = 0.8  # similarity (difflib) from which a name counts as a misspelling of another
CLEAN = Reading(suite="clean", conditions=("clean",))


@dataclass(frozen=True)
class Need:
    """What a run would have to add: suites, alphas, and further words of the command line."""

    suites: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


def merged(needs: Sequence[Need]) -> Need:
    """Combine needs, without repeats."""
    return Need(
        tuple(dict.fromkeys(suite for need in needs for suite in need.suites)),
        tuple(sorted({alpha for need in needs for alpha in need.alphas})),
        tuple(word for need in needs for word in need.words),
    )


class UntestedError(Exception):
    """A test needs something that was not measured; `need` would measure it."""

    def __init__(self, reason: str, need: Need) -> None:
        super().__init__(reason)
        self.need = need


class Networks:
    """A study's networks: their measurements, and the readings made so far.

    Attributes:
        rows: of whole networks, from `selbench.tables.current_rows` or with the same columns.
        given: readings (conditions by networks) to use instead of the rows.
    """

    def __init__(
        self, rows: pd.DataFrame, given: Mapping[Reading, pd.DataFrame] | None = None
    ) -> None:
        """Read nothing yet."""
        self.rows, self.given = rows, dict(given or {})
        self._known: dict[Reading, pd.DataFrame | UntestedError] = dict(self.given)
        self._images: dict[Reading, int] = {}

    @cached_property
    def alphas(self) -> pd.Series:
        """The alpha of each network, by the network's name."""
        profiles = self.rows[["subject", "alpha"]].drop_duplicates()
        alphas: pd.Series = profiles.set_index("subject")["alpha"]
        return alphas

    @cached_property
    def trained(self) -> "Networks":
        """The networks that have an alpha."""
        return self if self.alphas.notna().all() else self.only(self.alphas.dropna().index)

    def only(self, names: Collection[str]) -> "Networks":
        """Return some of the networks."""
        given = {
            reading: table[[name for name in table if name in names]]
            for reading, table in self.given.items()
        }
        return Networks(self.rows[self.rows["subject"].isin(names)], given)

    def reading(self, given: Mapping[Reading, pd.DataFrame]) -> "Networks":
        """Return the same networks with other readings."""
        found = Networks(self.rows, given)
        found.alphas, found._images = self.alphas, self._images
        found._known |= {
            reading: none for reading, none in self._known.items() if reading not in given
        }
        return found

    def by_condition(self, reading: Reading) -> pd.DataFrame:
        """Return a reading, averaged over levels: conditions by networks, before any scaling.

        If the reading names no conditions or levels, only those that all networks have count.

        Raises:
            UntestedError: if the rows lack something that the reading names.
        """
        plain = reading.model_copy(update={"to_clean": None, "log": False})
        if plain not in self._known:
            try:
                self._known[plain] = _by_condition(self.rows, plain)
            except UntestedError as lacking:
                self._known[plain] = lacking
        found = self._known[plain]
        if isinstance(found, UntestedError):
            raise found
        return found

    def images(self, reading: Reading) -> int:
        """Return the smallest number of images behind the reading."""
        if reading not in self._images:
            self._images[reading] = int(_chosen(self.rows, reading)["n"].min())
        return self._images[reading]


def _by_condition(rows: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    table = _by_level(rows, reading)
    common = table.dropna(axis=0)
    asked = reading.conditions or sorted(set(table.index.get_level_values("condition")))
    present = set(common.index.get_level_values("condition"))
    lacking = [name for name in asked if name not in present] if reading.conditions else []
    levels = set(common.index.get_level_values("level"))
    lacking += [f"level {level:g}" for level in reading.levels if level not in levels]
    if common.empty or lacking:
        what = ", ".join(lacking) or "what all networks have in common"
        raise UntestedError(f"{what} of {reading.suite} was not measured", needed(reading))
    return means.by_condition(common)


def read(networks: Networks, reading: Reading) -> pd.Series:
    """Return the reading of each network, by name: averaged over levels, then conditions."""
    return scaled(networks, reading, networks.by_condition(reading).mean())


def scaled(networks: Networks, reading: Reading, values: pd.Series) -> pd.Series:
    """Compare accuracies with clean ones as the reading asks; NaN if a clean accuracy is 0."""
    if reading.log:
        found: pd.Series = values.where(values > 0).map(math.log, na_action="ignore")
        return found
    if not reading.to_clean:
        return values
    clean = read(networks, CLEAN).reindex(values.index)
    clean = clean.where(clean > 0)
    if reading.to_clean == "ratio":
        return values.div(clean)
    if reading.to_clean == "points":
        return values.sub(clean)
    images = networks.images(CLEAN)
    return means.log_odds(values, images) - means.log_odds(clean, images)


def corruptions_of(networks: Networks, reading: Reading) -> int:
    """Return how many corruptions the reading averages over; 0 if it names its conditions."""
    if reading.conditions:
        return 0
    return len(set(networks.by_condition(reading).index) & set(CORRUPTIONS))


def needed(reading: Reading, alphas: tuple[float, ...] = ()) -> Need:
    """Return what measures a reading, for these alphas as well as the existing ones."""
    suites = (makers()[reading.suite], *(("clean",) if reading.to_clean else ()))
    return Need(suites, alphas)


def written(value: float, reading: Reading) -> str:
    """Write a reading for people: accuracies in per cent."""
    if reading.points:
        return f"{100 * value:.1f} {'points' if reading.to_clean else '%'}"
    return f"{math.exp(value) if reading.log else value:.3g}"


def alpha_text(alpha: float) -> str:
    """Write "alpha = -1"."""
    return f"alpha = {exactly(alpha)}"


def _chosen(rows: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    found = reading.rows.chosen(rows)
    return found[found["level"].isin(reading.levels)] if reading.levels else found


def _by_level(rows: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """Return the measurements: conditions and levels (-1 for none) by networks."""
    found = _chosen(rows, reading)
    if found.empty:
        raise _absence(rows, reading)
    return means.by_level(found)


def _absence(rows: pd.DataFrame, reading: Reading) -> UntestedError:
    """Return the error that says what is missing: the suite, or a condition, level or metric of it.

    A suite may be there in part: other suites measure some metrics of `selectivity`. A metric whose
    name is close to an existing one is a misspelling, so no run is suggested.
    """
    found = rows[rows["suite"] == reading.suite]
    metrics = sorted(set(found["metric"]))
    what = ""
    if metrics and reading.metric not in metrics:
        if difflib.get_close_matches(reading.metric, metrics, cutoff=TYPING_ERROR):
            misspelt = unknown(f"metric of {reading.suite}", reading.metric, metrics)
            return UntestedError(str(misspelt), Need())
        what = f"{reading.metric} of "
    elif reading.conditions and not found["condition"].isin(reading.conditions).any():
        what = f"{', '.join(reading.conditions)} of " if metrics else ""
    elif reading.levels and metrics:
        what = f"level {', '.join(map(exactly, reading.levels))} of "
    return UntestedError(f"{what}{reading.suite} was not measured", needed(reading))
