"""Files and words that no honest user gives: one sentence, no traceback, and nothing that hangs."""

import os
import socket
import warnings
from pathlib import Path

import pytest

from selbench._kit.content import LARGEST, check_regular, content_of
from selbench._kit.errors import SelbenchError
from selbench._kit.printable import from_cell, no_formula, printable
from selbench.models import build_model
from selbench.store.tidy import csv_of, read_tidy, tidy
from selbench.study import ModelSpec, load_study

LONG = "x" * 300


@pytest.fixture
def odd():
    """Make one of each thing that is no regular file, and one file that is too large."""
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("zero").symlink_to("/dev/zero")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    with Path("sparse").open("wb") as file:
        file.truncate(LARGEST + 1)


ODD = {
    "pipe": "pipe: it is a pipe; name a regular file",
    "zero": "zero: it is a device; name a regular file",
    "loop": "loop: Too many levels of symbolic links",
    "folder": "folder: (Is a directory|it is a folder)",
    "socket": "socket: (it is a socket|No such device)",
    "sparse": "sparse: it is larger than the 1024 MB allowed",
    LONG: f"{LONG}: File name too long",
    "a\0b": "a\0b: embedded null byte",
}


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_file_is_not_read(name):
    with pytest.raises(SelbenchError, match=f"^cannot read {ODD[name]}"):
        content_of(Path(name))
    if name not in ("sparse", LONG):
        with pytest.raises(SelbenchError, match=f"^cannot read {ODD[name]}"):
            check_regular(Path(name))


def test_a_file_that_hides_its_size_is_not_read_without_end():
    with pytest.raises(SelbenchError, match=r"^cannot read /proc/self/maps: it is larger than the"):
        content_of(Path("/proc/self/maps"), 100)


DOORS = {
    "baseline": ["check", "tiny.toml", "--quiet", "--baseline"],
    "checkpoint": ["run", "tiny.toml", "--quiet", "--checkpoint"],
    "claims": ["claims", "--claims"],
    "class map": ["run", "--model", "selbench:resnet8", "--dataset", "digits", "--class-map"],
}


@pytest.mark.usefixtures("odd", "tiny_study")
@pytest.mark.parametrize("name", ["pipe", "zero", "loop", LONG])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.sample("name")
def test_every_door_refuses_them(door, name, refused, match):
    match(f"^cannot (read|use) (the [a-z ]+ )?{ODD[name]}", refused(*DOORS[door], name))


# Studies.

TYPES = {
    "epochs = true": "recipe.epochs: input should be a valid integer, got True",
    "epochs = 1.0": "recipe.epochs: input should be a valid integer, got 1.0",
    'epochs = "2"': "recipe.epochs: input should be a valid integer, got '2'",
    f"epochs = {'9' * 30}": "recipe.epochs has a whole number of more than 64 bits",
    f"epochs = {'9' * 5000}": r"epochs = 99*\.\.\. has a whole number of more than 64 bits",
    f"epochs = 0x{'f' * 5000}": "recipe.epochs has a whole number of more than 64 bits",
    "seeds = [1.5]": r"seeds.0: input should be a valid integer, got 1.5",
    "seeds = [true]": r"seeds.0: input should be a valid integer, got True",
    f"seeds = [{2**63}]": "seeds has a whole number of more than 64 bits",
    'alphas = ["1"]': "alphas.0: input should be a valid number, got '1'",
    "alphas = [true]": "alphas.0: input should be a valid number, got True",
    "alphas = [nan]": "alphas.0: input should be a finite number, got nan",
    "alphas = [1, -inf]": "alphas.1: input should be a finite number, got -inf",
    "learning_rate = true": "recipe.learning_rate: input should be a valid number, got True",
    "learning_rate = 1e999": "recipe.learning_rate: input should be a finite number, got inf",
    "suites = [1]": "suites.0: input should be a valid string, got 1",
    "validation = 1979-05-27": "dataset.validation: input should be a valid integer, got datetime",
    f"x = {'[' * 5000}{']' * 5000}": "is not valid TOML: it is nested too deep",
    f"x = {'{a=' * 5000}1{'}' * 5000}": "is not valid TOML: it is nested too deep",
    f"{'a.' * 1500}a = 1": "is not valid TOML: it is nested too deep",
    f'name = "{LONG}"': "name: string should have at most 200 characters",
}


