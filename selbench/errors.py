"""The one exception that a user is meant to read."""

import difflib
from collections.abc import Iterable


class SelbenchError(Exception):
    """A problem the user can mend, told in one sentence: what, where, what to do instead."""


class NotFiniteError(SelbenchError):
    """What a network computes is NaN or infinite; others of the same run may be well."""


class NegativeActivityError(SelbenchError):
    """Units respond with less than nothing, which class selectivity is not defined for."""


def unknown(noun: str, name: str, known: Iterable[str]) -> SelbenchError:
    """Build the error for a name nobody registered; it offers the nearest known one.

    Args:
        noun: what kind of thing was named, such as "suite".
        name: what the user wrote.
        known: every name that would have been right.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    return SelbenchError(f"unknown {noun} {name!r}; {hint}")
