"""What the command line says of itself: help, completion, lists, and where studies are left out."""

import inspect
import json
import os
import shutil
import subprocess
import sys

import pytest

from corruptions import CORRUPTIONS
from selbench._engine.engines import ENGINES
from selbench._kit.errors import SelbenchError
from selbench.commands import cli, remembered
from selbench.commands.listing import KINDS
from selbench.commands.panels import PANELS, paragraphs
from selbench.commands.remembered import SOURCES, check_columns, check_models, check_names, remember
from selbench.commands.run import run
from selbench.figures import FIGURES
from selbench.networks.zoo import ZOOS
from selbench.suites import SUITES, attack_names
from selbench.tables.columns import COLUMNS, OF_FOLDERS
from selbench.tables.formats import FORMATS


def test_without_arguments_help_is_shown_once(selbench):
    ended = selbench()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("Usage: selbench") == 1
    assert selbench("-h").out.split() == selbench("--help").out.split() == ended.out.split()


def test_python_m_selbench_is_the_command():
    command = [sys.executable, "-m", "selbench", "--version"]
    assert subprocess.check_output(command, text=True).startswith("selbench ")


def test_help_of_run_has_panels_defaults_and_three_examples(selbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = selbench("run", "-h").out
    assert all(title in text for title in PANELS)
    assert text.count("[default:") > 15
    assert text.split("Examples:")[1].count("\n selbench run") == 3
    assert "\\[" not in text


def test_every_option_of_run_stands_in_a_panel():
    placed = {name for names in PANELS.values() for name in names}
    assert {*inspect.signature(run).parameters} - placed == {"study"}


def test_paragraphs_fill_the_line():
    assert paragraphs("One\nline.\n\nAnother\n  one.\n") == "One line.\n\nAnother one."


@pytest.mark.parametrize("typed", [("ru", "run"), ("list met", "metrics")])
def test_shells_are_told_what_can_follow(typed, monkeypatch, capsys):
    words, follows = typed
    monkeypatch.setenv(cli.COMPLETION, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"selbench {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == [follows]


def test_the_script_of_completion_is_shown():
    command = [sys.executable, "-m", "selbench", "--show-completion", "bash"]
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert cli.COMPLETION in shown.stdout


def test_a_kind_of_things_is_listed_alone_and_as_json(selbench, refused):
    assert set(json.loads(selbench("list", "--json").out)) == set(KINDS)
    (things,) = json.loads(selbench("list", "suites", "--json").out).values()
    names = [each["name"] for each in things]
    assert [line.split()[0] for line in selbench("list", "suites").out.splitlines()[1:]] == names
    assert all(each["description"] for each in things)
    assert refused("list", "suite") == "unknown kind of thing 'suite'; did you mean 'suites'?"


def test_run_prints_any_format(selbench, tiny_study, refused):
    (board,) = json.loads(selbench("run", tiny_study, "--format", "json").out)
    assert [row["subject"] for row in board["rows"]] == ["0", "1"]
    assert refused("run", tiny_study, "--format", "jsom").startswith("unknown format 'jsom'")


def test_run_ends_with_what_it_did_and_what_to_do_next(selbench, tiny_study):
    first, second = (selbench("run", tiny_study, "--store", "kept").err for _ in range(2))
    *_, did, where = first.splitlines()
    assert did.startswith("2 networks; 2 cells evaluated in ")
    again = "`selbench report tiny --store kept`"
    assert where == f"results in kept/tiny; show them as a web site: {again}"
    assert "2 networks; nothing new to evaluate, all was in the store\n" in second
    assert selbench("run", tiny_study, "--quiet").err == ""


def test_verbose_says_what_is_found_and_how_long_it_takes(selbench, tiny_study, refused):
    err = selbench("run", tiny_study, "--verbose").err
    assert "images of folder: 48 to train on, 18 to test; 3 classes\n" in err
    assert "cells to do: 2, of 18 images each\n" in err
    assert "evaluate: done in " in err
    assert refused("run", tiny_study, "-v", "-q").startswith("--quiet says less")


def test_a_study_without_a_column_is_left_out_with_a_note(selbench, tiny_study, few_conditions):
    selbench("run", tiny_study, "--suite", "corruptions")
    selbench("run", shutil.copy(tiny_study, "other.toml"), "--alpha", "1")
    ended = selbench("leaderboard", "--columns", "clean,mce", "--format", "json")
    assert [board["study"] for board in json.loads(ended.out)] == ["tiny"]
    assert ended.err.startswith("left out: other has no numbers for the column mce; make some with")
    assert ended.code == 0
    assert selbench("leaderboard", "other", "--columns", "mce").code == 2


MISTYPED = """
import sys
from selbench.commands.cli import main

def ended(*words):
    sys.argv = ["selbench", *words]
    try:
        main()
    except SystemExit as end:
        return end.code

for command in ("run", "train", "baseline", "check", "probe"):
    assert ended(command, "digist") == 2, command
wrong = ["run --suite corruption", "run --corruption fogg", "run --attack pgdd", "run --format xml"]
wrong += ["run --engine rai", "run --alpha x", "check --suite no", "baseline --seed -1"]
wrong += ["corrupt digits --corruption fogg", "figure tradeof", "leaderboard --format xml"]
wrong += ["run --time-limit -1", "run --pixels int", "train --half", "train --seed x"]
wrong += ["probe --alpha x", "calibration --format xml", "run --device gpu", "run --budget 9"]
wrong += ["leaderboard --columns clen", "leaderboard --sort mcee", "leaderboard --corruption fogg"]
wrong += [f"{each} --dataset digits" for each in ("run --model timmm:x", "run --model resnet18")]
wrong += ["probe gone.py:net --dataset digits", "corrupt digits --model no.module:net"]
for words in wrong:
    assert ended(*words.split()) == 2, words
    assert "torch" not in sys.modules, words
print("torch" in sys.modules)
"""


@pytest.fixture
def remembering(monkeypatch, tmp_path):
    """Remember the names of the registries in a home of its own; then let torch seem unimported."""
    monkeypatch.setenv("SELBENCH_HOME", str(tmp_path))
    remember()
    monkeypatch.delitem(sys.modules, "torch")
    remembered._remembered.cache_clear()
    yield tmp_path / remembered.FILE
    remembered._remembered.cache_clear()


def test_what_is_mistyped_is_refused_before_torch_is_imported(remembering):
    words = [sys.executable, "-c", MISTYPED]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.stdout == "False\n", ended.stderr
    assert ended.stderr.count("'digits'?") == 5
    nouns = {"suite": 2, "corruption": 3, "attack": 1, "figure": 1, "column": 2, "format": 3}
    for noun, count in nouns.items():
        assert ended.stderr.count(f"selbench: unknown {noun} '") == count, noun


def test_every_name_of_the_registries_is_remembered(remembering):
    assert json.loads(remembering.read_text())["names"].keys() == SOURCES.keys()
    for noun, names in (
        ("suite", SUITES),
        ("corruption", CORRUPTIONS),
        ("attack", attack_names()),
        ("figure", FIGURES),
        ("format", ["table", *FORMATS]),
        ("column", COLUMNS),
        ("model", ZOOS),
        ("--engine", ENGINES),
    ):
        assert len(names) > 1
        check_names(noun, [*names])
        with pytest.raises(SelbenchError, match=f"unknown {noun} '{next(iter(names))}x'"):
            check_names(noun, [f"{next(iter(names))}x"])


def test_sources_of_networks_that_are_there_are_left_to_the_registry(remembering, tmp_path):
    (tmp_path / "net.py").touch()
    loaded = f"{__name__}:make"  # a module without a file that is found, as `__main__` may be
    check_models(["", "timm:anything", f"{tmp_path}/net.py:make", "torch.nn:Linear", loaded])
    with pytest.raises(SelbenchError, match="unknown kind of model 'timn'; did you mean 'timm'"):
        check_models(["timn:anything"])


def test_headings_and_columns_of_folders_are_left_to_the_table(remembering):
    assert remembered.OF_FOLDERS == OF_FOLDERS
    check_columns([COLUMNS["mca"].heading, f"{OF_FOLDERS}mine", "clean"])
    with pytest.raises(SelbenchError, match="unknown column 'clen'; did you mean 'clean'"):
        check_columns(["clen"])


@pytest.mark.parametrize(
    "content", ["", "[]", '{"of": 1}', '{"of": "other", "names": {"suite": ["clean"]}}']
)
def test_names_of_other_sources_or_a_damaged_file_refuse_nothing(remembering, content):
    remembering.write_text(content)
    check_names("suite", ["mine"])


def test_a_file_more_in_the_packages_is_another_source(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(remembered, "PACKAGES", ("made_here",))
    (tmp_path / "made_here").mkdir()
    (tmp_path / "made_here/__init__.py").touch()
    before = remembered._sources()
    assert remembered._sources() == before
    (tmp_path / "made_here/more.py").write_text("x = 1")
    assert remembered._sources() != before


def test_with_plugins_only_the_registries_know_all_names(monkeypatch, remembering):
    with pytest.raises(SelbenchError, match="unknown suite 'mine'; known are"):
        check_names("suite", ["mine"])
    monkeypatch.setattr(remembered, "entry_points", lambda group: [f"a plugin of {group}"])
    check_names("suite", ["mine"])
