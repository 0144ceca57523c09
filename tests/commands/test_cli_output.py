"""The standard output and the standard error: full, closed, unread, of few characters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from selbench.commands import cli

MAIN = [sys.executable, "-m", "selbench"]
VERSION = [*MAIN, "--version"]
LEFT, OWN = 141, 70


def ended(command, **options):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, check=False, **streams)


def closing(number, command):
    """Return a command that begins with a closed stream."""
    return ["sh", "-c", f'exec "$@" {number}>&-', "sh", *command]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_output_is_one_sentence(unbuffered):
    with Path("/dev/full").open("w") as full:
        after = ended(VERSION, stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    assert after.returncode == 2
    assert after.stderr == (
        "selbench: cannot write the standard output: No space left on device; make room there, or "
        "send it elsewhere\n"
    )


def test_reader_that_has_seen_enough_is_no_problem():
    reader, writer = os.pipe()
    os.close(reader)
    after = ended(VERSION, stdout=writer)
    os.close(writer)
    assert (after.returncode, after.stderr) == (LEFT, "")


def test_closed_output_is_one_sentence_before_any_work():
    after = ended(closing(1, VERSION))
    assert after.returncode == 2
    assert after.stderr == (
        "selbench: the standard output is closed; send it to a file, or to /dev/null\n"
    )


@pytest.mark.soak
def test_what_the_standard_error_cannot_take_is_dropped():
    assert ended(closing(2, VERSION)).stdout.startswith("selbench ")
    with Path("/dev/full").open("w") as full:
        after = ended([*MAIN, "run", "digit"], stderr=full)
        assert (after.returncode, after.stdout) == (2, "")


def test_what_an_encoding_lacks_is_escaped():
    code = "import sys; sys.stdout.write('\u00b1'); sys.stdout.flush()"
    patched = (
        f"from selbench.commands import cli; cli.app = lambda **options: exec({code!r}); cli.main()"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    after = ended([sys.executable, "-c", patched], env=environment)
    assert (after.returncode, after.stdout, after.stderr) == (0, "\\xb1", "")


def raising(problem):
    def app(**options):
        raise problem

    return app


def test_an_error_of_our_own_keeps_its_traceback_and_has_its_own_code(selbench, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(ZeroDivisionError("by nothing")))
    after = selbench("list")
    assert (after.code, after.out) == (OWN, "")
    assert after.err.startswith("Traceback (most recent call last):\n")
    assert after.err.endswith("ZeroDivisionError: by nothing\n")


@pytest.mark.parametrize("code", [0, 1, 3, None])
def test_foreign_code_that_ends_the_program_is_told(code, refused, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(SystemExit(code)))
    assert refused("list") == f"foreign code ended the program with sys.exit({code})"


def test_exit_codes_are_documented():
    text = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    codes = (0, 1, cli.TO_MEND, 3, cli.OWN_ERROR, cli.INTERRUPTED, cli.READER_LEFT)
    assert all(f"\n| {code} | " in text for code in codes)
