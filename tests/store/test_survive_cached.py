"""What `selbench verify` finds in the cache, and what reports that were killed left."""

import os
from pathlib import Path

import pytest

from selbench._kit.files import md5_of
from selbench._kit.locks import Locks
from selbench._kit.progress import SILENT
from selbench.commands.cached import verify_home
from selbench.datasets import load_dataset
from selbench.sets.source import open_source
from selbench.study import load_study

GONE = 999999999  # the number of no process


@pytest.fixture
def filled(selbench, tiny_study, fresh_home):
    """Return a cache that holds a trained network, images, a survey and a checksum."""
    assert selbench("run", tiny_study, "--alpha", "0", "--quiet").code == 0
    open_source("images", None, SILENT).survey()
    md5_of(tiny_study)
    load_dataset(load_study("digits").dataset)
    return fresh_home


FILES = ("weights/*/manifest.json", "weights/*/*.safetensors", "datasets/*", "surveys/*", "md5/*")


def test_every_damaged_file_of_the_cache_is_named_and_repaired(filled, selbench):
    assert verify_home().faults == []
    assert verify_home().files == len(FILES)
    whole = selbench("leaderboard").out
    for pattern in FILES:
        (path,) = filled.glob(pattern)
        content = path.read_bytes()
        place = len(content) - 4
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        ended = selbench("verify")
        assert ended.code == 1
        assert f"{filled}: 5 files checked; 1 damaged\n  {path}: " in ended.out
        ended = selbench("verify", "--repair")
        assert (ended.code, ended.out.endswith(f"{filled} is repaired\n")) == (0, True)
        assert not path.exists()
        assert selbench("verify").out == "runs/tiny: 4 files checked; none is damaged\n"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        if "weights" in pattern:
            selbench("train", "tiny.toml", "--alpha", "0", "--quiet")
        assert verify_home().faults == []
    assert selbench("run", "tiny.toml", "--alpha", "0", "--quiet").out == whole


@pytest.mark.soak
def test_what_killed_commands_left_is_no_damage(filled, selbench, monkeypatch):
    (weights,) = (filled / "weights").iterdir()
    left = [weights / f".manifest.json.{GONE}-ab.tmp", filled / "md5" / f".x.{GONE}-0f.tmp"]
    reports = [Path(f".site.selbench-{GONE}.new"), Path(f"runs/../.a.selbench-{GONE}.old")]
    for path in left:
        path.write_text("half")
    for path in reports:
        path.mkdir()
    own = filled / "md5" / f".y.{os.getpid()}-0f.tmp"
    own.write_text("half, and being written")
    (filled / "locks").mkdir(exist_ok=True)
    lock = filled / "locks/dead.lock"
    Locks(lock.parent).take("dead")
    monkeypatch.setattr("selbench._kit.locks._started", lambda process: None)
    ended = selbench("verify")
    assert ended.code == 0
    assert f"{filled}: 5 files checked; none is damaged, 5 left behind" in ended.out
    assert selbench("verify", "--repair").code == 0
    assert not any(path.exists() for path in [*left, *reports, lock])
    assert Path("a").is_dir()  # the old report, which nothing had taken the place of
    assert own.exists()


def test_a_network_under_way_is_no_damage(filled):
    (folder,) = (filled / "weights").iterdir()
    manifest = folder / "manifest.json"
    manifest.unlink()
    (fault,) = verify_home().faults
    assert (fault.path.name, fault.harmless) == ("weights.safetensors", True)
    (folder / "checkpoint.pt").write_bytes(b"half")
    (fault,) = verify_home().faults
    assert (fault.path.name, fault.harmless) == ("checkpoint.pt", False)
    with Locks(filled / "locks").holding(folder.name):
        assert verify_home().faults == []  # who trains writes one file after another
