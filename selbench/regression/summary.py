"""Reports of a comparison: as sentences, a table, JSON, and JUnit XML."""

import json
import re
from dataclasses import asdict, dataclass
from xml.etree import ElementTree

from rich import box
from rich.table import Table
from rich.text import Text

from selbench._kit.printable import printable
from selbench.regression.baseline import Baseline
from selbench.regression.comparison import LEVEL, MEAN, SHIFTED, Change, Comparison, compare
from selbench.study import count_of

NAMED = 3  # conditions in a warning
SHOWN = 12  # conditions in the printed table; other formats have all
# Characters that XML does not allow.
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Report:
    """A check's comparison, the names of the models, and the findings of the probe."""

    comparison: Comparison
    baseline: Baseline
    subject: str
    findings: tuple[str, ...] = ()
    detect: float | None = None  # drop in points that the check must find

    @property
    def failed(self) -> bool:
        """Whether anything got worse, or the check could not find a drop of `detect` points."""
        return bool(self.comparison.worse) or self.blind

    @property
    def blind(self) -> bool:
        """Whether the check could not find a drop of `detect` points."""
        return self.detect is not None and 100 * self.comparison.detectable > self.detect


def summary(baseline: Baseline) -> str:
    """Describe a baseline, and the drop that can be found with it."""
    correct, count = baseline.correct(), len(baseline.networks)
    networks = f"{count} networks" if count > 1 else "one network"
    text = (
        f"records {baseline.subject} ({networks}) in {count_of(len(correct), 'condition')} on "
        f"{baseline.examples} examples"
    )
    if count == 1:
        return f"{text}; one network does not show how much networks of other seeds differ"
    return f"{text}; against {count} others, {power(compare(correct, correct))}"


def warning(baseline: Baseline, chance: float) -> str:
    """Return a warning of conditions with accuracies of up to `chance`; "" for none.

    Folders of shifted images are left out: their classes may have other shares.
    """
    means = {name: each.mean() for name, each in baseline.correct().items()}
    low = [n for n, mean in means.items() if mean <= chance and not n.startswith(SHIFTED)]
    if not low:
        return ""
    named = ", ".join([*low[:NAMED], *([f"{len(low) - NAMED} more"] if len(low) > NAMED else [])])
    return (
        f"accuracy is no more than chance in {len(low)} of {count_of(len(means), 'condition')}, "
        f"where a check can hardly see a loss: {named}; record others with --corruption or --attack"
    )


def power(found: Comparison) -> str:
    """Return a phrase on the drop that a check finds."""
    what = "the mean" if found.conditions else "clean accuracy"
    if found.detectable >= 1:
        return f"no drop of {what} is found in 9 of 10 checks"
    return (
        f"a true drop of {what} by {percent(found.detectable)} points is found in about 9 of 10 "
        "checks"
    )


def label(report: Report, change: Change) -> str:
    """Return the label of a condition, or of the mean over them."""
    if change.name != MEAN:
        return change.name
    return f"mean of {report.comparison.conditions} conditions"


def sentence(report: Report, change: Change) -> str:
    """Describe the change of a condition, with interval and p-value."""
    p = change.better if change.verdict == "better" else change.worse
    return (
        f"{label(report, change)}: {percent(change.before)} -> {percent(change.after)} %, "
        f"{interval(change)} points, p {_p(p)}"
    )


def headline(report: Report) -> str:
    """Return the result of the check in one sentence."""
    found, worse = report.comparison, report.comparison.worse
    compared = f"{count_of(len(_conditions(found)), 'condition')} on {found.examples} examples"
    if worse:
        return (
            f"{report.subject} got worse in {_largest_of(report, worse)}; compared {compared}; "
            f"{power(found)}"
        )
    if report.blind:
        return (
            f"{report.subject}: the check could not have seen a drop of {report.detect:g} points "
            f"in {compared}: {power(found)}; {_cure(found)}"
        )
    better = f"; better in {_largest_of(report, found.better)}" if found.better else ""
    return (
        f"{report.subject}: no drop above {percent(found.tolerance)} points is shown in "
        f"{compared}{better}; {power(found)}"
    )


def _cure(found: Comparison) -> str:
    """Return what would make smaller drops detectable."""
    if found.limited_by == "seeds":
        return "use more seeds in the baseline and in the check"
    return "use more test images, in the baseline too"


def basis(report: Report) -> str:
    """Return a sentence on the intervals and p-values."""
    old, new = report.comparison.networks
    parts = [
        f"p is corrected for all conditions and significant up to {LEVEL:g}; intervals are 95 %"
    ]
    if report.comparison.knows_seeds:
        parts.append(f"both hold over examples and seeds ({old} networks then, {new} now)")
    else:
        parts.append(
            "both are over examples only: one network then and one now do not show how much "
            "networks of other seeds differ"
        )
    return "; ".join(parts)


