"""Cells are packed into few files: at no moment is one lost or doubled, whoever reads meanwhile."""

import dataclasses
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed import NUMBER, files, fill, reopened, said
from stopped import KilledError
from written import CELL, FACTS

from selbench._kit.errors import DamagedError, SelbenchError
from selbench.commands.verification import repair, verify
from selbench.store import Result, StudyStore, packs, records, study_store

pytestmark = pytest.mark.long(12)


@pytest.fixture
def loose(store):
    """Write a store whose files were not packed yet."""
    store.prepare()
    fill(store)
    return store


def test_small_files_become_one_pack_that_says_the_same(loose):
    before = said(loose)
    loose.finish(FACTS)
    assert said(loose) == before
    assert [name.partition("-")[0] for name in files(loose)] == ["pack", "pack"]
    assert verify(loose).faults == []


def test_a_pack_says_who_wrote_how_many_files(loose):
    other = StudyStore(loose.root, loose.study, {"command": ["run", "again"]})
    fill(other, first=NUMBER, number=2)
    loose.finish(FACTS)
    fill(other, first=NUMBER + 2, number=1)
    loose.finish(FACTS)
    assert len(files(loose)) == 2
    assert {tuple(made["command"]): count for made, count in loose.written()} == {
        ("run",): NUMBER,
        ("run", "again"): 3,
    }
    made = json.loads(next(loose.folder.glob("cells/*.json")).read_text())
    commands = [writer["made"]["command"] for writer in made["writers"]]
    by_level = {each["cell"]["level"]: commands[each["writer"]] for each in made["cells"]}
    assert by_level[0.0] == ["run"]
    assert by_level[float(NUMBER)] == ["run", "again"]


def test_what_is_packed_is_not_written_again_for_nothing(loose):
    loose.finish(FACTS)
    before = {path: path.stat().st_mtime_ns for path in loose.folder.glob("cells/*")}
    loose.finish(FACTS)
    assert {path: path.stat().st_mtime_ns for path in loose.folder.glob("cells/*")} == before


def test_outcomes_without_a_column_lack_it_and_no_other(loose):
    cell = dataclasses.replace(CELL, level=99.0)
    table = pa.table({"key": [cell.key], "example": [0], "brier": [0.5]})
    loose.write([Result(cell, [])], table)
    before = said(loose)
    loose.finish(FACTS)
    assert said(loose) == before
    table = reopened(loose).outcomes({cell.key}).to_pandas()
    assert table["brier"].tolist() == [0.5]
    assert table["loss"].isna().all()


def test_large_stores_are_packs_of_bounded_size_written_in_pieces(loose, monkeypatch):
    before = said(loose)
    weight = max(packs.weights_of([*loose.folder.glob("cells/*.json")]).values())
    monkeypatch.setattr(records, "FULL", 2 * weight)
    monkeypatch.setattr(packs, "FULL", 2 * weight)
    monkeypatch.setattr(packs, "ROWS", 2)
    loose.finish(FACTS)
    assert said(loose) == before
    paths = [*loose.folder.glob("cells/*.parquet")]
    assert len(paths) > 1
    packed = [pq.ParquetFile(path).metadata for path in paths if path.name.startswith("pack")]
    assert packed
    assert all(each.row_group(0).num_rows == 2 < each.num_rows for each in packed)


def test_each_file_is_written_again_a_few_times_however_many_runs_add(monkeypatch):
    monkeypatch.setattr(packs, "SMALL", 1)
    weights, written = {}, 0
    for run in range(200):
        weights |= {f"{run}": 1, f"{run}b": 1}
        for group in packs.due(weights):
            total = sum(weights.pop(name) for name in group)
            weights[f"pack-{run}"] = total
            written += total
    assert len(weights) <= 9  # about the logarithm
    assert written <= 400 * 9


# Kills.


@pytest.mark.parametrize("further", [0, pytest.param(2, marks=pytest.mark.soak)])
def test_a_kill_at_any_touch_of_the_disk_loses_and_doubles_nothing(further, loose, stops, tmp_path):
    if further:  # a pack is there already
        loose.finish(FACTS)
        fill(loose, first=NUMBER, number=further)
    before, kept = said(loose), tmp_path / "kept"
    shutil.copytree(loose.root, kept)
    counted = stops(-1)
    loose.finish(FACTS)
    touches, whole = counted["seen"], files(loose)
    assert touches > 4
    for moment in range(touches):
        shutil.rmtree(loose.root)
        shutil.copytree(kept, loose.root)
        stops(moment)
        with pytest.raises(KilledError):
            reopened(loose).finish(FACTS)
        stops(-1)
        assert said(loose) == before
        assert all(each.harmless for each in verify(reopened(loose)).faults)
        reopened(loose).finish(FACTS)
        assert said(loose) == before
        assert files(loose) == whole
    assert verify(reopened(loose)).faults == []


