"""All that a report says of one study, read from its store once."""

import shlex
from dataclasses import dataclass
from typing import Any

import pandas as pd

from selbench.claims.judging import Judgement, judge_study
from selbench.claims.readings import Need
from selbench.claims.sources import shipped_claims
from selbench.store import StudyStore
from selbench.tables import Leaderboard, leaderboard
from selbench.tables.current import RUNS, current_rows, root_of_runs


@dataclass(frozen=True)
class Evidence:
    """A study's results.

    Attributes:
        store: where they lie.
        limit: of how many test images, where asked for; None for what tables take by themselves.
        rows: current measurements.
        manifest: of the latest run.
        board: the leaderboard.
        judgement: the verdicts on the shipped claims.
    """

    store: StudyStore
    limit: int | None
    rows: pd.DataFrame
    manifest: dict[str, Any]
    board: Leaderboard
    judgement: Judgement

    @property
    def study(self) -> str:
        """The study's name."""
        return self.store.study

    def command(self, *words: str) -> str:
        """Write a command that reads this study, such as `selbench claims digits`."""
        first, *rest = words
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        store = [] if self.store.root == RUNS else ["--store", str(self.store.root)]
        return shlex.join(["selbench", first, *rest, *limit, *store])

    def making(self, *suites: str, words: tuple[str, ...] = ()) -> str:
        """Write the command that measures these suites on the same images."""
        return self.judgement.about.command(Need(suites, words=words))


def gathered(store: StudyStore, limit: int | None) -> Evidence:
    """Read a study's results; raises `SelbenchError` where there are none on `limit` images."""
    judgement = judge_study(store, shipped_claims(), limit, root_of_runs(store))
    board = leaderboard(store, limit)
    rows, manifest = current_rows(store, limit), store.manifest()
    return Evidence(store, limit, rows, manifest, board, judgement)
