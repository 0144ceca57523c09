"""Adversarials that a file can hold, as users meet them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from selbench.suites import attacked as suites

ATTACK = ("--alpha", "0", "--suite", "attacks", "--limit", "6", "--attack", "pgd-linf")
PIXELS = ("--pixels", "uint8", "--save-adversarials", "6")


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(suites, "STEPS", 4)


def test_cells_of_files_stand_in_a_table_of_their_own(selbench, tiny_study):
    ended = selbench("run", tiny_study, *ATTACK, *PIXELS)
    assert ended.code == 0
    assert "adversarials of 8-bit pixels" in " ".join(ended.out.split())
    rows = pd.read_csv("runs/tiny/measurements.csv").query("metric == 'accuracy'")
    curve = rows[rows["condition"] == "pgd-linf-uint8"].set_index("level")["value"].sort_index()
    clean = rows[rows["condition"] == "clean"]["value"].item()
    assert list(curve[[0.25, 0.5]]) == [clean, clean]
    assert curve.is_monotonic_decreasing
    if clean < 1:
        assert list(Path("runs/tiny/adversarials").glob("pgd-linf-uint8-*/16/*.png"))

    usual = selbench("run", tiny_study, *ATTACK, "--quiet")
    assert "adversarials of 8-bit pixels" in " ".join(
        usual.out.split()
    )  # neither takes the place of the other
    assert "tiny: attacks" in usual.out


def test_what_pixels_and_eot_cannot_be_is_said_in_a_sentence(selbench, tiny_study):
    for words, sentence in (
        (
            ("--pixels", "uint16"),
            "--pixels takes uint8 (images that a file can hold), got",
        ),
        (("--eot", "1"), "--eot takes a number of draws from 2 to 1000, such as 20, got 1"),
        (("--eot", "20", "--pixels", "uint8"), "--eot and --pixels do not go together; leave one"),
        (("--eot", "20"), "--eot is for attacks; add --suite attacks, or leave it out"),
        (("--pixels", "uint8"), "--pixels is for attacks; add --suite attacks, or leave it out"),
        (
            ("--pixels", "uint8", "--suite", "attacks", "--attack", "paper-pgd"),
            "paper-pgd has no epsilons, which --pixels needs; leave out one of them",
        ),
    ):
        ended = selbench("run", tiny_study, "--dry-run", *words)
        assert ended.code == 2
        assert sentence in " ".join(ended.err.split())


@pytest.mark.soak
def test_adversarials_of_others_are_an_attack_of_their_own(selbench, tiny_study):
    words = ("run", tiny_study, "--alpha", "0", "--limit", "6", "--suite", "clean", "--quiet")
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    np.save("mine.npy", images)
    ended = selbench(*words, "--adversarials", "mine.npy")
    assert ended.code == 0
    assert "given Linf %" in ended.out.replace("\n", " ")
    rows = pd.read_csv("runs/tiny/measurements.csv")
    counts = rows[rows["condition"] == "given-l2"].groupby("metric")["value"].agg(["min", "max"])
    assert list(counts.loc["given_in_ball"]) == [0, 0]  # noise is far away
    before = set(rows["data"])
    np.save("mine.npy", images[::-1])
    assert selbench(*words, "--adversarials", "mine.npy").code == 0
    assert len(set(pd.read_csv("runs/tiny/measurements.csv")["data"]) - before) == 1
    lacking = selbench(*words, "--adversarials", "other.npy")
    assert lacking.code == 2
    assert "--adversarials: there is no other.npy; name a file" in lacking.err
