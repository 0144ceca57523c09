"""The results of one study in memory, as they were when they were read."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from selbench.store.records import Record
from selbench.store.study_store import StudyStore

RIGHT = ("key", "example", "label", "prediction")  # the columns of outcomes that tables read
T = TypeVar("T")


class HeldStore(StudyStore):
    """A copy of a store in memory, for tables: files may change or be deleted later.

    It has the manifest and the cells of `store`, and no outcomes until `keep`.
    """

    def __init__(self, store: StudyStore) -> None:
        super().__init__(store.root, store.study)
        self._source = store
        self._content = store.manifest()
        self._held = list(store._records())
        self._table = pa.table({"key": []})

    @property
    def begun(self) -> bool:
        """Whether there are cells."""
        return bool(self._held)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        return dict(self._content)

    def keep(self, subjects: Collection[str], keys: Collection[str]) -> None:
        """Drop other networks, and read the outcomes of the cells with these keys."""
        known = self._content["subjects"]
        self._content["subjects"] = {name: known[name] for name in known if name in subjects}
        self._held = [each for each in self._held if each.cell["subject"] in subjects]
        table = self._source.steadily(lambda paths: self._source._outcomes(paths, keys))
        self._table = table.select([name for name in RIGHT if name in table.column_names])

    def steadily(
        self, read: Callable[[Sequence[Path]], T], listed: Sequence[Path] | None = None
    ) -> T:
        """Return the result of `read`, for no files."""
        return read(())

    def _outcomes(self, paths: Sequence[Path], keys: Collection[str] | None) -> pa.Table:
        return self._table

    def _records(self) -> Iterator[Record]:
        return iter(self._held)
