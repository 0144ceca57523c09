"""Stores, archives and studies from strangers do no harm, and end in one sentence."""

import copy
import gzip
import io
import json
import os
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selbench._kit.errors import SelbenchError
from selbench.datasets.download import unpack
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.store.records import parse_cells

HOSTILE = [
    None,
    True,
    -(10**30),
    float("inf"),
    float("nan"),
    "../../../evil",
    "\0",
    [],
    {},
    [[[]]],
]
CELL = Cell("clean", "clean", 1, "g", "original", 1, "d", 9, "s", 0.0, 0, "t", "resnet8", "w", "h")
FACTS = {
    "data": "d",
    "training": "t",
    "conditions": {"clean/clean/1": ["original", 1, "d"]},
    "subjects": {"s": {"weights": "w", "training": "t"}},
    "study": {"model": {}},
    "command": ["run"],
}


@pytest.fixture
def content(store):
    """Write a cell with outcomes, and return what its file holds, but for the digest."""
    store.prepare()
    measurement = Measurement("accuracy", 0.5, 4, 1, "relu", 0.1)
    store.write([Result(CELL, [measurement])], pa.table({"key": [CELL.key], "example": [0]}))
    store.finish(FACTS)
    content = json.loads(record(store).read_text())
    del content["digest"]  # so that what is changed is looked at
    return content


def record(store):
    return next(store.folder.glob("cells/*.json"))


def readers(store):
    again = StudyStore(store.root, store.study)
    return again.keys, again.measurements, again.cells, again.outcomes, again.manifest


def refused_or_read(store):
    """Read everything in a store; what cannot be read must be named in one sentence."""
    for read in readers(store):
        with suppress(SelbenchError):
            read()
            continue
        with pytest.raises(SelbenchError, match=r"^[^\n]* is damaged \([^\n]*$"):
            read()


# Cells.


KINDS = get_type_hints(Cell) | get_type_hints(Measurement)


@pytest.mark.parametrize("name", KINDS)
def test_a_value_of_the_wrong_kind_is_damage(name, store, content):
    for value in HOSTILE:
        changed = copy.deepcopy(content)
        cell = changed["cells"][0]
        (cell["cell"] if name in vars(CELL) else cell["measurements"][0])[name] = value
        record(store).write_text(json.dumps(changed))
        if isinstance(value, str) and str in (KINDS[name], *get_args(KINDS[name])):
            refused_or_read(store)
        elif value is None and NoneType in get_args(KINDS[name]):
            path = record(store)
            parse_cells(path, path.read_bytes(), None)
        else:
            with pytest.raises(
                SelbenchError, match=rf"is damaged \({name} of a .* is .*\); delete"
            ):
                StudyStore(store.root, store.study).measurements()


@pytest.mark.parametrize("name", ["suite", "condition"])
@pytest.mark.parametrize("value", ["../evil", "/etc/evil", "a\\b", "\0"])
def test_what_names_files_leads_nowhere(name, value, store, content):
    content["cells"][0]["cell"][name] = value
    record(store).write_text(json.dumps(content))
    with pytest.raises(SelbenchError, match=f"is damaged \\({name} of a cell is "):
        store.measurements()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "null",
        "[]",
        '{"cells": {}}',
        '{"cells": [1]}',
        '{"cells": [{"key": "k"}]}',
        '{"cells": [], "digest": 1}',
        '{"cells": [], "outcomes": []}',
        '{"cells": [], "outcomes": {"bytes": "x", "sha256": "y"}}',
        '{"cells": ' + "[" * 100_000,
        '{"cells": ' + "9" * 10_000 + "}",
        "\xff\xfe",
    ],
)
def test_a_file_that_holds_no_cells_is_damage(text, store, content):
    record(store).write_bytes(text.encode("latin-1"))
    for read in readers(store)[:4]:
        with pytest.raises(SelbenchError, match=r"\.json is damaged \(.*\); delete it and run"):
            read()


def test_a_measurement_that_is_there_twice_is_damage(store, content):
    content["cells"][0]["measurements"] *= 2
    record(store).write_text(json.dumps(content))
    with pytest.raises(SelbenchError, match=r"is damaged \(a measurement is there twice\)"):
        store.measurements()


def test_pipes_folders_and_devices_are_no_cells(store, content):
    os.mkfifo(store.folder / "cells" / "0.json")
    (store.folder / "cells" / "1.json").mkdir()
    (store.folder / "cells" / "2.json").symlink_to("/dev/zero")
    assert store.keys() == {CELL.key}


# Outcomes, tables, manifests.


@pytest.mark.parametrize(
    "table", [{"x": [1]}, {"key": [1], "example": ["a"]}, {"key": [[]], "example": [{"a": 1}]}]
)
def test_other_outcomes_are_damage_or_of_nobody(table, store, content):
    path = record(store).with_suffix(".parquet")
    pq.write_table(pa.table(table), path)
    refused_or_read(store)
    with pytest.raises(SelbenchError, match=r"^[^\n]* (is damaged \(|lacks the outcomes of 1 )"):
        StudyStore(store.root, store.study).outcomes({CELL.key})


