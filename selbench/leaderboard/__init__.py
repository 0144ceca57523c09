"""Leaderboards: from measurements of one study, or of several side by side, to tables."""

from selbench.leaderboard.caption import Remark
from selbench.leaderboard.columns import COLUMNS, MASKING, columns_of
from selbench.leaderboard.current import current_rows
from selbench.leaderboard.table import Groups, Leaderboard, derived, leaderboard

__all__ = [
    "COLUMNS",
    "MASKING",
    "Groups",
    "Leaderboard",
    "Remark",
    "columns_of",
    "current_rows",
    "derived",
    "leaderboard",
]