def test_a_kill_between_table_and_manifest_is_no_damage(loose, monkeypatch):
    loose.finish(FACTS)
    fill(loose, first=NUMBER, number=1)
    genuine = study_store.write_text

    def killed(*arguments):
        genuine(*arguments)
        raise KilledError

    monkeypatch.setattr(study_store, "write_text", killed)
    with pytest.raises(KilledError):
        loose.finish(FACTS)
    assert [each for each in verify(reopened(loose)).faults if not each.harmless] == []


# Readers beside a run that packs.


@pytest.mark.parametrize("reader", ["keys", "measurements", "cells", "outcomes"])
@pytest.mark.parametrize("where", ["read_files", "read_outcomes", "cell_files"])
@pytest.mark.sample
def test_a_reader_sees_all_while_another_run_packs(reader, where, loose, monkeypatch):
    """The other run packs at the moment that files were listed, or are about to be read."""
    if (reader, where) in [("keys", "read_outcomes")]:
        return
    before = said(loose)
    genuine, packed = getattr(study_store, where), []

    def meanwhile(*arguments):
        found = genuine(*arguments)
        if not packed:
            packed.append(1)
            reopened(loose).finish(FACTS)
        return found

    again = reopened(loose)
    monkeypatch.setattr(study_store, where, meanwhile)
    found = getattr(again, reader)()
    monkeypatch.undo()
    assert packed or (where, reader) == ("read_outcomes", "measurements") or where != "cell_files"
    if reader == "keys":
        assert found == before["keys"]
    elif reader == "outcomes":
        assert len(found) == 6 * (NUMBER - 1)
    else:
        assert found.to_csv() == before["rows" if reader == "measurements" else "cells"]


def test_a_listing_that_missed_a_file_and_its_pack_is_made_again(loose, monkeypatch):
    before, genuine, calls = said(loose), study_store.cell_files, []

    def listed(folder):
        calls.append(1)
        if len(calls) > 1:
            return genuine(folder)
        reopened(loose).finish(FACTS)
        return []  # it had passed the pack's place, and the files went before it came to theirs

    again = reopened(loose)
    monkeypatch.setattr(study_store, "cell_files", listed)
    assert len(again.cells()) == len(before["keys"])


def test_a_file_that_cannot_be_read_is_told_and_not_waited_for(loose, monkeypatch):
    def refusing(paths):
        raise SelbenchError("cannot read it")

    monkeypatch.setattr(study_store, "read_files", refusing)
    with pytest.raises(SelbenchError, match=r"^cannot read it$"):
        loose.measurements()


# Damage.


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_every_bit_of_a_pack_counts(loose):
    loose.finish(FACTS)
    path = next(loose.folder.glob("cells/*.json"))
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for read in ("keys", "measurements", "cells", "outcomes"):
            with pytest.raises(DamagedError, match=rf"^{path} is damaged \("):
                getattr(reopened(loose), read)()
    path.write_bytes(content)
    flipped(path.with_suffix(".parquet"))
    with pytest.raises(DamagedError, match=r"parquet is damaged \(its content is not what was"):
        reopened(loose).outcomes()


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_damaged_pack_is_named_and_its_cells_are_evaluated_again(suffix, loose):
    loose.finish(FACTS)
    before = said(loose)
    path = next(loose.folder.glob(f"cells/*{suffix}"))
    flipped(path)
    (fault,) = verify(reopened(loose)).faults
    assert (fault.path, fault.harmless) == (path, False)
    repair(verify(reopened(loose)))
    assert (reopened(loose).keys(), reopened(loose).manifest()["state"]) == (set(), "incomplete")
    fill(loose)
    reopened(loose).finish(FACTS)
    assert said(loose) == before
    assert verify(reopened(loose)).faults == []


