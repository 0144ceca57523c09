"""Files: written whole or not at all, and identified by what is in them."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selbench._kit import files
from selbench._kit.errors import SelbenchError
from selbench._kit.files import (
    fingerprint,
    home,
    read_json,
    read_toml,
    replacing,
    write_json,
    write_text,
)

FORCE = files.force  # which no other test does


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_home_is_where_the_variable_says(monkeypatch):
    monkeypatch.setenv("SELBENCH_HOME", "/data/selbench")
    assert home() == Path("/data/selbench")


def test_home_may_be_below_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SELBENCH_HOME", "~/selbench")
    assert home() == tmp_path / "selbench"


@pytest.mark.parametrize("value", ["", None])
def test_home_is_the_user_s_cache_folder_otherwise(value, monkeypatch):
    monkeypatch.delenv("SELBENCH_HOME")
    if value is not None:
        monkeypatch.setenv("SELBENCH_HOME", value)
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda name: Path("/cache", name))
    assert home() == Path("/cache/selbench")


# Fingerprints.


def test_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_fingerprint_is_the_same_for_everyone():
    assert fingerprint({"alpha": 1.0, "names": ["a", None]}) == "2b2f1a9e1096c745"


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2], [2, 1]), (1, 2), ("1", 1), (None, 0), ([1, [2]], [1, 2]), ({}, [])]
)
def test_fingerprints_of_different_values_differ(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_fingerprint_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint([float("nan")])


# Reading.


def test_toml_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "study.toml").write_bytes(b"\xef\xbb\xbfname = 'mine'\n")
    assert read_toml(tmp_path / "study.toml") == {"name": "mine"}


# Writing.


def test_written_text_is_read_again_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "new" / "folder" / "a.txt", "tüpfel\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_text(encoding="utf-8") == "tüpfel\n"
    assert names(tmp_path / "new" / "folder") == ["a.txt"]


def test_old_file_stays_until_the_block_succeeded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    forced = []

    def fsync(number):
        forced.append((Path(f"/proc/self/fd/{number}").readlink(), path.exists()))
        genuine(number)

    genuine = os.fsync
    monkeypatch.setattr(files, "force", FORCE)
    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "whole")
    ((which, there),) = forced
    assert which.name.startswith(".a.txt.")
    assert not there
    assert path.read_text() == "whole"


@pytest.mark.parametrize("problem", [KeyboardInterrupt, ValueError, OSError])
def test_failed_block_leaves_the_old_file_and_no_temporary_one(problem, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise problem

    with pytest.raises(SelbenchError if problem is OSError else problem):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_others_may_read_what_the_user_lets_them(tmp_path):
    path = tmp_path / "weights.safetensors"
    before = os.umask(0o027)
    try:
        with replacing(path) as temporary:
            save_file({"x": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_permissions_of_a_file_stay(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o604)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_text() == "new"


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "kept.txt").chmod(0o400)
    (tmp_path / "link.txt").symlink_to(tmp_path / "kept.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "kept.txt").read_text() == "kept"
    assert not (tmp_path / "link.txt").is_symlink()


@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "link to a pipe", "/dev/null", "/dev/new", "/dev/fd/1"]
)
def test_no_file_takes_the_place_of_what_is_none(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", pytest.fail)  # a fault here must not harm the machine
    path = Path(kind)
    if not path.is_absolute():
        path = tmp_path / "special"
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind("special")  # tests begin in tmp_path; names of sockets are short
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
    message = (
        rf"^cannot write {path}: a file would take the place of a device or a pipe; name another$"
    )
    with pytest.raises(SelbenchError, match=message):
        write_text(path, "x")


def test_full_disk_is_told_with_what_to_do(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    message = (
        rf"^cannot write {tmp_path}/a.json: No space left on device; make room or permission "
        r"there, or choose another folder \(--store for results, SELBENCH_HOME for data and "
        r"weights, its own option for any other\)$"
    )
    with pytest.raises(SelbenchError, match=message):
        write_json(tmp_path / "a.json", {})


def test_folder_without_permission_is_told(tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(
        SelbenchError, match=rf"cannot write {tmp_path}/x/a.txt: Permission denied; "
    ):
        write_text(tmp_path / "x" / "a.txt", "")


@pytest.mark.parametrize("mode", [0o600, 0o700])
def test_file_in_the_place_of_a_folder_is_told(mode, tmp_path):
    (tmp_path / "taken").touch(mode)
    with pytest.raises(SelbenchError, match=rf"cannot write {tmp_path}/taken/a.txt: "):
        write_text(tmp_path / "taken" / "a.txt", "")


def test_folder_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(SelbenchError, match=rf"cannot write {tmp_path}/a.txt: Is a directory"):
        write_text(tmp_path / "a.txt", "")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_path_without_a_name_is_told(path):
    message = rf"^cannot write {Path(path)}: it is a folder, or empty; name a file$"
    with pytest.raises(SelbenchError, match=message):
        write_json(Path(path), {})


def test_the_option_that_chooses_another_place_is_told(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(SelbenchError, match=r"or choose another folder \(--output\)$"):
        write_json(tmp_path / "taken" / "a.json", {}, "--output")


# JSON.


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "one", {"b": [1.5, None], "a": "ü"})
    write_json(tmp_path / "other", {"a": "ü", "b": [1.5, None]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert read_json(tmp_path / "one") == {"a": "ü", "b": [1.5, None]}


def test_json_holds_no_infinity(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("inf")])
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\x00\x00", b"\xff"])
def test_damaged_json_is_named(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    message = rf"{tmp_path}/a.json is damaged \(.+\); delete it and run the same command again$"
    with pytest.raises(SelbenchError, match=message):
        read_json(tmp_path / "a.json")
