"""The store: what is written is read again, each cell once, nothing in part."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from selbench._kit.errors import SelbenchError
from selbench.store import FORMAT, MEASURED, Cell, Measurement, Result, StudyStore, open_studies
from selbench.store.tidy import tidy

CELL = Cell(
    suite="corruptions",
    condition="fog",
    level=3,
    group="weather",
    source="generated",
    version=1,
    data="0123456789abcdef",
    limit=None,
    subject="alpha=-1 seed=0",
    alpha=-1.0,
    seed=0,
    training="fedcba9876543210",
    architecture="resnet8",
    weights="00112233",
)
OTHER = {
    "suite": "clean",
    "condition": "snow",
    "level": 4,
    "group": "noise",
    "source": "official",
    "version": 2,
    "data": "x",
    "limit": 100,
    "subject": "mine.pth",
    "alpha": 0.5,
    "seed": 1,
    "training": "y",
    "architecture": "resnet20",
    "weights": "z",
    "helper": "w",
}


@pytest.fixture
def store(tmp_path):
    return StudyStore(tmp_path / "runs", "mine")


def outcomes(*cells, n=4):
    """Return what an evaluation keeps of `n` examples for each of the cells."""
    columns = {
        "key": [cell.key for cell in cells for _ in range(n)],
        "example": np.tile(np.arange(n, dtype=np.int32), len(cells)),
        "label": np.zeros(n * len(cells), np.int16),
        "loss": np.linspace(0, 1, n * len(cells), dtype=np.float32),
    }
    return pa.table(columns)


def written(store, **change):
    """Write one cell, and return it."""
    cell = dataclasses.replace(CELL, **change)
    store.write([Result(cell, [Measurement("accuracy", 0.5, 4)])], outcomes(cell))
    return cell


# Keys.


def test_every_attribute_of_a_cell_has_another_value_to_try():
    assert set(OTHER) == {field.name for field in dataclasses.fields(Cell)}


@pytest.mark.parametrize("name", OTHER)
def test_key_depends_on_what_the_numbers_depend_on(name):
    other = dataclasses.replace(CELL, **{name: OTHER[name]})
    assert other.key != CELL.key


def test_equal_cells_have_equal_keys_for_everyone():
    assert dataclasses.replace(CELL).key == CELL.key == "8a07e91481c3497b"


# Writing and reading.


def test_new_store_is_empty(store):
    assert store.keys() == set()
    assert store.measurements().empty
    assert not store.finished


def test_written_cells_are_found_by_their_keys(store):
    first, second = written(store), written(store, level=4)
    assert store.keys() == {first.key, second.key}
    assert not store.finished


def test_measurements_are_those_written_with_their_cell(store):
    other = dataclasses.replace(CELL, alpha=None, seed=None, training="", weights="w", limit=9)
    results = [
        Result(CELL, [Measurement("accuracy", 0.1 + 0.2, 18), Measurement("units", 4.0, 18, 2)]),
        Result(other, [Measurement("accuracy", 1.0, 9)]),
    ]
    store.write(results)
    table = store.measurements()
    assert list(table.columns) == [*OTHER, *MEASURED]
    assert len(table) == 3
    first = table[(table["weights"] == CELL.weights) & (table["metric"] == "accuracy")].iloc[0]
    assert first["value"] == 0.1 + 0.2
    assert first["n"] == 18
    assert all(first[name] == value for name, value in dataclasses.asdict(CELL).items() if value)
    assert table[["limit", "seed", "layer"]].dtypes.eq("Int64").all()
    brought = table[table["weights"] == "w"].iloc[0]
    assert pd.isna(brought["alpha"])
    assert pd.isna(brought["seed"])
    assert list(table["layer"].dropna()) == [2]


def test_measurements_do_not_depend_on_the_order_of_writing(tmp_path):
    tables = []
    for order in ((1, 2, 3), (3, 1, 2)):
        store = StudyStore(tmp_path / str(order), "mine")
        for level in order:
            written(store, level=level)
        tables.append(store.measurements())
    assert tables[0].equals(tables[1])


def test_measurements_file_is_the_table_with_full_numbers(store):
    store.write([Result(CELL, [Measurement("accuracy", 1 / 3, 3)])])
    store.finish({})
    table = pd.read_csv(store.folder / "measurements.csv")
    assert list(table.columns) == list(store.measurements().columns)
    assert list(table["value"]) == [1 / 3]


def test_outcomes_are_one_row_per_cell_and_example(store):
    cells = [dataclasses.replace(CELL, weights=weights) for weights in "ab"]
    results = [Result(cell, [Measurement("accuracy", 0.5, 4)]) for cell in cells]
    store.write(results, outcomes(*cells))
    third = written(store, level=5)
    table = store.outcomes().to_pandas()
    assert len(table) == 12
    assert set(table["key"]) == {cells[0].key, cells[1].key, third.key}
    assert table.groupby("key")["example"].apply(list).tolist() == [[0, 1, 2, 3]] * 3


def test_outcomes_of_cells_that_were_never_finished_are_left_out(store):
    written(store)
    stopped = written(store, level=5)
    for path in store.folder.glob("cells/*.json"):
        if stopped.key in path.read_text():
            path.unlink()  # as after a stop between the two files
    assert set(store.outcomes()["key"].to_pylist()) == {CELL.key}


def test_cells_written_again_replace_the_first(store):
    written(store)
    store.write([Result(CELL, [Measurement("accuracy", 0.75, 4)])], outcomes(CELL))
    assert list(store.measurements()["value"]) == [0.75]
    assert len(store.outcomes()) == 4


def test_failed_write_leaves_no_cell(store, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("selbench.store.records.pq.write_table", full)
    with pytest.raises(SelbenchError, match=r"cannot write .*parquet: No space left on device"):
        written(store)
    assert store.keys() == set()
    assert not list(store.folder.rglob("*.*"))


def test_manifest_is_the_one_written_last(store):
    facts = {"data": "d", "training": "t", "conditions": {}, "subjects": {}}
    store.finish(facts | {"evaluated": 1})
    store.finish(facts | {"evaluated": 2})
    assert store.finished
    assert store.manifest()["evaluated"] == 2


def test_a_manifest_that_lacks_what_tables_read_is_called_damaged(store):
    store.finish({"data": "d"})
    with pytest.raises(SelbenchError, match=r"manifest.json is damaged \(.*\); delete it and run"):
        store.manifest()


def test_studies_of_one_store_are_apart(tmp_path):
    one, other = (StudyStore(tmp_path, name) for name in ("one", "other"))
    written(one)
    assert other.keys() == set()


# Opening.


def test_finished_studies_are_opened_in_order(tmp_path):
    for name in ("b", "a", "unfinished"):
        store = StudyStore(tmp_path, name)
        store.prepare()
        written(store)
        if name != "unfinished":
            store.finish({})
    assert [store.study for store in open_studies(tmp_path)] == ["a", "b"]
    assert [store.study for store in open_studies(tmp_path, "b")] == ["b"]
    with pytest.raises(SelbenchError, match=r"unknown study in the store .* 'c'; known are a, b"):
        open_studies(tmp_path, "c")


def test_store_without_results_says_how_to_make_some(tmp_path):
    with pytest.raises(SelbenchError, match=r"no results in .*none; make some with `selbench run`"):
        open_studies(tmp_path / "none")


def test_store_checks_in_a_new_and_in_its_own_folder(store):
    store.prepare()
    store.prepare()
    assert (store.folder.parent / "selbench.json").is_file()


@pytest.mark.parametrize("content", [f'{{"format": {FORMAT + 1}}}', "{}", "[]", '"x"', "null"])
def test_store_of_another_version_is_refused_and_left_as_it_is(content, store, tmp_path):
    marker = tmp_path / "runs" / "selbench.json"
    marker.parent.mkdir()
    marker.write_text(content)
    message = (
        rf"runs has format .*, this version of selbench reads format 2 and {FORMAT}; use the "
        "version that"
    )
    with pytest.raises(SelbenchError, match=message):
        store.prepare()
    with pytest.raises(SelbenchError, match=message):
        open_studies(tmp_path / "runs")
    assert marker.read_text() == content


def test_damaged_file_of_a_cell_is_named(store):
    written(store)
    (path,) = store.folder.glob("cells/*.json")
    path.write_text("[{")
    for read in (store.keys, store.measurements):
        with pytest.raises(SelbenchError, match=rf"{path} is damaged .*; delete it and run"):
            read()


def test_rows_are_sorted_by_every_column_and_what_is_missing_comes_last():
    values = {"layer": (10, None, 9), "level": (0.5, None, -1.0), "subject": ("b", None, "a")}
    for name, (most, missing, least) in values.items():
        rows = [{"suite": "s", name: each} for each in (missing, most, least)]
        found = tidy([{"suite": "t", name: least}, *rows], ("suite", name))
        assert found["suite"].tolist() == ["s", "s", "s", "t"]
        assert found[name].tolist()[:2] == [least, most]
        assert found[name].isna().tolist() == [False, False, True, False]
