"""Disks that are full or read-only, clocks that jump, stores that move."""

import ctypes
import os
import shutil
import struct
import time
from pathlib import Path

import pytest

from selbench.store import StudyStore
from selbench.training import trained as training_run

YEAR = 365 * 86400


@pytest.fixture
def words(tiny_study):
    return ["run", tiny_study, "--quiet"]


def table(store="runs"):
    return Path(store, "tiny", "measurements.csv").read_bytes()


def bytes_of(folder):
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in paths}


@pytest.mark.parametrize("room", [300, 1500, 3500])
@pytest.mark.sample
def test_wherever_the_disk_becomes_full_the_same_run_goes_on(
    room, selbench, words, few_conditions, room_for
):
    words = [*words, "--suite", "corruptions"]
    selbench("train", words[1])
    with room_for(room):
        ended = selbench(*words)
    assert ended.code in (0, 2)
    if ended.code:
        assert ended.err.startswith("selbench: cannot write runs/")
    assert not [path for path in Path("runs").rglob("*") if path.name.endswith(".tmp")]
    assert not list(Path("runs").rglob("*.lock"))
    assert selbench(*words).code == 0
    assert selbench("verify").out.endswith("none is damaged\n")


@pytest.fixture
def read_only():
    """Return a function that takes the right to write into a folder, until the test ends."""
    protected = []

    def protect(folder):
        protected.extend([folder, *folder.rglob("*")])
        for path in protected:
            path.chmod(0o555 if path.is_dir() else 0o444)
        heed_modes(True)

    yield protect
    heed_modes(False)
    for path in protected:
        path.chmod(0o755)


def heed_modes(heed):
    """Have this thread heed the modes of files though it is root's, or not any more."""
    if os.geteuid() != 0:
        return
    libc, header = ctypes.CDLL(None, use_errno=True), struct.pack("Ii", 0x20080522, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice 32 bits
    assert libc.capget(header, sets) == 0
    effective, permitted, *rest = struct.unpack("6I", sets.raw)
    override = 0b110 & permitted  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    effective = effective & ~override if heed else effective | override
    assert libc.capset(header, struct.pack("6I", effective, permitted, *rest)) == 0


def test_a_read_only_store_that_lacks_nothing_is_shown(selbench, words, read_only):
    first = selbench(*words)
    before = bytes_of("runs")
    read_only(Path("runs"))
    again = selbench(*words)
    assert (again.code, again.out) == (0, first.out)
    assert selbench("verify").code == 0
    assert bytes_of("runs") == before


def test_a_read_only_store_that_lacks_something_is_one_sentence(
    refused, selbench, words, read_only
):
    selbench(*words)
    before = bytes_of("runs")
    read_only(Path("runs"))
    sentence = refused(*words, "--limit", "5")
    assert sentence.startswith("cannot write runs/tiny/")
    assert "Permission denied; make room or permission there, or choose another folder" in sentence
    assert bytes_of("runs") == before


@pytest.mark.parametrize("jump", [-40 * YEAR, 40 * YEAR])
@pytest.mark.sample
def test_the_times_of_files_do_not_matter(jump, selbench, words, monkeypatch):
    selbench(*words)
    before = table()
    for number, path in enumerate(sorted(Path("runs").rglob("*"))):
        then = max(0, time.time() + jump * (-1) ** number)
        os.utime(path, (then, then))
    monkeypatch.setattr(training_run, "train", None)
    assert selbench(*words).code == 0
    assert selbench("verify").out.endswith("none is damaged\n")
    assert table() == before


@pytest.mark.soak
def test_a_clock_that_jumps_during_a_run_does_not_matter(selbench, words, monkeypatch):
    hours = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 2e9 - 3600 * next(hours))
    assert selbench(*words).code == 0
    assert selbench("verify").out.endswith("none is damaged\n")


@pytest.mark.soak
def test_a_store_that_moved_goes_on_and_holds_no_path_of_where_it_was(
    selbench, words, few_conditions, tmp_path
):
    words = [*words, "--suite", "corruptions"]
    selbench(*words)
    shutil.move("runs", "elsewhere")
    for path in Path("elsewhere").rglob("*.json"):
        text = path.read_text().replace(str(words[1]), "")  # the command's word, and the data's
        assert f"{tmp_path}/runs" not in text
    next(Path("elsewhere/tiny/cells").glob("*.parquet")).unlink()
    before = table("elsewhere")
    assert len(StudyStore(Path("elsewhere"), "tiny").keys()) < 12
    assert selbench(*words, "--store", "elsewhere").code == 0
    assert table("elsewhere") == before
    assert selbench("verify", "elsewhere").out.endswith("none is damaged\n")
    assert not Path("runs").exists()


@pytest.mark.soak
def test_a_link_to_a_store_and_a_name_with_spaces_serve(selbench, words):
    Path("a store, moved").mkdir()
    Path("link").symlink_to("a store, moved")
    assert selbench(*words, "--store", "link").code == 0
    assert selbench("verify", "a store, moved").code == 0
