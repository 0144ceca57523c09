"""The claim that no network hides its gradient: one flag refutes, none of any network supports."""

import pytest

SUPPORTED, REFUTED, OPEN, UNTESTED = "supported", "refuted", "inconclusive", "not tested"
CELL = ("clean", "clean", None, "accuracy")
CHECK = ("attacks", "masking", None, "masking_zero_gradients")
FREE = ("attacks-strong", "hopskipjump-l2", 1, "accuracy")
TRANSFER = ("attacks-strong", "transfer-linf", 1, "accuracy")
PGD, NOISE = ("attacks", "pgd-linf", 1, "accuracy"), ("attacks-strong", "noise-linf", 1, "accuracy")


def flat(alpha):
    return 0.5


ALL = {CHECK: lambda a: 0, FREE: flat, TRANSFER: flat}


def test_none(made, claim, verdict):
    found = verdict(made(ALL, noise=0), claim("flags"))
    assert (found.verdict, found.p, found.family) == (SUPPORTED, None, 0)
    assert found.effect.high == pytest.approx(100 * (1 - 0.025 ** (1 / 25)))


def test_one(made, claim, verdict):
    rows = made({CHECK: lambda a: 0}, noise=0)
    rows.loc[3, "value"] = 0.1
    found = verdict(rows, claim("flags"))
    assert (found.verdict, found.effect.value) == (REFUTED, 4)
    assert found.effect.detail == "alpha=-2 seed=3: zero gradients"


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ({}, "gradient-free attack of attacks-strong was made"),
        ({NOISE: flat, TRANSFER: flat}, "gradient-free attack of attacks-strong was made"),
        ({FREE: flat}, "transfer attack of attacks-strong was made"),
    ],
)
def test_half_of_the_checks_support_nothing(cells, what, made, claim, verdict):
    found = verdict(made({CHECK: lambda a: 0, **cells}, noise=0), claim("flags"))
    assert (found.verdict, found.reason) == (OPEN, f"no flag, but no {what}")


def test_further_attacks_on_one_network_support_nothing_of_others(made, claim, verdict):
    rows = made(ALL, noise=0)
    rows = rows[(rows["condition"] != "transfer-linf") | (rows["subject"] != "alpha=-2 seed=3")]
    found = verdict(rows, claim("flags"))
    assert found.verdict == OPEN
    assert found.reason.endswith("transfer attack of attacks-strong was made on alpha=-2 seed=3")


def test_attacks_without_the_checks_support_nothing(made, claim, verdict):
    found = verdict(made({PGD: flat, NOISE: flat}, noise=0), claim("flags"))
    assert (found.verdict, found.reason) == (UNTESTED, "masking was not checked")
    assert found.command.endswith("--suite attacks --suite attacks-strong")
    rows = made({**ALL, PGD: flat}, noise=0)
    rows = rows[(rows["condition"] != "masking") | (rows["subject"] != "alpha=-2 seed=3")]
    found = verdict(rows, claim("flags"))
    assert found.verdict == OPEN
    assert found.reason == "no flag, but masking was not checked for 1 network"


def test_noise_that_beats_pgd_is_a_flag_without_the_checks_too(made, claim, verdict):
    found = verdict(made({PGD: lambda a: 0.6, NOISE: flat}, noise=0), claim("flags"))
    assert (found.verdict, found.effect.value) == (REFUTED, 100)


def test_neither_does_one_seed(made, claim, verdict):
    found = verdict(made(ALL, noise=0, seeds=[0]), claim("flags"))
    assert (found.verdict, found.reason) == (OPEN, "no flag, but only one network for each alpha")


def test_networks_of_every_alpha_are_checked(made, claim, verdict):
    rows = made({**ALL, CELL: flat}, noise=0)
    rows = rows[(rows["suite"] == "clean") | (rows["alpha"] != 2)]
    found = verdict(rows, claim("flags"))
    assert found.verdict == OPEN
    assert found.reason == "no flag, but masking was not checked for 5 networks"


def test_one_flag_refutes_whatever_was_not_checked(made, claim, verdict):
    rows = made({CHECK: lambda a: 0, CELL: flat, PGD: flat}, noise=0)
    rows.loc[rows["condition"] == "masking", "value"] = [0.1, *24 * [0]]
    kept = (rows["condition"] != "masking") | (rows["alpha"] == -2)
    found = verdict(rows[kept], claim("flags"))
    assert (found.verdict, found.effect.networks) == (REFUTED, 5)
