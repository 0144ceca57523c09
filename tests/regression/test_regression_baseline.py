"""The baseline file: what is written is read, and damage is told in one sentence."""

import base64
import json

import numpy as np
import pytest

from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint
from selbench.regression.baseline import packed, read_baseline, unpacked, write_baseline


@pytest.fixture
def path(made, tmp_path):
    """Write a baseline of two networks on 13 examples."""
    rng = np.random.default_rng(0)
    conditions = {name: rng.random((2, 13)) < 0.6 for name in ("clean/clean", "corruptions/fog/3")}
    write_baseline(made(conditions), tmp_path / "baseline.json")
    return tmp_path / "baseline.json"


def rewritten(path, change, seal=True):
    """Change the content of a file; `seal` makes its checksum fit."""
    content = json.loads(path.read_text())
    change(content)
    if seal:
        content.pop("checksum")
        content["checksum"] = fingerprint(content)
    path.write_text(json.dumps(content))


def refusal(path):
    with pytest.raises(SelbenchError) as raised:
        read_baseline(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 2000])
def test_bits_are_read_as_they_were_written(examples):
    table = np.random.default_rng(examples).random((3, examples)) < 0.5
    read = np.stack([unpacked(text, examples) for text in packed(table)])
    assert (read == table).all()


def test_the_first_example_is_the_highest_bit():
    assert base64.b64decode(packed(np.array([[True] + [False] * 8]))[0]) == b"\x80\x00"


def test_a_baseline_is_read_as_it_was_written(path):
    first = read_baseline(path)
    write_baseline(first, path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()


def test_seventy_six_conditions_of_three_networks_are_small(made, tmp_path):
    bits = np.random.default_rng(0).random((3, 2000)) < 0.7
    conditions = {f"corruptions/c/{n}": bits for n in range(76)}
    write_baseline(made(conditions), tmp_path / "big.json")
    assert (tmp_path / "big.json").stat().st_size < 100_000


def test_a_missing_file_is_told_with_the_command(tmp_path):
    assert "there is no baseline" in refusal(tmp_path / "none.json")
    assert "selbench baseline -o" in refusal(tmp_path / "none.json")


def test_a_folder_is_no_baseline(tmp_path):
    assert refusal(tmp_path).startswith("cannot read the baseline")


@pytest.mark.parametrize("keep", [0, 1, 200, -30])
def test_a_truncated_file_is_damaged(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert "is damaged (it is not JSON)" in refusal(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1", b"[" * 100_000])
def test_what_is_not_json_is_damaged(path, content):
    path.write_bytes(content)
    assert "is damaged (it is not JSON)" in refusal(path)


def test_another_json_is_no_baseline(path):
    path.write_text("[1, 2]")
    assert "it is not a JSON object" in refusal(path)
    path.write_text('{"accuracy": 1}')
    assert "is no baseline of selbench" in refusal(path)


def test_a_newer_format_names_who_wrote_it(path):
    rewritten(path, lambda content: content.update(format=7, selbench="9.9.9"))
    assert "has format 7 (written by selbench 9.9.9), this version reads up to 1" in refusal(path)


def test_edited_content_does_not_fit_the_checksum(path):
    rewritten(path, lambda content: content.update(subject="alpha=1"), seal=False)
    assert "its checksum does not fit its content" in refusal(path)


def test_the_same_network_twice_is_refused(path):
    rewritten(path, lambda content: content["networks"][1].update(weights="0"))
    sentence = "seed=0 is there twice (as seed=1 too); make a new one with each network once"
    assert refusal(path) == f"{path}: {sentence}"


def edit(name, value):
    return lambda content: content["conditions"]["clean/clean"].update({name: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edit("correct", ["AAAA", "AAA="]), "bits of 3 bytes are not those of 13 examples"),
        (edit("correct", ["AAc=", "AAA="]), "bits of 2 bytes are not those of 13 examples"),
        (edit("correct", ["A A=", "AAA="]), "base64"),
        (edit("correct", ["é", "AAA="]), "ASCII"),
        (edit("correct", ["AAA="]), "clean/clean has bits of 1 networks, not of 2"),
        (edit("correct", []), "need at least one array"),
        (edit("version", "x"), "conditions.clean/clean.version"),
        (lambda content: content.update(conditions={}), "conditions: "),
        (lambda content: content.update(extra=1), "extra: extra inputs"),
        (lambda content: content.pop("data"), "data: field required"),
        (lambda content: content.update(examples=-3), "examples: "),
    ],
)
def test_damage_that_a_checksum_does_not_show_is_found(path, change, reason):
    rewritten(path, change)
    sentence = refusal(path)
    assert "is damaged (" in sentence
    assert reason in sentence
