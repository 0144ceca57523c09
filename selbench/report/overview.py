"""What was measured and what came out, in plain words."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from selbench._kit.errors import SelbenchError
from selbench.claims.judging import ELSEWHERE, VERDICTS
from selbench.report.answer import answered, picked
from selbench.report.evidence import Evidence
from selbench.store.findings import whole_name
from selbench.study import count_of, exactly
from selbench.tables.current import data_name
from selbench.tables.tradeoff import Change, changes, positions

HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Line:
    """What an alpha changes: its name, and the texts of clean, corrupted and adversarial."""

    alpha: str
    cells: list[str]
    sure: list[bool]


@dataclass(frozen=True)
class Overview:
    """The first page's words.

    Attributes:
        tested: what was measured, sentence by sentence.
        headline: what the ends of the range of alphas change; says what is missing where it was not
            measured.
        command: what measures that; "" where nothing is missing.
        lines: the changes of every alpha against alpha = 0.
        verdicts: how many claims have each verdict that any has.
        answer: whether there is a trade-off, over all alphas and scales; "" where nothing is known.
        picked: how that was decided.
    """

    tested: list[str]
    headline: list[str]
    command: str
    lines: list[Line]
    verdicts: dict[str, int]
    answer: str = ""
    picked: str = ""


def overview(evidence: Evidence) -> Overview:
    """Put a study's results in words."""
    counts = Counter(each.verdict for each in evidence.judgement.verdicts)
    words = [word for name in VERDICTS for word in (name, ELSEWHERE.get(name, name))]
    verdicts = {word: counts[word] for word in dict.fromkeys(words) if counts[word]}
    try:
        places = positions(evidence.rows, evidence.study)
    except SelbenchError:
        sentences = [
            "The trade-off between corruptions and attacks needs both suites on one network."
        ]
        command = evidence.making("corruptions", "attacks")
        return Overview(tested(evidence), sentences, command, [], verdicts)
    rows, found = evidence.rows, changes(places)
    clean = rows[(rows["suite"] == "clean") & (rows["metric"] == "accuracy")]
    answer, how = answered(places, float(clean["n"].min())), picked(places)
    ends = headline(found) if found else []
    return Overview(tested(evidence), ends, "", _lines(found), verdicts, answer, how)


def tested(evidence: Evidence) -> list[str]:
    """Say which networks were tested on how many images, and under what."""
    rows, study = evidence.rows, evidence.manifest.get("study", {})
    networks = rows[["subject", "alpha", "seed"]].drop_duplicates()
    networks = networks.assign(subject=networks["subject"].map(whole_name)).drop_duplicates()
    trained = networks[networks["alpha"].notna()]
    model = study.get("model", {}).get("name", "one architecture")
    data = data_name(evidence.manifest).removeprefix("folder ")
    parts = []
    if len(trained):
        alphas = sorted(set(trained["alpha"]))
        span = f"alpha = {', '.join(map(exactly, alphas))}"
        seeds = sorted(set(trained.groupby("alpha").size()))
        few = f"{seeds[0]} to " if len(seeds) > 1 else ""
        each = f"with {few}{count_of(seeds[-1], 'random seed')} each"
        parts.append(
            f"{count_of(len(trained), 'network')} of one kind ({model}) were trained on {data}, at "
            f"{span} {each}."
        )
    if brought := len(networks) - len(trained):
        were = "was" if brought == 1 else "were"
        parts.append(f"{count_of(brought, 'network')} {were} brought from elsewhere.")
    accuracy = rows[rows["metric"] == "accuracy"]
    images = sorted({int(n) for n in accuracy["n"]})
    kinds = [words for words in (_corrupted(accuracy), _attacked(accuracy)) if words]
    if images:
        under = f", under {' and '.join(kinds)}" if kinds else ""
        size = " to ".join(f"{n:,}" for n in dict.fromkeys((images[0], images[-1])))
        never = "" if brought else " that training had not seen"
        those = "It was" if len(networks) == 1 else "They were"
        parts.append(f"{those} tested on {size} images{_sized(study)}{never}: clean{under}.")
    return parts


