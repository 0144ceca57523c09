"""The leaderboard of one study or several, as a pure function of measurements."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError, unknown
from selbench.metrics import Metric
from selbench.store import StudyStore
from selbench.store.findings import whole_name
from selbench.store.tidy import plain_text
from selbench.suites.corrupted import CORRUPTED, SHIFTED
from selbench.tables.accuracies import accuracies, averaged, by_corruption, ids_to_average
from selbench.tables.attacked import masked, medians
from selbench.tables.caption import Remark, note, remarks
from selbench.tables.columns import COLUMNS, COVERED, MASKING, OF_FOLDERS
from selbench.tables.correct_on_all import correct_on_all
from selbench.tables.explained import explained, partly
from selbench.tables.joined import Compared, compared
from selbench.tables.means import log_odds, over_seeds
from selbench.tables.over_images import half_widths
from selbench.tables.relative import relative_errors, usual_reference
from selbench.tables.spoilt import FINDINGS, sentences

Groups = Mapping[str, Mapping[str, Metric]]  # columns of tables, by title
FACTS = ("study", "subject", "alpha", "networks", "images")


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """A table of networks: one row per alpha or user's network, with typed numbers.

    Attributes:
        study: the name of the study, or those of several.
        table: columns study, subject, alpha, networks, images (numbers), and for every quantity of
            `COLUMNS` its mean over networks; with the suffix `_interval` the half width of its 95 %
            interval, over networks, or over images for a single network; with `_n` the number of
            networks that have it. If the index covers only some activations of a network,
            `selectivity_of` says which. Accuracies are in [0, 1]; mce is 1 for the reference.
        remarks: what the numbers cover, and what was left out.
        columns: the quantities to show, in order; () for all.
        groups: the tables of a board with other quantities than `COLUMNS`.
        notes: notes on columns, for those that are shown.
        sort: the column of the order, "" for none.
        runs: the commands that add to the results.
        findings: sentences on findings of the probe; if there are any, `table` has a column of
            them.
        withheld: columns to show even without numbers, since a finding makes some meaningless.
    """

    study: str
    table: pd.DataFrame
    remarks: tuple[Remark, ...]
    columns: tuple[str, ...] = ()
    groups: Groups = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    sort: str = ""
    runs: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    withheld: frozenset[str] = frozenset()

    def frame(self) -> pd.DataFrame:
        """Return the table without empty columns."""
        return self.table.dropna(axis="columns", how="all")

    def __repr__(self) -> str:
        """Return the text for a terminal of 80 characters."""
        from selbench.tables.formats import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks."""
        from selbench.tables.formats import to_html

        return to_html([self])

    @property
    def caption(self) -> str:
        """The remarks and notes on the columns that are shown."""
        asked = {*self.columns, self.sort}
        texts = [
            each.text
            for each in self.remarks
            if not (self.columns and each.columns) or asked & each.columns
        ]
        texts += [text for name, text in self.notes.items() if name in asked]
        return " ".join(["; ".join(texts) + ".", *(f"{each}." for each in self.findings)])


def leaderboard(
    stores: StudyStore | Sequence[StudyStore],
    limit: int | None = None,
    extra: bool = False,
    only: Sequence[str] = (),
    reference: str | None = None,
    shared: bool = False,
    places: Sequence[str] = (),
) -> Leaderboard:
    """Derive the leaderboard of a study, or of several in one table, from measurements.

    It only uses comparable measurements: the data and the training of each store's latest run, one
    number of test images, and the corrupted conditions that all networks have.

    Args:
        stores: the results of one study or several.
        limit: use cells with this number of test images; None for the largest.
        extra: also count the extra corruptions, not only the benchmark's fifteen.
        only: count only these corruptions, which may be extra ones; () for all.
        reference: the row that mCE is relative to; the default is "alpha=0".
        shared: use only images that all networks classify correctly when clean.
        places: of published numbers to add, such as "published:cifar10-c".

    Raises:
        SelbenchError: if there are no cells with that `limit` or one of `only`, if studies cannot
            be compared, and for an unknown reference; also as `correct_on_all`.
    """
    given = [stores] if isinstance(stores, StudyStore) else stores
    with plain_text():
        found = compared(given, limit, places)
        return derived(correct_on_all(found) if shared else found, extra, only, reference)


def derived(
    found: Compared, extra: bool = False, only: Sequence[str] = (), reference: str | None = None
) -> Leaderboard:
    """Derive the leaderboard from measurements; arguments and errors as `leaderboard`."""
    table = accuracies(found.rows)
    names = _corruptions_of_mce(found, extra, only)
    plan = ids_to_average(found.rows, table, names)
    networks = _quantities(found.rows, averaged(table, plan), extra, only)
    counted = plan.get("mca", {})
    errors = 1 - by_corruption(table, counted)
    tested = networks.index[networks["mca"].notna()]
    relative = relative_errors(errors[tested], networks, reference or usual_reference(found))
    networks = networks.assign(**relative.columns)
    halves = half_widths(found, _single_networks(networks), plan)
    folders = [name for name in plan if name.startswith(OF_FOLDERS)]
    board = _rows_over_networks(networks, halves, found, [*COLUMNS, *folders])
    board = _marked(board, networks, partly(found.rows))
    lacking = [name for name in names if name not in counted]
    shares = {
        name: (len(counted[name]), len(plan[name][name])) for name in names if name in counted
    }
    fewer = [f"{name} ({n} of {of})" for name, (n, of) in shares.items() if n < of]
    return Leaderboard(
        found.title,
        board,
        remarks(found, networks, board, counted, lacking, fewer, relative),
        notes=note(relative),
        runs=found.runs,
        findings=sentences(networks.index, found.findings),
        withheld=found.withheld,
    )


