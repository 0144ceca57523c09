"""Leaderboards: tables from the measurements of one study or several."""

from selbench.tables.caption import Remark
from selbench.tables.columns import COLUMNS, MASKING, columns_of
from selbench.tables.current import current_rows
from selbench.tables.table import Groups, Leaderboard, derived, leaderboard

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