def _sized(study: dict[str, Any]) -> str:
    """Say to what size images were brought; "" where they stayed as they were."""
    data = study.get("dataset", {})
    side = data.get("crop") or data.get("resize")
    return f", brought to {side} x {side} pixels" if side else ""


def _corrupted(accuracy: pd.DataFrame) -> str:
    part = accuracy[accuracy["suite"].isin(["corruptions", "corruptions-extra", "corruptions-bar"])]
    names, levels = part["condition"].nunique(), part["level"].nunique()
    severities = f"{levels} severities" if levels > 1 else "1 severity"
    return f"{count_of(names, 'corruption')} at {severities}" if names else ""


def _attacked(accuracy: pd.DataFrame) -> str:
    part = accuracy[accuracy["suite"].isin(["attacks", "attacks-strong"])]
    names = part["condition"].nunique()
    return f"{count_of(names, 'adversarial attack')} with growing budgets" if names else ""


def headline(found: list[Change]) -> list[str]:
    """Tell what the lowest and the highest alpha change, and whether that is the trade-off."""
    alphas = [each.alpha for each in found]
    ends = [min(alphas)] if min(alphas) < 0 else []
    ends += [max(alphas)] if max(alphas) > 0 else []
    sentences = []
    for alpha in ends:
        by_quantity = {each.quantity: each for each in found if each.alpha == alpha}
        verb = "discourages" if alpha < 0 else "encourages"
        sentences.append(
            f"Training that {verb} selectivity (alpha = {exactly(alpha)}) leaves accuracy under "
            f"corruptions {_words(by_quantity['corrupted'])}, and accuracy under attacks "
            f"{_words(by_quantity['adversarial'])}, than alpha = 0. {_reading(by_quantity)}"
        )
    return sentences


def _words(change: Change) -> str:
    """Write "1.1 points higher (95 % interval -9.0 to +11.2)"."""
    side = HIGHER if change.value >= 0 else LOWER
    found = change.difference
    if found is None:
        return f"{100 * abs(change.value):.1f} points {side} (one seed: no interval)"
    interval = f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return f"{100 * abs(change.value):.1f} points {side} ({interval})"


def _reading(by_quantity: dict[str, Change]) -> str:
    """Say what the two differences amount to, no more than their intervals allow."""
    one, other = by_quantity["corrupted"], by_quantity["adversarial"]
    if not (one.difference and other.difference):
        return "Whether chance alone makes such differences, only more seeds can tell."
    if not (sure(one) or sure(other)):
        return "Both intervals include zero: with these seeds, chance alone may make that."
    if not (sure(one) and sure(other)):
        certain, open_ = ("corruptions", "attacks") if sure(one) else ("attacks", "corruptions")
        return f"The difference under {certain} is beyond chance, the one under {open_} is not."
    if one.value * other.value < 0:
        return "Both are beyond chance and opposite: a trade-off in plain accuracy."
    return f"Both are beyond chance and both {_side(one)}: no trade-off in plain accuracy."


def _side(change: Change) -> str:
    return HIGHER if change.value > 0 else LOWER


def sure(change: Change) -> bool:
    """Whether the 95 % interval excludes zero."""
    found = change.difference
    return found is not None and not found.low <= 0 <= found.high


def _lines(found: list[Change]) -> list[Line]:
    lines = []
    for alpha in sorted({each.alpha for each in found}):
        group = [each for each in found if each.alpha == alpha]
        cells, certain = [_cell(each) for each in group], [sure(each) for each in group]
        lines.append(Line(exactly(alpha), cells, certain))
    return lines


def _cell(change: Change) -> str:
    found = change.difference
    text = f"{100 * change.value:+.1f}"
    return text if found is None else f"{text} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