def test_half_a_pack_heals_once_its_cells_are_evaluated_again(loose):
    loose.finish(FACTS)
    before = said(loose)
    path = next(loose.folder.glob("cells/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    assert reopened(loose).keys() == set()
    fill(loose)
    reopened(loose).finish(FACTS)
    assert said(loose) == before
    assert len(files(loose)) == 2
    assert verify(reopened(loose)).faults == []


def test_damaged_outcomes_are_not_packed_with_others(loose):
    path = next(loose.folder.glob("cells/*.parquet"))
    flipped(path)
    loose.finish(FACTS)
    assert [each.path for each in verify(reopened(loose)).faults] == [path]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("writers", 1),
        ("writers", []),
        ("writers", [1]),
        ("writers", [{"made": [], "files": 1}]),
        ("writers", [{"made": {}, "files": "1"}]),
        ("made", {"command": "x"}),
        ("made", {"versions": []}),
    ],
)
def test_writers_of_the_wrong_kind_are_damage(name, value, loose):
    loose.finish(FACTS)
    path = next(loose.folder.glob("cells/*.json"))
    content = json.loads(path.read_text())
    del content["digest"]
    del content["writers"]
    path.write_text(json.dumps(content | {name: value}))
    with pytest.raises(DamagedError, match=rf"^{path} is damaged \("):
        reopened(loose).measurements()


# States.


def test_a_manifest_says_whether_a_run_is_at_work_and_whether_all_is_there(loose):
    with loose.begin(FACTS | {"request": {"suites": ["clean"]}}):
        assert reopened(loose).manifest()["state"] == "running"
        assert loose.shared is False or verify(reopened(loose)).busy
        assert not reopened(loose).cut_off
        loose.finish(FACTS, complete=False)
        assert reopened(loose).manifest()["state"] == "incomplete"
    loose.finish(FACTS)
    assert reopened(loose).manifest()["state"] == "complete"
    assert not [*loose.locks.folder.glob("*")]


def test_a_run_that_stops_is_cut_off_and_its_manifest_can_be_read(loose):
    loose.finish(FACTS)
    with pytest.raises(KeyboardInterrupt), loose.begin(FACTS | {"data": "e"}):
        raise KeyboardInterrupt
    kept = reopened(loose).manifest()
    assert kept == kept | {"data": "e", "state": "running"}
    assert reopened(loose).cut_off
    assert verify(reopened(loose)).faults == []


def test_while_another_run_is_at_work_the_state_is_its(loose):
    other = reopened(loose)
    with loose.begin(FACTS), other.begin(FACTS):
        loose.finish(FACTS)
        assert reopened(loose).manifest()["state"] == "running"
        other.finish(FACTS)
    assert reopened(loose).manifest()["state"] == "complete"


def test_a_begun_study_without_tables_is_not_damaged(loose):
    with pytest.raises(KeyboardInterrupt), loose.begin(FACTS):
        raise KeyboardInterrupt
    assert verify(reopened(loose)).faults == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content | {"data": "e"},
        lambda content: content | {"state": "complete", "digest": None},
        lambda content: content | {"state": "done"},
        lambda content: content | {"request": [1]},
        lambda content: {name: content[name] for name in content if name != "state"},
        lambda content: {name: content[name] for name in content if name != "digest"},
    ],
)
def test_a_manifest_edited_by_hand_is_named_and_refused(edit, loose, refused):
    with loose.begin(FACTS):
        loose.finish(FACTS, complete=False)
    path = loose.folder / "manifest.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text())), indent=1))
    told = refused("leaderboard", "--store", str(loose.root))
    assert told.startswith(f"{path} is damaged (")
    assert told.endswith("; delete it and run the study again")


def test_outcomes_left_alone_are_removed_where_nobody_is_at_work(loose):
    lone = loose.folder / "cells" / "0123456789abcdef.parquet"
    lone.write_bytes(b"half")
    with reopened(loose).begin(FACTS):
        loose.finish(FACTS)
        assert lone.exists()
    loose.finish(FACTS)
    assert not lone.exists()


def test_pids_of_the_dead_do_not_make_a_store_shared(loose):
    (loose.locks.folder).mkdir(exist_ok=True)
    with loose.begin(FACTS):
        (lock,) = loose.locks.folder.glob("run-*.lock")
        content = json.loads(lock.read_text())
    assert content["process"] == os.getpid()
    (loose.locks.folder / "run-0.lock").write_text(json.dumps(content | {"started": "1"}))
    assert not loose.shared


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("complete", ""),
        ("incomplete", "runs/study: its latest run lacks cells; these are the results without"),
        ("running", "runs/study: a run is still at work or was cut off; these are the results so"),
    ],
)
def test_tables_of_a_study_that_is_not_complete_say_so(state, told, loose, selbench):
    loose.finish(FACTS, complete=state == "complete")
    if state == "running":
        with pytest.raises(KeyboardInterrupt), loose.begin(FACTS):
            raise KeyboardInterrupt
    ended = selbench("leaderboard")
    assert ended.err.startswith(told)
    assert bool(told) == bool(ended.err)