def to_table(report: Report) -> Table:
    """Return the printed table: the mean, clean images, and the largest changes."""
    title = Text(printable(f"{report.subject} and the baseline, accuracy in %"))
    table = Table(box=box.SIMPLE, title=title, pad_edge=False)
    table.add_column("condition", no_wrap=True)
    for heading in ("then", "now", "points [95 %]", "p", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = chosen(report.comparison)
    for change in shown:
        style = {"worse": "red", "better": "green"}.get(change.verdict, "")
        table.add_row(*map(Text, cells_of(report, change)), style=style)
    left = len(report.comparison.changes) - len(shown)
    table.caption = Text(basis(report) + (f"; {left} smaller changes not shown" if left else ""))
    return table


def cells_of(report: Report, change: Change) -> list[str]:
    """Return a row of a table."""
    return [
        printable(" ".join(_short(label(report, change)).split())),
        percent(change.before),
        percent(change.after),
        interval(change),
        _p(change.worse),
        change.verdict,
    ]


def _short(name: str) -> str:
    return name.removeprefix("corruptions/").removeprefix("clean/")


def chosen(found: Comparison) -> list[Change]:
    """Return the mean, clean images and the largest changes, changes for the worse first."""
    first = [change for change in found.changes if change.name in (MEAN, "clean/clean")]
    order = ["worse", "better", "same"]
    rest = sorted(
        (change for change in found.changes if change not in first),
        key=lambda change: (order.index(change.verdict), -abs(change.difference)),
    )
    certain = [change for change in rest if change.verdict != "same"]
    return [*first, *rest[: max(SHOWN - len(first), len(certain))]]


def to_json(report: Report) -> str:
    """Return the comparison as JSON, with numbers as fractions of 1."""
    found, baseline = report.comparison, report.baseline
    value = {
        "failed": report.failed,
        "summary": headline(report),
        "subject": report.subject,
        "baseline": {
            "subject": baseline.subject,
            "selbench": baseline.selbench,
            "torch": baseline.torch,
            "data": baseline.data,
            "examples": baseline.examples,
        },
        "tolerance": found.tolerance,
        "level": LEVEL,
        "networks": {"baseline": found.networks[0], "now": found.networks[1]},
        "over_seeds": found.knows_seeds,
        "examples": found.examples,
        "detectable": found.detectable,
        **({} if report.detect is None else {"detect": report.detect / 100}),
        **({"findings": list(report.findings)} if report.findings else {}),
        "changes": [asdict(each) | {"difference": each.difference} for each in found.changes],
    }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def to_junit(report: Report) -> str:
    """Return JUnit XML with a test case per condition; a case fails if it got worse."""
    found = report.comparison
    tests, failures = len(found.changes), len(found.worse)
    if report.detect is not None:
        tests, failures = tests + 1, failures + report.blind
    counts = {"tests": str(tests), "failures": str(failures), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": "selbench check", **counts})
    for change in found.changes:
        about = {"classname": f"selbench.{report.subject}", "name": label(report, change)}
        case = ElementTree.SubElement(suite, "testcase", _clean(about))
        if change.verdict == "worse":
            message = xml_text(sentence(report, change))
            ElementTree.SubElement(case, "failure", {"message": message}).text = basis(report)
    if report.detect is not None:
        about = {"classname": f"selbench.{report.subject}", "name": "detect"}
        case = ElementTree.SubElement(suite, "testcase", _clean(about))
        if report.blind:
            ElementTree.SubElement(case, "failure", {"message": power(found)}).text = _cure(found)
    if report.findings:
        output = ElementTree.SubElement(suite, "system-out")
        output.text = printable("\n".join(report.findings))
    ElementTree.indent(suite, " ")
    text: str = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def xml_text(text: str) -> str:
    """Replace characters that XML does not allow."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def percent(value: float) -> str:
    """Return a fraction as a percentage."""
    return f"{100 * value:.1f}"


def interval(change: Change) -> str:
    """Return a difference with its interval, in points."""
    value, low, high = (100 * x for x in (change.difference, change.low, change.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _clean(values: dict[str, str]) -> dict[str, str]:
    return {name: xml_text(value) for name, value in values.items()}


def _conditions(found: Comparison) -> list[Change]:
    return [change for change in found.changes if change.name != MEAN]


def _largest_of(report: Report, changes: list[Change]) -> str:
    """Name the largest change, and count the others."""
    first = max(changes, key=lambda change: (change.name == MEAN, abs(change.difference)))
    rest = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{label(report, first)}: {interval(first)} points{rest}"


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
