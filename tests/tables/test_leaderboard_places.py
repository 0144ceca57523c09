"""Where results are read from: a study, a store, or a folder of tables alone."""

import gzip
import json
import shutil

import pandas as pd
import pytest
from studies import write_study

from selbench._kit.errors import SelbenchError
from selbench.store import CELL, MEASURED, Cell, Measurement, Result, StudyStore, open_places
from selbench.store.tidy import PARQUET, csv_of, parquet_of, read_tidy, tidy
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS

COLUMNS = [*CELL, *MEASURED]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a store of which tests take copies."""
    root = tmp_path_factory.mktemp("written") / "runs"
    write_study(root, alphas=(-2, -1, 0, 1))
    return root


@pytest.fixture
def results(written, root, tmp_path):
    """Copy what a study's tables are made of, as it is committed: no cells."""
    shutil.copytree(written, root)
    folder = tmp_path / "results" / "study"
    folder.mkdir(parents=True)
    for name in ("measurements.csv", "manifest.json"):
        shutil.copy(root / "study" / name, folder / name)
    return folder


def found(places, root):
    return [str(each.folder) for each in open_places(places, root)]


# Places.


def test_a_place_is_a_study_of_the_store_or_a_folder(root, tmp_path, monkeypatch):
    for name in ("one", "other"):
        write_study(root, name)
    assert found([], root) == found([str(root)], root) == [f"{root}/one", f"{root}/other"]
    assert found(["other"], root) == found([f"{root}/other"], root) == [f"{root}/other"]
    assert found(["other", "one", f"{root}/other/"], root) == [f"{root}/other", f"{root}/one"]
    assert found(["one", f"{root}/../runs/one"], root) == [f"{root}/one"]
    monkeypatch.chdir(root / "one")
    assert [each.study for each in open_places(["."], root)] == ["one"]
    assert [each.study for each in open_places([".."], root)] == ["one", "other"]
    monkeypatch.setenv("HOME", str(root))
    assert found(["~/one"], root) == [f"{root}/one"]


def test_the_name_of_a_study_goes_before_a_folder_of_that_name(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(root, "study")
    write_study(tmp_path, "study")
    assert found(["study"], root) == [f"{root}/study"]
    assert found(["./study"], root) == ["study"]
    shutil.rmtree(root)
    assert found(["study"], root) == ["study"]


def test_a_place_that_is_none_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SelbenchError, match=r"^there are no results in .*runs; make some with"):
        open_places(["study"], root)
    write_study(root)
    with pytest.raises(
        SelbenchError, match=r"^unknown study in the store .* 'stuby'; did you mean"
    ):
        open_places(["stuby"], root)
    with pytest.raises(SelbenchError, match=r"^there is no folder results/study; name a study of"):
        open_places(["results/study"], root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SelbenchError, match=r"^there are no results in empty; make some with"):
        open_places(["empty"], root)


def test_a_folder_of_another_version_is_refused(root):
    write_study(root)
    (root / "selbench.json").write_text('{"format": 99}')
    with pytest.raises(SelbenchError, match="has format 99"):
        open_places([f"{root}/study"], root)


# Tables without cells.


def test_measurements_are_the_same_to_the_last_bit(root, results):
    store = StudyStore(root, "study")
    kept = StudyStore(results.parent, "study").measurements()
    assert kept.to_csv() == store.measurements().to_csv()
    gaps = ["layer_name"]  # all missing, as None or as NaN
    pd.testing.assert_frame_equal(kept.drop(columns=gaps), store.measurements().drop(columns=gaps))


