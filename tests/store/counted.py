"""A server that tests look into, and a small store to be put there."""

import dataclasses
from collections import Counter
from threading import local

import fsspec
import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem
from written import CELL, FACTS

from selbench._kit.places import place
from selbench.store import Measurement, Result, StudyStore

ASKED = ("info", "ls", "cat_file", "cat", "put_file", "pipe_file", "rm_file", "rm")


class Counted(MemoryFileSystem):
    """A server that renames nothing, counts what it is asked, and may refuse."""

    protocol = "counted"
    store, pseudo_dirs = {}, [""]  # its own
    asked, refusing = Counter(), {}
    listed, within = {}, local()  # listings are remembered until it is told to forget them

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def ls(self, path, detail=True, **options):
        kept = self._strip_protocol(path)
        if kept not in self.listed:
            self.listed[kept] = super().ls(path, detail=True)
        return self.listed[kept]

    def invalidate_cache(self, path=None):
        self.listed.clear()

    def mv(self, *arguments, **options):
        raise NotImplementedError("an object store has no rename")

    mv_file = rename = move = mv


def counting(name):
    genuine = getattr(Counted, name)

    def ask(self, *arguments, **options):
        outer = not getattr(Counted.within, "busy", False)
        if outer:
            Counted.asked[name] += 1
            if name in Counted.refusing:
                raise Counted.refusing[name]
        Counted.within.busy = True
        try:
            return genuine(self, *arguments, **options)
        finally:
            Counted.within.busy = not outer

    return ask


for each in ASKED:
    setattr(Counted, each, counting(each))


def begin_empty():
    """Begin with servers that hold nothing."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    for server in (MemoryFileSystem, Counted):
        server.store.clear()
        server.pseudo_dirs[:] = [""]
    Counted.asked.clear()
    Counted.refusing.clear()


def cells_of(number):
    return [dataclasses.replace(CELL, weights=f"w{index}") for index in range(number)]


def fill(store, number=3):
    """Write so many files of one cell with outcomes, and the tables."""
    store.prepare()
    for cell in cells_of(number):
        table = pa.table({"key": [cell.key] * 3, "example": range(3), "loss": [0.5] * 3})
        store.write([Result(cell, [Measurement("accuracy", 0.5, 3)])], table)
    store.finish(FACTS)
    return store


def reopened(store):
    return StudyStore(place(str(store.root)), store.study)


def bytes_in(folder):
    """Return what lies below a folder, here or at a URL: contents by names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path)[len(str(folder)) :]: path.read_bytes() for path in files}


def requests(ask):
    Counted.asked.clear()
    result = ask()
    return result, sum(Counted.asked.values())
