"""Messages on the cells that a run could not evaluate."""

from collections.abc import Sequence
from pathlib import Path

from selbench._kit.printable import printable
from selbench.store import INCOMPLETE, RUNNING, Cell, Failure, StudyStore, condition_id

LINES = 10  # reasons that are printed; the store has all
NAMES = 4  # conditions that are printed for each


def missing(failures: Sequence[Failure], earlier: int, folder: Path, command: str) -> str:
    """Return a message on which cells failed, why, and how to try them again.

    Args:
        failures: at least one.
        earlier: how many of them failed in an earlier run and were not tried again.
        folder: the folder of the study in the store.
        command: the user's command.
    """
    count = len(failures)
    head = f"{_cells(count, 'failed and')} missing"
    if earlier:
        which = "all" if earlier == count else f"{earlier} of them"
        head += f", {which} in an earlier run and not tried again"
    lines = _lines([(each.cell, f": {each.reason}") for each in failures])
    tail = f"the others are kept; {folder / 'failed'} says more; try again with `{command}`"
    return "\n".join(map(printable, [f"{head}:", *lines, tail]))


def lost(cells: Sequence[Cell], folder: Path, command: str) -> str:
    """Return a message on cells that another process removed, and how to evaluate them again."""
    head = f"{_cells(len(cells))} not in {folder} any more, removed while this run was at work:"
    lines = [head, *_lines([(each, "") for each in cells]), f"run `{command}` again"]
    return "\n".join(map(printable, lines))


def _cells(count: int, what: str = "") -> str:
    words = [str(count), "cells" if count > 1 else "cell", what, "are" if count > 1 else "is"]
    return " ".join(word for word in words if word)


def _lines(cells: Sequence[tuple[Cell, str]]) -> list[str]:
    """Return lines that name cells by network; cells with the same remark share a line."""
    together: dict[tuple[str, str], list[str]] = {}
    for cell, remark in cells:
        names = together.setdefault((cell.subject, remark), [])
        names.append(condition_id(cell.suite, cell.condition, cell.level))
    lines = [f"  {who}: {_some(names)}{remark}" for (who, remark), names in together.items()]
    if len(lines) > LINES:
        lines[LINES:] = [f"  and {len(lines) - LINES} others"]
    return lines


def unfinished(stores: Sequence[StudyStore]) -> list[str]:
    """Return a sentence for each study whose latest run is incomplete."""
    sentences = {
        RUNNING: "a run is still at work or was cut off; these are the results so far",
        INCOMPLETE: "its latest run lacks cells; these are the results without them",
    }
    states = [(store, store.manifest().get("state")) for store in stores]
    return [f"{store.folder}: {sentences[state]}" for store, state in states if state in sentences]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more
