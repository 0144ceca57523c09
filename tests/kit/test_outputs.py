"""Outputs take the place of files of their own kind alone, and are refused before any work."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from selbench._kit import outputs
from selbench._kit.errors import SelbenchError
from selbench._kit.files import write_json
from selbench._kit.outputs import (
    BASELINE,
    JUNIT,
    MODEL_INFO,
    PICTURE,
    STUDY,
    WEIGHTS,
    Kind,
    check_file,
    check_folder,
)
from selbench.commands.init import FIRST
from selbench.figures.style import save
from selbench.networks.network import Network, export
from selbench.regression.baseline import Baseline, Recorded, RecordedNetwork, write_baseline
from selbench.regression.comparison import compare
from selbench.regression.summary import Report, to_junit
from selbench.session import Session
from selbench.tables.model_info import ModelInfo

KINDS = [each for each in vars(outputs).values() if isinstance(each, Kind)]
FOREIGN = {
    "empty space": b" \n",
    "text": b"# Notes\n\nDo not lose me.\n",
    "study": b'description = "mine"\nalphas = [0]\n',
    "table": b"suite,condition,level\nclean,clean,\n",
    "json": b'{"checksum": "0123456789abcdef", "architecture": "mine"}\n',
    "photograph": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(300),
    "drawing": b'<?xml version="1.0"?>\n<svg><title>selbench</title></svg>\n',
    "tests": b'<?xml version="1.0"?>\n<testsuite name="pytest" tests="3" />\n',
    "zip": b"PK\x03\x04" + bytes(300),
}


def a_baseline():
    network, bits = RecordedNetwork(name="a", weights="b"), ("gA==",)
    recorded = Recorded(source="original", version=1, data="", correct=bits)
    facts = dict.fromkeys(("selbench", "torch", "study", "training", "dataset", "data"), "")
    return Baseline(
        **facts,
        subject="a",
        model={},
        test=2,
        examples=2,
        suites=("clean",),
        networks=(network,),
        conditions={"clean/clean": recorded},
    )


def written(folder):
    """Write a file of every kind; return the paths by kind."""
    found = {kind: [] for kind in KINDS}
    write_baseline(a_baseline(), folder / "baseline.json")
    found[BASELINE].append(folder / "baseline.json")
    tables = a_baseline().correct()
    report = Report(compare(tables, tables), a_baseline(), "a")
    (folder / "junit.xml").write_text(to_junit(report))
    found[JUNIT].append(folder / "junit.xml")
    for suffix in (".svg", ".png", ".pdf"):
        save(Figure(), folder / f"figure{suffix}")
        found[PICTURE].append(folder / f"figure{suffix}")
    network = Network("a", 0.0, 0, "", "", "", lambda: torch.nn.Linear(2, 2))
    export(network, folder / "weights.safetensors")
    found[WEIGHTS].append(folder / "weights.safetensors")
    fields = {"architecture": "a", "eps": None, "clean_acc": "9.5", "footnote": "measured"}
    write_json(folder / "info.json", ModelInfo("info.json", fields).fields)
    found[MODEL_INFO].append(folder / "info.json")
    (folder / "study.toml").write_text(FIRST)
    found[STUDY].append(folder / "study.toml")
    return found


def test_files_of_a_kind_are_replaced_and_those_of_another_are_not(tmp_path):
    found = written(tmp_path)
    assert all(found.values())
    for name, content in FOREIGN.items():
        (tmp_path / name).write_bytes(content)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    (tmp_path / "empty").touch()
    for kind in KINDS:
        for path in tmp_path.iterdir():
            check_file(path, kind, "--output", force=True)
            if path in found[kind] or path.name == "empty":
                check_file(path, kind, "--output")
                continue
            with pytest.raises(SelbenchError, match=r"exists and is not .*; .* with --force$"):
                check_file(path, kind, "--output")


def test_what_a_user_added_to_a_model_info_is_not_lost(tmp_path):
    (path,) = written(tmp_path)[MODEL_INFO]
    write_json(path, json.loads(path.read_text()) | {"authors": "me"})
    with pytest.raises(SelbenchError, match="not selbench's part of a model_info"):
        check_file(path, MODEL_INFO, "--output")


@pytest.mark.parametrize("force", [False, True])
def test_places_that_cannot_be_written_are_refused(force, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    reasons = {
        "folder": "Is a directory",
        "file/below": "Not a directory",
        "file/far/below": "Not a directory",
        "x" * 300: "File name too long",
    }
    for name, reason in reasons.items():
        with pytest.raises(SelbenchError, match=rf"^cannot write .*: {reason}; .*\(--junit\)$"):
            check_file(tmp_path / name, JUNIT, "--junit", force)
    with pytest.raises(SelbenchError, match=r"it is a folder, or empty"):
        check_file(Path(), JUNIT, "--junit", force)
    monkeypatch.setattr(outputs, "writable", lambda folder: False)
    for check in (check_file, check_folder):
        words = ["--output"] if check is check_folder else [JUNIT, "--output", force]
        with pytest.raises(SelbenchError, match="Permission denied"):
            check(tmp_path / "new/place", *words)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SelbenchError, match=r"file is a file; name a folder \(--output\)$"):
        check_folder(tmp_path / "file", "--output")
    with pytest.raises(SelbenchError, match="Not a directory"):
        check_folder(tmp_path / "file/below", "--output")
    check_folder(tmp_path / "new/below", "--output")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.fixture
def study_alone(tiny_study):
    """Write a study, which is looked at first, without its images."""
    shutil.rmtree(tiny_study.parent / "images")


MINE = "years of work"
COMMANDS = {
    "baseline": ("baseline", "tiny.toml", "--output"),
    "check": ("check", "tiny.toml", "--junit"),
    "figure": ("figure", "tradeoff", "--output"),
    "corrupt": ("corrupt", "images", "--preview"),
}


@pytest.mark.usefixtures("study_alone")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("place", ["mine.png", "folder.png", "mine.png/below.png"])
def test_every_option_that_writes_a_file_is_looked_at_before_any_work(
    place, words, refused, monkeypatch
):
    def work(*_, **__):
        raise AssertionError("work began")

    monkeypatch.setattr(Session, "open", work)
    Path("mine.png").write_text(MINE)
    Path("folder.png").mkdir()
    sentence = refused(*words, place)
    assert words[-1] in sentence
    assert Path("mine.png").read_text() == MINE
    if place == "mine.png":
        assert sentence.endswith("--force")
        assert "--force" not in refused(*words, place, "--force")


@pytest.mark.usefixtures("study_alone")
@pytest.mark.parametrize(
    "words",
    [
        ("train", "tiny.toml", "--output"),
        ("model-info", "--output"),
        ("corrupt", "images"),
        ("run", "tiny.toml", "--store"),
        ("baseline", "tiny.toml", "--store"),
        ("check", "tiny.toml", "--store"),
    ],
)
def test_every_option_that_fills_a_folder_is_looked_at_before_any_work(words, refused, monkeypatch):
    def work(*_, **__):
        raise AssertionError("work began")

    monkeypatch.setattr(Session, "open", work)
    Path("mine").write_text(MINE)
    option = "OUTPUT" if words[0] == "corrupt" else words[-1]
    assert refused(*words, "mine") == f"mine is a file; name a folder ({option})"
    assert "Not a directory" in refused(*words, "mine/below")
    assert Path("mine").read_text() == MINE


def test_copies_of_weights_take_the_place_of_no_other_file(selbench, refused, tiny_study):
    words = ("train", tiny_study, "--alpha", "0", "--output", "copies", "--quiet")
    path = Path("copies/tiny-alpha=0-seed=0.safetensors")
    path.parent.mkdir()
    path.write_text(MINE)
    assert refused(*words).startswith(f"{path} exists and is not weights of `selbench train`")
    assert path.read_text() == MINE
    assert selbench(*words, "--force").code == 0
    assert selbench(*words).code == 0


@pytest.mark.parametrize("name", ["manifest.json", "measurements.csv"])
def test_a_run_takes_the_place_of_no_file_in_the_folder_of_its_study(name, refused, tiny_study):
    path = Path("runs/tiny", name)
    path.parent.mkdir(parents=True)
    path.write_text(MINE)
    assert refused("run", tiny_study, "--quiet").startswith(f"{path} is damaged")
    assert path.read_text() == MINE
