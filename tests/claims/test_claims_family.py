"""Claims that are tested together share their errors."""

from dataclasses import replace

import pandas as pd
import pytest

from selbench.claims.judging import About, judge, judged
from selbench.claims.readings import Networks


def rising(alpha):
    return 0.5 + 0.02 * alpha


def test_claims_tested_together_share_their_errors(clean, claim):
    rows = clean(lambda a: 0.5 + 0.0035 * (a == 1), seeds=range(3), noise=0.001)
    asked = claim("difference", between=[1, 1], direction="up")
    about = About("study", "m/d")
    (alone,) = judge(rows, [asked], about).verdicts
    assert alone.verdict == "supported"
    other = claim("difference", between=[2, 2], direction="up")
    others = [other.model_copy(update={"id": f"Y{n}"}) for n in range(9)]
    crowd = judge(rows, [asked, *others], about).verdicts[0]
    assert crowd.verdict == "inconclusive"
    assert crowd.reason == "supported if tested alone, but not among 10 claims (Holm)"
    assert crowd.p == pytest.approx(10 * alone.p)
    assert (crowd.effect.low, crowd.effect.high) == (alone.effect.low, alone.effect.high)


def test_untested_claims_are_not_of_the_family(clean, claim):
    rows = clean(rising)
    asked = claim("difference", between=[1, 1], direction="up")
    missing = claim("difference", between=[9, 9], direction="up")
    found = judge(rows, [asked, missing], About("study", "m/d")).verdicts
    assert [each.family for each in found] == [1, 0]


def test_claims_that_say_the_same_count_once(clean, claim):
    rows = clean(lambda a: 0.5 + 0.0035 * (a == 1), seeds=range(3), noise=0.001)
    asked = claim("difference", between=[1, 1], direction="up")
    again = asked.model_copy(update={"id": "Y", "counted_with": "X"})
    found = judge(rows, [asked, again], About("study", "m/d")).verdicts
    (alone,) = judge(rows, [asked], About("study", "m/d")).verdicts
    assert [(each.family, each.p) for each in found] == [(1, alone.p)] * 2


def test_each_claim_is_judged_where_most_of_it_was_measured(made, clean, claim):
    about = About("study", "m/d")
    index = {("selectivity", "clean", None, "index"): rising}
    few = pd.concat([clean(rising), made(index)])
    many = clean(rising, seeds=range(5)).assign(n=10_000)
    lacking = clean(rising, seeds=range(4)).assign(n=9_000)
    asked, other, missing = (
        claim("difference", between=[1, 1], direction="up", reading=reading)
        for reading in (
            {"suite": "clean"},
            {"suite": "selectivity", "metric": "index"},
            {"suite": "attacks"},
        )
    )
    samples = [
        (Networks(rows), replace(about, limit=limit))
        for rows, limit in ((many, None), (lacking, 9_000), (few, 1_000))
    ]
    found = judged(samples, [asked, other, missing]).verdicts
    assert [each.images for each in found] == [10_000, 1_000, None]
    assert "--limit 1000" in found[2].command  # where most was measured
    found = judged(samples[1:], [asked, other, missing]).verdicts
    assert [each.images for each in found] == [1_000, 1_000, None]  # 9,000 lack a seed
    assert judged(samples[:1], [asked]).verdicts[0].images == 10_000