@pytest.mark.parametrize("line", TYPES, ids=lambda line: line[:20])
def test_a_value_of_another_type_is_named_by_its_key(line, tiny_study):
    key, lines = line.partition(" =")[0], tiny_study.read_text().splitlines()
    places = [n for n, each in enumerate(lines) if each.startswith(f"{key} =") and key != "name"]
    lines[places[0] if places else slice(0)] = line if places else [line]
    tiny_study.write_text("\n".join(lines))
    with pytest.raises(SelbenchError, match=TYPES[line]) as refusal:
        load_study(str(tiny_study))
    assert len(str(refusal.value)) < 400


def test_a_network_that_does_not_fit_into_memory_is_not_built(monkeypatch):
    monkeypatch.setattr("selbench.models.build.available", lambda: 10**5)
    for width, sentence in ((64, "GB to train, and 0 GB are free"), (10**12, "cannot be built")):
        with pytest.raises(
            SelbenchError,
            match=f"^model resnet8 .*width = {width}.* {sentence}|{sentence} with width = {width}",
        ):
            build_model(
                ModelSpec(name="resnet8", options={"width": width}), 3, ((0,) * 3, (1,) * 3)
            )
    assert build_model(ModelSpec(name="resnet8", options={"width": 1}), 3, ((0,) * 3, (1,) * 3))


def test_seeds_of_thousands_of_digits_are_refused(refused, match):
    match("--seed takes whole numbers from 0 to", refused("run", "--seed", "9" * 5000))
    match("--alpha takes finite numbers", refused("run", "--alpha", "9" * 5000))


OF_THE_MACHINE = {
    r"the memory does not suffice \(an allocation failed\); free some": MemoryError(),
    r"the memory does not suffice \(can't allocate memory: 9\); ": RuntimeError(
        "can't allocate memory: 9"
    ),
    r"cannot use 'x': it is a link that leads to itself": RuntimeError("Symlink loop from 'x'"),
    r"cannot use x/y: Permission denied; check its name": PermissionError(
        13, "Permission denied", "x/y"
    ),
}


@pytest.mark.parametrize("sentence", OF_THE_MACHINE)
def test_what_the_system_refuses_is_one_sentence(sentence, refused, match, monkeypatch):
    def fail():
        raise OF_THE_MACHINE[sentence]

    monkeypatch.setattr("selbench.study.shipped_studies", fail)
    match(f"^{sentence}", refused("list"))


# What is printed.

EVIL = "a\n::error::b\x1b[31m\r\u202e\u2066\x9b\x00\ud800\u2028"


def test_a_sentence_is_one_visible_line(monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    line = r"a\n::error::b\x1b[31m\r\u202e\u2066\x9b\x00\ud800\u2028"
    assert printable(EVIL) == line
    assert printable(line) == line
    for honest in (
        "alpha = -0.5 ± 1",
        "Übung/日本語\N{NO-BREAK SPACE}\N{GRINNING FACE}.png",
        r"C:\x",
    ):
        assert printable(honest) == honest


def test_nothing_is_a_command_to_github(monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::" not in printable(EVIL)
    assert "##[" not in printable("x ##[error]y")


def test_errors_and_warnings_are_escaped(selbench):
    ended = selbench("run", f"x{EVIL}")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "\x1b" not in ended.err
    assert (
        warnings.formatwarning(EVIL, RuntimeWarning, "x.py", 1)
        == printable(f"selbench: {EVIL}") + "\n"
    )


# Spreadsheets.

FORMULAS = [
    "=1+1",
    "+x",
    "-cmd|'/C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''@x",
    "\N{FULLWIDTH EQUALS SIGN}1",
]
TEXTS = ["-1.5", "+1e-3", "-", "", "alpha=-1", "'quoted'", "'-1", "a=b", "0"]


@pytest.mark.parametrize("text", [*FORMULAS, *TEXTS])
def test_a_cell_is_no_formula_and_comes_back(text):
    cell = no_formula(text)
    assert from_cell(cell) == text
    assert cell == (text if text in TEXTS else f"'{text}")


def test_measurements_come_back_with_their_names(tmp_path):
    names = [*FORMULAS[:4], *FORMULAS[6:], *TEXTS[:2]]
    rows = [{"subject": name, "layer_name": None, "value": -1.5, "n": 1} for name in names]
    columns = ["subject", "layer_name", "value", "n"]
    table = tidy(rows, columns)
    (tmp_path / "measurements.csv").write_text(csv_of(table), newline="")
    assert "\n=" not in csv_of(table)
    assert ",-1.5," in csv_of(table)
    assert csv_of(read_tidy(tmp_path / "measurements.csv", columns)) == csv_of(table)
    assert set(read_tidy(tmp_path / "measurements.csv", columns)["subject"]) == set(names)