@pytest.mark.parametrize("content_", [b"", b"PAR1PAR1", b"PAR1" + b"\xff" * 4000 + b"PAR1"])
def test_no_parquet_is_damage(content_, store, content):
    record(store).with_suffix(".parquet").write_bytes(content_)
    with pytest.raises(SelbenchError, match=r"parquet is damaged \(.*\); delete it and the"):
        store.outcomes()


def leaves(value, path=()):
    yield path
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, dict | list):
            yield from leaves(each, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.usefixtures("content")
@pytest.mark.parametrize("path", [path for path in leaves(FACTS) if path], ids=str)
@pytest.mark.sample
def test_a_hostile_manifest_is_damage_or_harmless(path, store):
    for value in HOSTILE:
        changed = copy.deepcopy(FACTS)
        inner = changed
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        (store.folder / "manifest.json").write_text(json.dumps(changed))
        refused_or_read(store)


@pytest.mark.usefixtures("content")
@pytest.mark.parametrize("path", [path for path in leaves(FACTS) if path], ids=str)
@pytest.mark.sample
def test_commands_read_a_hostile_manifest_or_say_what_is_wrong(path, store, selbench):
    changed = copy.deepcopy(FACTS)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = HOSTILE[-1]
    (store.folder / "manifest.json").write_text(json.dumps(changed))
    assert selbench("leaderboard").code in (0, 2)
    assert selbench("claims").code in (0, 2)


@pytest.mark.parametrize("name", ["n", "version", "seed", "value", "alpha"])
@pytest.mark.parametrize("text", ["9" * 30, "9" * 5000, "1e999", "=cmd()", "../x", "nan", "-"])
@pytest.mark.sample("name")
def test_a_hostile_table_is_damage_or_a_number(name, text, store, content):
    path = store.folder / "measurements.csv"
    header, row = path.read_text().splitlines()
    fields = dict(zip(header.split(","), row.split(","), strict=True)) | {name: text}
    record(store).unlink()
    path.write_text(f"{header}\n{','.join(fields.values())}\n")
    refused_or_read(store)


def test_a_table_that_is_no_gzip_is_damage(store, content):
    record(store).unlink()
    path = store.folder / "measurements.csv"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_suffix(".csv.gz").write_bytes(packed[:-9])
    with pytest.raises(SelbenchError, match="is damaged"):
        store.measurements()


# Archives.


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


ARCHIVES = {
    "upwards": [member("../../evil")],
    "upwards inside": [member("set/../../../evil")],
    "absolute": [member("/evil")],
    "link out": [member("set/link", tarfile.SYMTYPE, "../../.."), member("set/link/evil")],
    "absolute link": [member("set/link", tarfile.SYMTYPE, "/"), member("set/link/evil")],
    "hard link": [member("set/evil", tarfile.LNKTYPE, "../../../secret")],
    "pipe": [member("set/evil", tarfile.FIFOTYPE)],
    "device": [member("set/evil", tarfile.CHRTYPE)],
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_writes_nothing_outside_its_folder(what, tmp_path):
    (tmp_path / "secret").write_text("secret")
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        for each in ARCHIVES[what]:
            packed.addfile(each, io.BytesIO())
    place = tmp_path / "data" / "sets" / "place"
    try:
        unpack(archive, place)
    except tarfile.TarError:
        assert not place.exists()
    outside = [path for path in tmp_path.rglob("evil") if place not in path.parents]
    assert outside == []
    assert not Path("/evil").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_fifo() or path.is_char_device()]
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_a_zip_writes_nothing_outside_its_folder(tmp_path):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("../../evil", "/evil", "C:/evil", "set/../../evil"):
            packed.writestr(name, "x")
    place = tmp_path / "data" / "place"
    unpack(archive, place)
    assert all(place in path.parents for path in tmp_path.rglob("evil"))
    assert not Path("/evil").exists()


# Studies.


CODE = {
    "model": ('"resnet8"', '"code.py:make"', r"unknown model 'code\.py:make'"),
    "module": ('"resnet8"', '"code:make"', r"unknown model 'code:make'"),
    "data set": ('"folder"', '"code.py:make"', r"unknown dataset 'code\.py:make'"),
    "suite": ('["clean"]', '["code.py:make"]', r"unknown suite 'code\.py:make'"),
    "option": ("width = 4", "width = \"__import__('code')\"", r"option width takes int, got"),
}


@pytest.mark.parametrize("what", CODE)
def test_a_study_cannot_name_code(what, refused, tiny_study, edit, match, monkeypatch):
    monkeypatch.syspath_prepend(tiny_study.parent)
    Path("code.py").write_text("open('ran', 'w')\ndef make(*a, **k): open('ran', 'w')\n")
    old, new, sentence = CODE[what]
    edit(tiny_study, old, new)
    match(sentence, refused("run", tiny_study, "--quiet"))
    assert not Path("ran").exists()
