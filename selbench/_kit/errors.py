"""The one exception that a user is meant to read."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNLIKE = "its content is not what was written"  # of a damaged file
LONGEST = 300  # letters of a name or a reason that fit into one sentence
MANY = 30  # names that fit into one sentence


class SelbenchError(Exception):
    """A problem the user can mend, told in one sentence: what, where, what to do instead."""


class DamagedError(SelbenchError):
    """A file is not what was written; `reason` says what is wrong with it."""

    reason = ""


class UnmeasuredError(SelbenchError):
    """Measurements are not there; `words` make them, after `selbench run STUDY`."""

    def __init__(self, what: str, *words: str) -> None:
        super().__init__(what)
        self.words = words


class NotFiniteError(SelbenchError):
    """What a network computes is NaN or infinite; others of the same run may be well."""


class UnboundedError(SelbenchError):
    """A network has an operation without known bounds."""


class NegativeActivityError(SelbenchError):
    """Units respond with less than nothing, which class selectivity is not defined for."""


class NoReLUError(SelbenchError):
    """A network calls no ReLU, whose outputs analyses look at unless other layers are named."""


class ManySizesError(SelbenchError):
    """The images of a data set differ in size, and nothing says how they come to one."""


class MissingOutcomesError(SelbenchError):
    """Outcomes that a cell is made of are not there; those of others may be."""


ARGUMENTS = {"model": "model", "suite": "suites", "corruption": "corruptions", "attack": "attacks"}
VALUE = r"""(?P<value>'[^']*'|"[^"]*"|[A-Z]{2,}\b|[\d.,]*\d|[\w.]+[:/][\w:./-]*)"""
OPTION = re.compile(rf"(?P<command>`[^`]*`)|(?<![\w-])--(?P<name>[a-z][a-z-]*)(?:[ =]{VALUE})?")


_spoken = {"options": False}  # of the whole process: threads of a command speak as it does


@contextmanager
def naming_options() -> Iterator[None]:
    """Have errors speak of options, as commands have them, whatever is called meanwhile."""
    before, _spoken["options"] = _spoken["options"], True
    try:
        yield
    finally:
        _spoken["options"] = before


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Have errors speak of arguments, as functions have them, unless a command is at work.

    Commands that an error advises stay as they are typed.
    """
    try:
        yield
    except SelbenchError as problem:
        if _spoken["options"]:
            raise
        problem.args = (OPTION.sub(_argument, str(problem)), *problem.args[1:])
        raise


def _argument(found: re.Match[str]) -> str:
    if found["command"]:
        return found["command"]
    name = ARGUMENTS.get(found["name"], found["name"].replace("-", "_"))
    return f"{name}={found['value']}" if found["value"] else name


def in_short(problem: object) -> str:
    """Return the first line of what somebody's error says, short enough for one sentence."""
    line = next(iter(str(problem).strip().splitlines()), "") or type(problem).__name__
    return line.rstrip(".") if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def damaged(path: Path, problem: object, advice: str = "") -> DamagedError:
    """Build the error for a file that cannot be what was written.

    Args:
        path: of the file.
        problem: what is wrong with it; its first line is told.
        advice: what to do, where that is not to delete it and to give the command again.
    """
    reason = in_short(problem)
    advice = advice or "delete it and run the same command again"
    error = DamagedError(f"{path} is damaged ({reason}); {advice}")
    error.reason = reason
    return error


def unknown(noun: str, name: str, known: Iterable[str]) -> SelbenchError:
    """Build the error for a name nobody registered; it offers the nearest known one.

    Args:
        noun: what kind of thing was named, such as "suite".
        name: what the user wrote.
        known: every name that would have been right.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1) if len(name) <= LONGEST else []
    some = ", ".join(names[:MANY])
    listed = some if len(names) <= MANY else f"{some} and {len(names) - MANY} others"
    hint = f"did you mean {near[0]!r}?" if near else f"known are {listed}"
    return SelbenchError(f"unknown {noun} {name!r:.{LONGEST}}; {hint}")
