"""The measurements of a network, with a leaderboard that is derived when it is asked for."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import pandas as pd

from selbench._kit.errors import SelbenchError, naming_arguments
from selbench.request import words_of
from selbench.tables.ranking import arranged
from selbench.tables.table import Leaderboard


class Later:
    """A leaderboard that is derived when it is first asked for, since this takes long."""

    def __init__(self, derive: Callable[[], Leaderboard | None]) -> None:
        self._derive: Callable[[], Leaderboard | None] | None = derive
        self._board: Leaderboard | None = None

    def board(self) -> Leaderboard | None:
        """Return the leaderboard; None if there is nothing to show."""
        if (derive := self._derive) is not None:
            self._board = derive()
            self._derive = None  # frees the measurements
        return self._board


class Measurements(pd.DataFrame):
    """The measurements of a network, one row for each number: a pandas data frame."""

    _metadata: ClassVar[list[str]] = ["_later"]  # pandas copies it to derived frames
    _later: Later | None = None

    @property
    def _constructor(self) -> type["Measurements"]:
        return Measurements

    def leaderboard(
        self, columns: str | Sequence[str] = (), sort: str | None = None
    ) -> Leaderboard:
        """Return the table that `selbench run` prints.

        Args:
            columns: only these, such as "mca" or ["clean", "fog"]; () for all.
            sort: the column to sort by, best rows first.

        Raises:
            SelbenchError: for unknown columns, and if every condition failed.
        """
        board = None if self._later is None else self._later.board()
        if board is None:
            raise SelbenchError("there is no leaderboard: the network failed under every condition")
        with naming_arguments():
            return arranged(board, words_of("columns", columns), sort)
