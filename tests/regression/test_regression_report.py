"""Reports: for people, for programs and for GitHub; names appear as text."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from selbench._kit.errors import SelbenchError
from selbench.regression import github
from selbench.regression.comparison import compare
from selbench.regression.summary import (
    Report,
    basis,
    headline,
    sentence,
    summary,
    to_json,
    to_junit,
    to_table,
    warning,
    xml_text,
)

EVIL = "<script>alert(1)</script>|`x`\n::error::gone%0A\x1b[31m]]>&"


@pytest.fixture
def report(made):
    """Return a function that reports a drop of 10 points in every one of some conditions."""

    def make(names=("corruptions/fog/3",), subject="alpha=0", before=90, after=80):
        def tables(right):
            return {name: np.arange(200)[None] < 2 * right for name in names}

        found = compare(tables(before), tables(after))
        return Report(found, made(tables(before)), subject)

    return make


def shown(table):
    console = Console(width=80, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_drop_is_told_with_size_interval_and_certainty(report):
    made = report()
    text = sentence(made, made.comparison.changes[0])
    assert text.startswith("mean of 1 conditions: 90.0 -> 80.0 %, -10.0 [")
    assert text.endswith("] points, p <0.0001")
    assert headline(made).startswith("alpha=0 got worse in mean of 1 conditions: -10.0 [")


def test_a_gain_is_told(report):
    text = headline(report(before=80, after=90))
    assert text.startswith("alpha=0: no drop above 1.0 points is shown in 1 condition on 200 ")
    assert "better in mean of 1 conditions: +10.0" in text


def test_one_network_on_each_side_says_so(report):
    assert "over examples only" in basis(report())


def test_a_baseline_of_several_networks_says_what_it_finds(made):
    bits = np.random.default_rng(0).random((3, 400)) < 0.7
    assert "3 networks" in summary(made({"corruptions/fog/3": bits}))
    assert "against 3 others, a true drop of the mean by" in summary(
        made({"corruptions/fog/3": bits})
    )
    assert "one network" in summary(made({"corruptions/fog/3": bits[:1]}))


def test_conditions_at_chance_are_named_in_a_warning(made):
    def recorded(**right):
        return made({name: np.arange(100)[None] < n for name, n in right.items()})

    assert warning(recorded(a=19, b=90), chance=0.18) == ""
    assert warning(recorded(a=18, b=90), chance=0.18) == (
        "accuracy is no more than chance in 1 of 2 conditions, where a check can hardly see a "
        "loss: a; record others with --corruption or --attack"
    )
    text = warning(recorded(a=1, b=2, c=3, d=4, e=90), chance=0.18)
    assert "in 4 of 5 conditions, where" in text
    assert ": a, b, c, 1 more; " in text
    assert warning(recorded(**{"shifted/photos": 1}), chance=0.18) == ""


def test_the_table_fits_80_columns_and_shows_what_got_worse(report):
    names = [f"corruptions/elastic_transform/{n}" for n in range(30)]
    lines = shown(to_table(report(names))).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert sum("worse" in line for line in lines) == 31  # 30 conditions, their mean
    same = shown(to_table(report(names, after=90)))
    assert "19 smaller changes not" in " ".join(same.split())


def test_json_holds_every_number(report):
    value = json.loads(to_json(report()))
    assert value["failed"]
    assert value["changes"][0]["name"] == "mean"
    assert value["changes"][0]["difference"] == pytest.approx(-0.1)
    assert value["networks"] == {"baseline": 1, "now": 1}


def test_junit_has_a_case_for_every_condition(report):
    tree = ElementTree.fromstring(to_junit(report(["clean/clean", "corruptions/fog/3"])))
    assert tree.attrib == {
        "name": "selbench check",
        "tests": "3",
        "failures": "3",
        "errors": "0",
    }
    assert [case.get("name") for case in tree] == [
        "mean of 1 conditions",
        "clean/clean",
        "corruptions/fog/3",
    ]
    assert "-10.0" in tree[1][0].get("message")


def test_junit_of_a_passing_check_has_no_failure(report):
    assert "failure " not in to_junit(report(after=90))


def test_names_are_text_in_xml(report):
    tree = ElementTree.fromstring(to_junit(report([EVIL], EVIL)))
    assert tree[1].get("name") == xml_text(EVIL)
    assert tree[1].get("classname") == "selbench." + xml_text(EVIL)


def test_names_are_text_in_annotations(report):
    lines = github.annotations(report([EVIL], EVIL)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("::error title=selbench check::") for line in lines)
    assert "%0A::error::gone%250A" in lines[1]
    assert "\x1b" not in "".join(lines)
    passed = github.annotations(report([EVIL], EVIL, after=90))
    assert passed.count("\n") == 1
    assert passed.startswith("::notice title=selbench check::")


def test_names_are_text_in_markdown(report):
    text = github.summary(report([EVIL], EVIL))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`x\\`" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)


def test_names_are_text_in_the_table(report):
    text = shown(to_table(report([EVIL], EVIL)))
    assert "\x1b" not in text
    assert "[bold]" in shown(to_table(report(["[bold]"])))


def test_the_summary_is_appended_where_github_wants_it(report, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    github.append_summary(report())
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    github.append_summary(report())
    assert path.read_text().startswith("before\n## selbench: robustness got worse\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(SelbenchError, match="cannot write GITHUB_STEP_SUMMARY"):
        github.append_summary(report())
