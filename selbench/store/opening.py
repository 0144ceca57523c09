"""Open studies: in a store by name, or by their folder."""

from collections.abc import Sequence
from pathlib import Path

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.places import place as path_of
from selbench.store.study_store import MARK, StudyStore, check_format


def open_studies(root: Path, name: str | None = None) -> list[StudyStore]:
    """Return the studies of a store that have a manifest; `name` chooses one.

    Raises:
        SelbenchError: if the store or the study does not exist, or has another version's format.
    """
    check_format(root)
    names = sorted(path.parent.name for path in root.glob(f"*/{MARK}"))
    if not names:
        raise SelbenchError(
            f"there are no results in {root}; make some with `selbench run`, or give --store"
        )
    if name is not None and name not in names:
        raise unknown(f"study in the store {root}", name, names)
    return [StudyStore(root, each) for each in names if name in (None, each)]


def open_places(places: Sequence[str], root: Path) -> list[StudyStore]:
    """Return the studies at places, without repeats; without places, those of the store `root`.

    A place is the name of a study in `root`; the folder of a study (with a manifest.json), also
    outside of a store; or the folder of a store, for all its studies. Folders may be URLs.

    Raises:
        SelbenchError: if a place is none of these, and as `open_studies`.
    """
    if not places:
        return open_studies(root)
    found: dict[Path, StudyStore] = {}
    for place in places:
        for each in _at(place, root):
            found.setdefault(each.folder.resolve(), each)
    return list(found.values())


def _at(place: str, root: Path) -> list[StudyStore]:
    """Return the studies at one place."""
    plain, folder = Path(place).name == place, path_of(place).expanduser()
    if not plain or (folder.is_dir() and not (root / place / MARK).is_file()):
        if (folder / MARK).is_file():
            study_folder = folder if folder.name not in ("", "..") else folder.resolve()
            check_format(study_folder.parent)
            return [StudyStore(study_folder.parent, study_folder.name)]
        if not folder.is_dir():
            raise SelbenchError(
                f"there is no folder {place}; name a study of --store, or the folder of a store or "
                "of a study"
            )
        return open_studies(folder)
    return open_studies(root, place)
