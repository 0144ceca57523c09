"""Checks the cache in SELBENCH_HOME: trained networks, images, checksums.

Other commands remake damaged files without a message; here they are listed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from selbench._kit.errors import DamagedError, SelbenchError
from selbench._kit.files import cannot_write, has_ended, home, is_md5
from selbench._kit.locks import Holder, Locks
from selbench.datasets.cache import flaw as flaw_of_images
from selbench.sets.source import survey_in
from selbench.training import flaws as flaws_of_training

TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)-[0-9a-f]+\.tmp")


@dataclass(frozen=True)
class Fault:
    """A problem with a file.

    Attributes:
        path: the file.
        problem: what is wrong, in words.
        remove: files to remove so that a run makes them again.
        harmless: whether nothing is damaged: an interrupted run left the file, or it is out of
            date.
    """

    path: Path
    problem: str
    remove: tuple[Path, ...] = ()
    harmless: bool = False


@dataclass
class HomeFindings:
    """Results of checking the cache: the number of files, the faults, and running processes."""

    folder: Path
    files: int = 0
    faults: list[Fault] = field(default_factory=list)
    busy: list[Holder] = field(default_factory=list)


def verify_home(folder: Path | None = None) -> HomeFindings:
    """Check every file of the cache, or of another folder with the same layout."""
    found = HomeFindings(folder or home())
    locks = Locks(found.folder / "locks")
    found.busy = [*locks.held_by_others().values()]
    for place in sorted((found.folder / "weights").glob("*/")):
        flaws = list(flaws_of_training(place))
        found.files += sum(not path.name.startswith(".") for path in place.iterdir())
        # A training in progress replaces several files, one after another.
        held = place.name in locks.held_by_others()
        found.faults += [] if held else [Fault(*flaw) for flaw in flaws]
    for pattern, flaw in CHECKS.items():
        for path in sorted(found.folder.glob(pattern)):
            found.files += 1
            if (problem := flaw(path)) and path.exists():
                found.faults.append(Fault(path, problem, (path,)))
    found.faults += _left_behind(found, locks)
    return found


def repair_home(found: HomeFindings) -> None:
    """Remove damaged files and leftovers."""
    if found.busy:
        raise SelbenchError(f"{found.busy[0]} is running; repair the cache when it has ended")
    for path in dict.fromkeys(path for each in found.faults for path in each.remove):
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise cannot_write(path, problem) from problem


def _left_behind(found: HomeFindings, locks: Locks) -> Iterator[Fault]:
    places = (found.folder, *(found.folder / name for name in ("datasets", "md5", "surveys")))
    temporary = [path for place in places for path in place.glob(".*.tmp")]
    for path in sorted([*temporary, *(found.folder / "weights").glob("*/.*.tmp")]):
        match = TEMPORARY.fullmatch(path.name)
        if match and has_ended(int(match["process"])):
            yield Fault(path, "a run was interrupted while writing it", (path,), harmless=True)
    live = locks.held_by_others()
    for path in sorted(locks.folder.glob("*.lock")):
        if path.stem not in live:
            yield Fault(path, "the run that held it has ended", (path,), harmless=True)


def _of_survey(path: Path) -> str:
    try:
        survey_in(path)
    except DamagedError as problem:
        return problem.reason
    except ValueError:
        return "it is damaged"
    return ""


CHECKS: dict[str, Callable[[Path], str]] = {
    "datasets/*.safetensors": flaw_of_images,
    "surveys/*.json": _of_survey,
    "md5/[!.]*": lambda path: "" if is_md5(path) else "it is damaged, or of an earlier version",
}
