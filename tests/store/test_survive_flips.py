"""A changed bit in a file that selbench reads back is found, and never becomes a number."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from selbench._kit import files
from selbench._kit.errors import SelbenchError
from selbench._kit.files import md5_of, sealed, unsealed
from selbench._kit.progress import SILENT
from selbench.sets.layout import ABOUT, read_about
from selbench.sets.source import open_source
from selbench.store import StudyStore
from selbench.study import load_study
from selbench.training import trained as training

NUMBERS = b"0123456789abcdef.-"


def flips(content, step=1):
    """Yield the content with one bit changed, in turn at every `step`th place."""
    for place in range(0, len(content), step):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        yield bytes(changed)


def test_a_seal_breaks_with_every_bit_that_changes_what_it_says():
    whole = sealed({"b": [1, None, 2.5], "a": {"x": "y"}})
    assert unsealed(whole) == {"b": [1, None, 2.5], "a": {"x": "y"}}
    for changed in flips(json.dumps(whole).encode()):
        try:
            content = unsealed(json.loads(changed))
        except ValueError:  # no JSON, no text, or another content
            continue
        assert {"a": content["a"], "b": content["b"]} == unsealed(whole)
    with pytest.raises(ValueError, match="no record"):
        unsealed([])


def test_no_changed_md5_is_believed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    md5 = md5_of(path)
    (kept,) = (kept for kept in (files.home() / "md5").iterdir() if md5 in kept.read_text())
    whole = kept.read_bytes()
    for changed in flips(whole):
        kept.write_bytes(changed)
        assert md5_of(path) == md5
        assert kept.read_bytes() == whole


def test_no_changed_survey_is_believed(images, fresh_home, monkeypatch):
    before = open_source(str(images), None, SILENT).survey()
    (kept,) = (fresh_home / "surveys").iterdir()
    for changed in flips(kept.read_bytes(), 7):
        kept.write_bytes(changed)
        assert open_source(str(images), None, SILENT).survey() == before


def test_no_changed_description_of_a_set_is_believed(selbench, refused, images):
    words = ("corrupt", images, "set", "--corruption", "contrast", "--severity", "1,4", "--quiet")
    assert selbench(*words).code == 0
    path, before, refusals = Path("set", ABOUT), read_about(Path("set")), set()
    for changed in flips(path.read_bytes(), 5):
        path.write_bytes(changed)
        try:
            assert read_about(Path("set")) == before
        except SelbenchError:
            refusals.add(changed)
    assert refusals
    path.write_bytes(min(refusals))
    assert "is damaged" in refused(*words)


@pytest.mark.soak
def test_changed_images_of_a_set_are_refused_and_made_again(selbench, refused, tiny_study):
    words = ("corrupt", "images", "set", "--corruption", "contrast", "--quiet")
    run = ("run", tiny_study, "--alpha", "0", "--suite", "corruptions", "--source", "set")
    run += ("--quiet", "--corruption", "contrast")
    assert selbench(*words).code == 0
    for name in ("contrast.npy", "labels.npy"):
        path = Path("set", name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 3]))
        assert f"{name} is damaged (its content is not what was written)" in refused(*run)
        assert selbench(*words).code == 0
        assert path.read_bytes() == whole
    assert selbench(*run).code == 0


def test_no_changed_manifest_of_a_trained_network_is_believed(selbench, tiny_study, fresh_home):
    assert selbench("train", tiny_study, "--alpha", "0", "--quiet").code == 0
    (path,) = (fresh_home / "weights").glob("*/manifest.json")
    before = training._manifest(path.parent)
    for changed in flips(path.read_bytes(), 97):
        path.write_bytes(changed)
        if training._intact(path.parent):
            said = training._manifest(path.parent)
            assert {name: said[name] for name in before} == before
    assert not training._intact(path.parent / "nowhere")


def test_a_changed_checkpoint_is_not_gone_on_with(tmp_path):
    model = torch.nn.Linear(2, 2)
    recipe = load_study("digits").recipe
    session = training._Session.start(tmp_path, model, recipe, "float32")
    session.best_epoch = 7
    session.keep()
    assert training._Session.start(tmp_path, model, recipe, "float32").best_epoch == 7
    path = tmp_path / training.CHECKPOINT
    for changed in flips(path.read_bytes(), 13):
        path.write_bytes(changed)
        assert training._Session.start(tmp_path, model, recipe, "float32").best_epoch == 0


def test_changed_copies_of_weights_are_refused(selbench, refused, tiny_study):
    words = ("--alpha", "0", "--quiet")
    assert selbench("train", tiny_study, *words, "--output", "copies").code == 0
    (path,) = Path("copies").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    sentence = refused("run", tiny_study, *words, "--trained", "copies")
    assert sentence == f"{path} is damaged (its content is not what was written); export them again"
    place = whole.index(b"best_epoch") if b"best_epoch" in whole[:9000] else whole.index(b"curves")
    path.write_bytes(whole[: place + 30] + bytes([whole[place + 30] ^ 1]) + whole[place + 31 :])
    assert "copies" in refused("run", tiny_study, *words, "--trained", "copies")


@pytest.fixture
def measured(selbench, tiny_study, monkeypatch):
    """Return the folder of a study whose cells lie in several files."""
    monkeypatch.setattr(StudyStore, "pack", lambda *_: None)
    words = ("--alpha", "0", "--suite", "corruptions", "--corruption", "contrast", "--quiet")
    assert selbench("run", tiny_study, *words).code == 0
    return Path("runs/tiny")


TABLES = (("claims", "--format", "json"), ("figure", "tradeoff"), ("calibration",), ("report",))


def changed(path):
    content = path.read_bytes()
    place = content.index(b'"value":0.') + 10
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def table(selbench, *words):
    return selbench("leaderboard", "--format", "csv", *words)


@pytest.mark.parametrize("others", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_damaged_file_of_cells_is_left_out_of_tables_and_named(others, selbench, measured):
    whole = table(selbench)
    files = sorted((measured / "cells").glob("*.json"))
    path = next(each for each in files if b'"condition":"contrast"' in each.read_bytes())
    changed(path)
    ended, kept = table(selbench), path.read_bytes()
    assert ended.code == 3
    assert f"left out: {path} is damaged (its content is not what was written)" in ended.err
    path.unlink()
    assert ended.out == table(selbench).out != whole.out
    path.write_bytes(kept)
    for words in TABLES if others else ():
        after = selbench(*words)
        assert after.code in (2, 3), words
        assert f"left out: {path} is damaged" in after.err, words
    for each in files:
        each.write_text("{")
    after = table(selbench)
    assert (after.code, after.out) == (2, "")
    assert all(f"left out: {each} is damaged" in after.err for each in files)


def test_damaged_outcomes_manifests_and_tables_are_left_out_and_named(selbench, measured):
    path = max((measured / "cells").glob("*.parquet"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ended = table(selbench)  # which has intervals over images, of one network
    assert ended.code == 3
    assert f"left out: {path} is damaged" in ended.err
    shutil.copytree(measured, "runs/other")
    manifest = Path("runs/other/manifest.json")
    manifest.write_text(manifest.read_text().replace("complete", "c0mplete"))
    after = table(selbench)
    assert (after.code, after.out) == (3, ended.out)
    assert f"left out: {manifest} is damaged" in after.err
    manifest.rename(measured / "manifest.json")
    assert (table(selbench).code, table(selbench).out) == (2, "")


def test_a_changed_table_without_cells_is_refused(selbench, measured):
    shutil.rmtree(measured / "cells")
    assert table(selbench).code == 0
    path = measured / "measurements.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    ended = table(selbench)
    assert (ended.code, ended.out) == (2, "")
    assert f"{path} is damaged (its content is not what was written)" in ended.err