def test_numbers_names_and_gaps_survive_the_file(tmp_path):
    store = write_study(tmp_path, alphas=(-0.7, 1 / 3), seeds=(2**63 - 1,), brought=["NA", "1e5"])
    odd = ["nan", "", 'a,"b"\nc', "NULL", "é <b>"]
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.12345678]
    cell = Cell("more", "c", None, "", "s", 1, "d", None, "x", None, None, "", "a", "w")
    store.write(
        [Result(cell, [Measurement("m", v, 3, i, odd[i] or None, v) for i, v in enumerate(values)])]
    )
    store.finish(store.manifest())
    before = store.measurements()
    shutil.rmtree(store.folder / "cells")
    after = StudyStore(tmp_path, "study").measurements()
    pd.testing.assert_frame_equal(before, after)
    assert set(values) <= set(after["value"])
    assert {"NA", "1e5"} <= set(after["subject"])
    assert after["seed"].max() == 2**63 - 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.sample
def test_tables_of_a_results_folder_have_the_bytes_of_the_store(root, results, packed):
    if packed:
        path = results / "measurements.csv"
        (results / "measurements.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    store, kept = StudyStore(root, "study"), StudyStore(results.parent, "study")
    boards = leaderboard(store), leaderboard(kept)
    for name, render in FORMATS.items():
        assert render([boards[0]]) == render([boards[1]]), name


def test_every_reader_takes_a_results_folder(root, results, selbench):
    shutil.rmtree(root)
    ended = selbench("leaderboard", results, "--format", "json")
    (board,) = json.loads(ended.out)
    assert [row["subject"] for row in board["rows"]] == ["-2", "-1", "0", "1"]
    assert selbench("claims", results, "--claim", "B1", "--format", "json").code == 0
    assert selbench("figure", "attacks", results, "--output", "a.svg").code == 0
    assert selbench("leaderboard", "--store", results.parent).code == 0


def test_missing_suites_name_a_run_elsewhere(results, refused):
    assert refused("leaderboard", results, "--columns", "fgsm") == (
        "study has no numbers for the column fgsm; make some with `selbench run study --suite "
        "attacks`"
    )
    assert refused("claims", results, "--claim", "D1").endswith(
        "run `selbench run study --suite dimensionality` first"
    )


def test_a_figure_needs_one_study(root, refused):
    write_study(root, "one")
    write_study(root, "other")
    assert refused("figure", "attacks") == "runs holds the studies one, other; name one of them"
    assert refused("figure", "attacks", root).startswith(f"{root} holds the studies one, other")


# Damaged files.


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("metric,value", "metric,valeu", "it lacks the column value"),
        (",accuracy,0.9,", ",accuracy,high,", r".*Row #\d+: .*invalid value 'high'"),
        (",accuracy,0.9,", ",accuracy,,", r"it has no value in line \d+"),
        (",accuracy,0.9,", ",accuracy,inf,", "inf is no number"),
        (",accuracy,0.9,", ",accuracy,nan,", "nan is no number"),
        (",accuracy,0.9,,10", ",accuracy,0.9,,10.5", r".*invalid value '10.5'"),
        ("alpha=1 seed=0,1.0,0", "alpha=1 seed=0,1.0,zero", r".*invalid value 'zero'"),
        ("alpha=0 seed=1,0.0,1", "alpha=0 seed=0,0.0,0", r"its line \d+ repeats another"),
        (
            ",accuracy,0.9,,10\n",
            ",accuracy,0.9,,10,1,2\n",
            r".*Row #\d+: Expected \d+ columns",
        ),
    ],
)
def test_a_damaged_table_is_refused_and_named(results, old, new, reason):
    path = results / "measurements.csv"
    text = path.read_text()
    assert old in text
    path.write_text(
        text.replace(old, new).replace("w-study-alpha=0 seed=1", "w-study-alpha=0 seed=0")
    )
    message = rf"^{path} is damaged \({reason}.*\); restore it, or make the measurements again with"
    with pytest.raises(SelbenchError, match=message):
        StudyStore(results.parent, "study").measurements()


