"""The commands that tables print: they name study, data and networks as the study's run did."""

import pytest

from selbench.request import request_of
from selbench.tables.current import study_words

TRAINED = {"alpha=0 seed=0": {"training": "t"}}
BROUGHT = {"mine.pth": {"training": ""}}


def made(command, subjects):
    """Return a manifest of an earlier version, which holds no request, as it is read."""
    return {"request": request_of(command).model_dump(mode="json"), "subjects": subjects}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ["study"]),
        (["selbench.evaluate"], ["study"]),
        (["run"], ["study"]),
        (["run", "my study.toml", "--suite", "attacks", "--attack=pgd-l2"], ["my study.toml"]),
        (["run", "-q", "a.toml", "--alpha", "-2,-1", "--seed", "0", "--retry-failed"], ["a.toml"]),
        (
            ["run", "cifar10", "--source", "official", "--limit", "9", "--device", "cpu"],
            ["cifar10", "--source", "official"],
        ),
        (
            ["run", "--layers=relu|gelu", "a.toml", "--columns", "maps", "--data", "my images"],
            ["a.toml", "--layers=relu|gelu", "--columns", "maps", "--data", "my images"],
        ),
        (["run", "a.toml", "--checkpoint", "b.pth", "--mean", "0,0,0"], ["a.toml"]),
    ],
)
def test_a_command_says_which_study_and_leaves_out_what_was_measured(given, words):
    assert study_words("study", made(given, TRAINED)) == words


def test_of_brought_networks_it_says_which():
    given = ["run", "--model", "my.py:build", "--pretrained", "--dataset", "digits"]
    manifest = made([*given, "--suite", "clean"], BROUGHT)
    assert study_words("digits", manifest) == given[1:]
    manifest = made(["run", "a.toml", "--checkpoint", "mine.pth"], BROUGHT)
    assert study_words("a", manifest) == ["a.toml", "--checkpoint", "mine.pth"]
    assert study_words("digits", made(given, BROUGHT), trains=True) == ["digits"]  # others