def _marked(board: pd.DataFrame, networks: pd.DataFrame, parts: Mapping[str, str]) -> pd.DataFrame:
    """Add the column of the activations in the index, unless it covers all of all networks."""
    covered = networks.loc[[name for name in networks.index if name in parts]]
    places = zip(covered["study"], covered["row"], strict=True)
    rows = dict(zip(places, [parts[str(name)] for name in covered.index], strict=True))
    if not rows:
        return board
    keys = zip(board["study"], board["subject"], strict=True)
    return board.assign(**{COVERED: [rows.get(key, "") for key in keys]})


def _corruptions_of_mce(found: Compared, extra: bool, only: Sequence[str]) -> list[str]:
    """Return the corruptions that count among the tested ones."""
    rows = found.rows
    measured = rows[(rows["metric"] == "accuracy") & rows["suite"].isin(CORRUPTED)]
    present = set(measured["condition"])
    for name in sorted(set(only) - present):
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, CORRUPTIONS)
        if CORRUPTIONS[name].bar:
            raise SelbenchError(
                f"{name} belongs to C-bar, which mCE leaves out; show it with --columns {name}"
            )
        raise SelbenchError(
            f"{found.where} holds no results under {name}; run its study with --suite "
            f"corruptions-all --corruption {name}"
        )
    usual = set(measured.loc[measured["suite"] == CORRUPTED[0], "condition"])
    return sorted(set(only) or (present if extra else usual))


def _quantities(
    rows: pd.DataFrame, means: pd.DataFrame, extra: bool, only: Sequence[str]
) -> pd.DataFrame:
    """Return networks by columns: their names and their measurements."""
    facts = ["subject", "study", "row", "name", "own", "alpha", "seed"]
    networks = rows[facts].drop_duplicates().set_index("subject")
    accuracy = rows[(rows["metric"] == "accuracy") & (rows["suite"] != SHIFTED)]
    networks["images"] = accuracy.groupby("subject")["n"].min().astype("Int64")
    measured = (means, medians(rows), explained(rows, extra, only), masked(rows))
    columns = [each.reindex(networks.index) for each in measured]
    networks = pd.concat([networks, *columns], axis=1)
    networks = networks.reindex(columns=[*dict.fromkeys([*networks, *COLUMNS])])
    images = networks["images"].astype(float)
    clean = networks["clean"].where(networks["clean"] > 0)
    odds = log_odds(networks["mca"], images) - log_odds(clean, images)
    return networks.assign(ratio=networks["mca"] / clean, effective=odds)


def _single_networks(networks: pd.DataFrame) -> list[str]:
    """Return the networks with a row of their own."""
    draws = (networks["name"] != networks["own"]) & networks["alpha"].isna()  # of one network
    lone = {group[0] for group in _rows(networks) if len(group) == 1}
    return [
        name
        for place, (name, draw) in enumerate(zip(networks.index, draws, strict=True))
        if draw or place in lone
    ]


def _rows(networks: pd.DataFrame) -> list[list[int]]:
    """Return the indices of the networks of each row: of one alpha, or a user's network."""
    studies = {name: place for place, name in enumerate(networks["study"].unique())}
    facts = (networks["study"].map(studies), networks["alpha"].fillna(np.inf), networks["row"])
    rows: dict[tuple[int, float, str], list[int]] = {}
    for place, row in enumerate(zip(*facts, strict=True)):
        rows.setdefault(row, []).append(place)
    return [places for _, places in sorted(rows.items())]


def _rows_over_networks(
    networks: pd.DataFrame, halves: pd.DataFrame, found: Compared, names: Sequence[str]
) -> pd.DataFrame:
    """Average over seeds: per study one row per rising alpha, then one per user's network."""
    groups = [networks.iloc[places] for places in _rows(networks)]
    rows = [_row(group, halves, names) for group in groups]
    parts = [part for name in names for part in (name, f"{name}_interval", f"{name}_n")]
    board = pd.DataFrame(rows, columns=[*FACTS, *parts, MASKING])
    flags = [row[MASKING] for row in rows]  # None stays None: pandas would change it to NaN
    columns = {MASKING: pd.Series(flags, board.index, object)}
    texts = [". ".join(sentences(group.index, found.findings)) or None for group in groups]
    if any(texts):
        columns[FINDINGS] = pd.Series(texts, board.index, object)
    return board.assign(**columns)


def _row(group: pd.DataFrame, halves: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    first, subject = group.iloc[0], group.index[0]
    count = group["own"].map(whole_name).nunique()  # draws of a random network count as one
    facts = [first["study"], first["row"], first["alpha"], count, group["images"].min()]
    row = dict(zip(FACTS, facts, strict=True))
    for name, values in zip(names, group[[*names]].to_numpy(float).T, strict=True):
        row |= over_seeds(values, name)
        row[f"{name}_n"] = min(row[f"{name}_n"], count)
    if subject in halves.index:
        row |= halves.loc[subject].astype(float).add_suffix("_interval").to_dict()
    return row | {MASKING: _flags(group[MASKING].dropna())}


def _flags(flags: pd.Series) -> str | None:
    """Return the flags of networks with numbers, such as "zero gradients (2 of 3)", or "none"."""
    if flags.empty:
        return None
    counts = Counter(flag for each in flags for flag in each.split(", ") if flag)
    if not counts:
        return "none"
    return ", ".join(f"{flag} ({n} of {len(flags)})" for flag, n in sorted(counts.items()))
