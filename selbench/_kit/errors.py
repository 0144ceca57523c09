"""Exceptions whose messages are written for users."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNLIKE = "its content is not what was written"  # for damaged files
LONGEST = 300  # most letters of a name or reason in a sentence
MANY = 30  # most names in a sentence


class SelbenchError(Exception):
    """A problem that the user can fix, in one sentence: what, where, what to do instead."""


class DamagedError(SelbenchError):
    """A file has changed since it was written; `reason` says what is wrong with it."""

    reason = ""


class UnmeasuredError(SelbenchError):
    """Measurements are missing; `selbench run STUDY` with `words` makes them."""

    def __init__(self, what: str, *words: str) -> None:
        super().__init__(what)
        self.words = words


class NotFiniteError(SelbenchError):
    """A network computes NaN or infinity; other networks of the run may be fine."""


class UnboundedError(SelbenchError):
    """A network has an operation without known bounds."""


class NotRandomError(SelbenchError):
    """A network has no randomness whose draws are known."""


class NegativeActivityError(SelbenchError):
    """Units have negative responses, for which class selectivity is not defined."""


class NoReLUError(SelbenchError):
    """A network calls no ReLU; analyses read ReLU outputs unless other layers are named."""


class ManySizesError(SelbenchError):
    """The images of a data set differ in size, and no common size is set."""


class MissingOutcomesError(SelbenchError):
    """Outcomes of a cell are missing; other cells may have theirs."""


ARGUMENTS = {"model": "model", "suite": "suites", "corruption": "corruptions", "attack": "attacks"}
VALUE = r"""(?P<value>'[^']*'|"[^"]*"|[A-Z]{2,}\b|[\d.,]*\d|[\w.]+[:/][\w:./-]*)"""
OPTION = re.compile(rf"(?P<command>`[^`]*`)|(?<![\w-])--(?P<name>[a-z][a-z-]*)(?:[ =]{VALUE})?")


_spoken = {"options": False}  # for the whole process, including a command's threads


@contextmanager
def naming_options() -> Iterator[None]:
    """Make errors name command-line options, even from threads or functions called inside."""
    before, _spoken["options"] = _spoken["options"], True
    try:
        yield
    finally:
        _spoken["options"] = before


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Make errors name function arguments instead of options, unless a command is running.

    Commands that an error recommends stay as they are typed.
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
    """Return the first line of an error's message, cut to fit into a sentence."""
    line = next(iter(str(problem).strip().splitlines()), "") or type(problem).__name__
    return line.rstrip(".") if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def damaged(path: Path, problem: object, advice: str = "") -> DamagedError:
    """Build the error for a file whose content has changed or is invalid.

    Args:
        path: the file.
        problem: what is wrong with it; only the first line is shown.
        advice: what to do, if not to delete the file and run the command again.
    """
    reason = in_short(problem)
    advice = advice or "delete it and run the same command again"
    error = DamagedError(f"{path} is damaged ({reason}); {advice}")
    error.reason = reason
    return error


def unknown(noun: str, name: str, known: Iterable[str]) -> SelbenchError:
    """Build the error for an unknown name; it suggests the nearest known one.

    Args:
        noun: the kind of thing, such as "suite".
        name: the unknown name.
        known: all valid names.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1) if len(name) <= LONGEST else []
    some = ", ".join(names[:MANY])
    listed = some if len(names) <= MANY else f"{some} and {len(names) - MANY} others"
    hint = f"did you mean {near[0]!r}?" if near else f"known are {listed}"
    return SelbenchError(f"unknown {noun} {name!r:.{LONGEST}}; {hint}")