@pytest.mark.parametrize("ending", ['"', "clean,clean", "clean,clean,,x,y,1,d,,a"])
def test_a_table_cut_short_is_refused(results, ending):
    path = results / "measurements.csv"
    path.write_text(path.read_text() + ending)
    with pytest.raises(SelbenchError, match=f"^{path} is damaged"):
        StudyStore(results.parent, "study").measurements()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x1f\x8b\x08\x00damaged", b"a\x00b"])
@pytest.mark.parametrize("name", ["measurements.csv", "measurements.csv.gz", PARQUET])
def test_what_is_no_table_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SelbenchError, match=f"{name} is damaged"):
        read_tidy(tmp_path / name, COLUMNS)


def test_a_packed_table_cut_short_is_refused(results):
    path = results / "measurements.csv"
    packed = gzip.compress(path.read_bytes())
    (results / "measurements.csv.gz").write_bytes(packed[: len(packed) // 2])
    path.unlink()
    with pytest.raises(SelbenchError, match=r"measurements\.csv\.gz is damaged"):
        leaderboard(StudyStore(results.parent, "study"))


@pytest.mark.parametrize(
    "words", ["leaderboard", "claims", "figure tradeoff", "calibration", "report"]
)
def test_a_lost_table_is_named(results, refused, words):
    (results / "measurements.csv").unlink()
    verb, *rest = words.split()
    output = ["--output", "a.svg"] if verb == "figure" else []
    assert refused(verb, *rest, results, *output) == (
        f"{results}/measurements.csv is missing; restore it, or make the measurements again with "
        "`selbench run`"
    )


def test_parquet_holds_what_csv_holds(tmp_path):
    facts = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("level", "alpha", "error", "limit"))
    facts |= {"seed": 2**63 - 1, "layer": None, "layer_name": "relu", "version": 1, "n": 5}
    texts = ("=1+1", "'=1+1", "with, comma", "new\nline", "é")
    table = tidy([facts | {"subject": each, "value": 0.1 + 0.2} for each in texts], COLUMNS)
    (tmp_path / "measurements.csv").write_text(csv_of(table))
    (tmp_path / PARQUET).write_bytes(parquet_of(table))
    for name in ("measurements.csv", PARQUET):
        pd.testing.assert_frame_equal(read_tidy(tmp_path / name, COLUMNS), table)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("value", ["x", "y"], "Failed to parse string: '.' as a scalar of type double"),
        ("value", [0.5, float("inf")], "inf is no number"),
        ("subject", ["a", "a"], "its line 3 repeats another"),
        ("subject", ["a", None], "it has no subject in some line"),
        ("n", [1, None], "it has no n in line 3"),
        (None, None, "it lacks the column suite"),
    ],
)
def test_a_wrong_parquet_table_is_refused(tmp_path, column, values, reason):
    facts = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("level", "alpha", "error", "limit"))
    facts |= {"seed": None, "layer": None, "version": 1, "n": 5, "value": 0.5}
    table = pd.DataFrame([facts | {"subject": each} for each in "ab"])
    wrong = table.drop(columns="suite") if column is None else table.assign(**{column: values})
    wrong.to_parquet(tmp_path / PARQUET)
    with pytest.raises(SelbenchError, match=f"{PARQUET} is damaged \\(.*{reason}"):
        read_tidy(tmp_path / PARQUET, COLUMNS)


def test_further_columns_are_left_out(results):
    path = results / "measurements.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.assign(more="x").to_csv(path, index=False)
    found = read_tidy(path, COLUMNS)
    assert list(found) == COLUMNS
    texts = [found[name].dtype for name in ("suite", "condition", "subject")]
    assert {kind.storage for kind in texts} == {"python"}  # of few different ones, it is smaller
    assert pd.get_option("mode.string_storage") != "python"  # whoever imports selbench keeps theirs


def test_cells_go_before_the_table(root):
    store = write_study(root)
    (store.folder / "measurements.csv").write_text("damaged")
    assert len(store.measurements()) > 0
