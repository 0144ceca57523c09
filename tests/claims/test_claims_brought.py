"""Brought networks have no alpha: what is tested on them, and where they do not count."""

import numpy as np
import pandas as pd
import pytest

from selbench.claims.judging import NO_ALPHA

SUPPORTED, REFUTED, OPEN, UNTESTED = "supported", "refuted", "inconclusive", "not tested"
SI = {"suite": "selectivity", "metric": "selectivity_index", "conditions": ["clean"]}
INDEX = ("selectivity", "clean", None, "selectivity_index")


def flat(alpha):
    return 0.5


def rising(alpha):
    return 0.5 + 0.1 * alpha


CLEAN = ("clean", "clean", None, "accuracy")


def methods(made, brought, values, clean=0.5):
    """Return rows of networks with an alpha, and of brought ones whose clean accuracy is known."""
    files = brought(*INDEX[::3], values)
    accuracies = brought(*CLEAN[::3], dict.fromkeys(values, clean))
    return pd.concat([made({INDEX: flat, CLEAN: flat}), files, accuracies])


@pytest.mark.parametrize(("shift", "expected"), [(-0.1, SUPPORTED), (0, OPEN), (0.1, REFUTED)])
def test_networks_of_another_method(made, brought, claim, verdict, shift, expected):
    asked = claim("method", reading=SI, method="augmix", direction="down")
    values = {f"nets/AugMix-{n}.pth": 0.5 + shift + 0.001 * n for n in (-1, 0, 1)}
    # Neither the folder's name counts, nor a part of a word.
    others = {"augmix/plain.pth": 0.9, "nets/augmixed.pth": 0.9}
    found = verdict(methods(made, brought, values | others), asked)
    assert (found.verdict, found.effect.networks) == (expected, 8)


def test_methods_are_compared_at_like_clean_accuracy(made, brought, claim, verdict):
    asked = claim("method", reading=SI, method="augmix", direction="down")
    values = {f"augmix-{n}.pth": 0.4 + 0.001 * n for n in (-1, 0, 1)}
    found = verdict(methods(made, brought, values, clean=0.4), asked)
    assert found.verdict == UNTESTED
    assert found.reason.startswith("40.0 % of clean images right with augmix, 50.0 % at alpha = 0")
    assert found.command.endswith("--suite selectivity --checkpoint standard.pth")
    early = {f"standard-{n}.pth": 0.5 + 0.001 * n for n in (-1, 0, 1)}
    found = verdict(methods(made, brought, values | early, clean=0.4), asked)
    assert (found.verdict, found.effect.networks) == (SUPPORTED, 6)


def test_no_network_of_another_method(made, claim, verdict):
    asked = claim("method", reading=SI, method="augmix", direction="down")
    found = verdict(made({INDEX: flat}), asked)
    assert (found.verdict, found.reason) == (UNTESTED, "no network's file name contains augmix")
    assert found.command == "selbench run study --suite selectivity --checkpoint augmix.pth"


def test_brought_networks_are_no_part_of_what_a_verdict_says(made, claim, verdict):
    asked = claim("trend", reading={"suite": "corruptions"}, between=[-2, 2], direction="up")
    rows = made({("corruptions", name, 1, "accuracy"): rising for name in ("fog", "frost")})
    alone = verdict(rows, asked)
    for condition in ("fog", "snow"):  # one of the others' conditions, or none
        own = made({("corruptions", condition, 1, "accuracy"): flat}, alphas=[0], seeds=[9])
        own = own.assign(subject="mine.pt", alpha=np.nan, n=7)
        both = verdict(pd.concat([rows, own]), asked)
        assert (both.verdict, both.reason) == (SUPPORTED, "only 2 of 15 corruptions")
        assert (both.images, both.corruptions) == (alone.images, alone.corruptions) == (1000, 2)


def test_a_study_of_brought_networks_alone_is_told_so(brought, claim, verdict):
    found = verdict(brought("clean", "accuracy", {"a.pt": 0.9}), claim("flags"))
    assert (found.verdict, found.command) == (UNTESTED, "")
    assert found.reason == NO_ALPHA


def test_each_test_of_a_claim_is_about_networks_of_its_own(made, brought, claim, verdict):
    of_methods = claim("method", reading=SI, method="augmix", direction="down").tests
    trend = claim("trend", reading={"suite": "corruptions"}, between=[-2, 2], direction="up")
    mixed = trend.model_copy(update={"tests": (*of_methods, *trend.tests)})
    fog = made({("corruptions", "fog", 1, "accuracy"): rising})
    rows = methods(made, brought, {f"AugMix-{n}.pth": 0.4 + 0.001 * n for n in (-1, 0, 1)})
    own = rows[rows["alpha"].isna() & (rows["suite"] == "selectivity")]
    snow = own.assign(suite="corruptions", condition="snow", level=1, metric="accuracy")
    found = verdict(pd.concat([rows, fog, snow]), mixed)
    assert (found.verdict, found.reason) == (SUPPORTED, "only 1 of 15 corruptions")
