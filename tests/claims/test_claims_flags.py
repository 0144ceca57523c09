"""The claim that no network hides its gradient: one flag refutes, none of any network supports."""

import pytest

SUPPORTED, REFUTED, OPEN, UNTESTED = "supported", "refuted", "inconclusive", "not tested"
CELL = ("clean", "clean", None, "accuracy")
CHECK = ("attacks", "masking", None, "masking_zero_gradients")
STRONG = ("attacks-strong", "noise-linf", 1, "accuracy")


def flat(alpha):
    return 0.5


def test_none(made, claim, verdict):
    found = verdict(made({CHECK: lambda a: 0, STRONG: flat}, noise=0), claim("flags"))
    assert (found.verdict, found.p, found.family) == (SUPPORTED, None, 0)
    assert found.effect.high == pytest.approx(100 * (1 - 0.025 ** (1 / 25)))


def test_one(made, claim, verdict):
    rows = made({CHECK: lambda a: 0}, noise=0)
    rows.loc[3, "value"] = 0.1
    found = verdict(rows, claim("flags"))
    assert (found.verdict, found.effect.value) == (REFUTED, 4)
    assert found.effect.detail == "alpha=-2 seed=3: zero gradients"


def test_half_of_the_checks_support_nothing(made, claim, verdict):
    found = verdict(made({CHECK: lambda a: 0}, noise=0), claim("flags"))
    assert found.verdict == OPEN
    assert "attacks-strong adds" in found.reason


def test_neither_does_one_seed(made, claim, verdict):
    cells = {CHECK: lambda a: 0, STRONG: flat}
    found = verdict(made(cells, noise=0, seeds=[0]), claim("flags"))
    assert (found.verdict, found.reason) == (OPEN, "no flag, of one network for each alpha")


def test_all_alphas_are_checked(made, claim, verdict):
    rows = made({CHECK: lambda a: 0, STRONG: flat, CELL: flat}, noise=0)
    rows = rows[(rows["suite"] == "clean") | (rows["alpha"] != 2)]
    found = verdict(rows, claim("flags"))
    assert (found.verdict, found.reason) == (UNTESTED, "masking was not checked of alpha = 2")
    assert found.command.endswith("--suite attacks --suite attacks-strong --alpha 2")
