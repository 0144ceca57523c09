"""The GitHub Action: what it runs is what the command understands."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

ACTION = Path(__file__).parents[2] / ".github/actions/selbench-check/action.yml"


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Return a function that runs the action's script, and returns the words selbench is given."""
    if not ACTION.is_file():
        pytest.skip("needs a checkout: the action is no part of the package")
    fake = tmp_path / "bin" / "selbench"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 1\n')
    fake.chmod(0o755)
    script = textwrap.dedent(ACTION.read_text().split("run: |\n")[1])

    def run(**inputs):
        names = re.findall(r"^        ([A-Z_]+): \$\{\{ inputs", ACTION.read_text(), re.MULTILINE)
        path = f"{fake.parent}:{os.environ['PATH']}"
        given = dict.fromkeys(names, "") | inputs | {"PATH": path}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        ended = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert ended.returncode == 1  # as the command's
        return ended.stdout.splitlines()

    return run


def test_inputs_become_options(words):
    given = words(STUDY="s", BASELINE="b", TOLERANCE="0.1", SUITE="clean\nattacks", BUDGET="9s")
    assert given == [
        *("check", "s", "--baseline", "b", "--tolerance", "0.1", "--quiet"),
        *("--suite", "clean", "--suite", "attacks", "--budget", "9s"),
    ]


def test_a_brought_network_needs_no_study(words):
    given = words(BASELINE="b", TOLERANCE="0", MODEL="torchvision:resnet18", INPUT_SIZE="64")
    assert given[:3] == ["check", "--baseline", "b"]
    assert given[-4:] == ["--model", "torchvision:resnet18", "--input-size", "64"]


def test_inputs_are_never_run(words):
    evil = '$(touch gone) `touch gone`"; touch gone; "'
    given = words(STUDY=evil, BASELINE="b", TOLERANCE="0", CHECKPOINT=f"a b\n{evil}", JUNIT="j")
    assert given[1] == evil
    assert given[-6:] == ["--checkpoint", "a b", "--checkpoint", evil, "--junit", "j"]
    assert not Path("gone").exists()


def test_every_option_exists(selbench, words):
    used = set(re.findall(r"--[a-z-]+[a-z]", ACTION.read_text().split("run: |\n")[1]))
    assert len(used) == 23
    known = selbench("check", "--help").out
    assert all(option in known for option in used)
