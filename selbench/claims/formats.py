"""Verdicts in the formats that people and programs read."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from selbench._kit.printable import markdown, markdown_table, printable
from selbench.claims.claim import UNKNOWN
from selbench.claims.effects import PLAIN, POINTS, SHARE, Effect
from selbench.claims.judging import (
    ELSEWHERE,
    LEVEL,
    NOT_TESTED,
    VERDICTS,
    Judgement,
    Verdict,
)
from selbench.study import count_of

FORMS = {POINTS: "{:+.1f} points", SHARE: "{:.1f} %", PLAIN: "{:+.3g}"}
ALIKE = "*"  # marks verdicts on another network of the same kind


def to_table(found: Judgement) -> Group:
    """Render for a terminal of 80 columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in found.verdicts:
        if each.verdict != NOT_TESTED:
            table.add_row(
                Text(each.claim.id), Text(marked(each), style="bold"), _verdict_text(each)
            )
    parts: list[Table | Text] = [
        Text(printable(found.about.study), style="italic"),
        table,
        Text(printable(caption_text(found)), style="dim"),
    ]
    for command, verdicts in _by_command(found).items():
        ids = ", ".join(each.claim.id for each in verdicts)
        reasons = "; ".join(dict.fromkeys(each.reason for each in verdicts))
        lines = [f"not tested: {ids} ({reasons})", f"  {command}"]
        parts.append(Text("\n".join(["", *map(printable, lines)])))
    return Group(*parts)


def _verdict_text(each: Verdict) -> Text:
    """Return the claim's sentence, and below it the numbers behind the verdict."""
    below = [effect_text(each.effect), power_text(each), sizes_text(each), each.reason]
    if each.claim.published != UNKNOWN:
        below.append(f"published: {each.claim.published}")
    return Text(each.claim.sentence).append(
        "\n" + printable("; ".join(filter(None, below))), style="dim"
    )


def to_markdown(judgements: Sequence[Judgement]) -> str:
    """Render as Markdown with escaped names; equal stores give equal bytes."""
    return "\n".join(_section(found) for found in judgements)


def to_json(judgements: Sequence[Judgement]) -> str:
    """Render as JSON: a list of studies with their verdicts; full numbers, or null."""
    content = [
        {
            "study": found.about.study,
            "network": found.about.network,
            "level": LEVEL,
            "diverged": list(found.about.diverged),
            **({"findings": list(found.about.findings)} if found.about.findings else {}),
            "verdicts": [_record(each) for each in found.verdicts],
        }
        for found in judgements
    ]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Judgement]], str]] = {"md": to_markdown, "json": to_json}


def _section(found: Judgement) -> str:
    heads = ["id", "claim", "verdict", "effect (95 %)", "power", "n", "published"]
    heads += ["why, or what is missing"]
    lines = []
    for each in found.verdicts:
        last = f"{each.reason}: {each.command}" if each.command else each.reason
        claim = f"{each.claim.sentence} ({each.claim.source}; {each.claim.sure})"
        words = [each.claim.id, claim, marked(each), effect_text(each.effect) or "-"]
        words += [power_text(each).removeprefix("power ") or "-"]
        words += [sizes_text(each) or "-", each.claim.published, last or "-"]
        lines.append(words)
    table = markdown_table(heads, ["---"] * len(heads), lines)
    return f"### {markdown(found.about.study)}\n\n{table}\n\n{markdown(caption_text(found))}\n"


def _record(each: Verdict) -> dict[str, Any]:
    shown = each.effect
    return {
        "id": each.claim.id,
        "hash": each.claim.hash,
        "sentence": each.claim.sentence,
        "source": each.claim.source,
        "sure": each.claim.sure,
        "note": each.claim.note,
        "published": each.claim.published,
        "tests": each.claim.model_dump(mode="json")["tests"],
        "verdict": each.verdict,
        "network": each.standing,
        "reason": each.reason,
        "p": each.p,
        "power": each.power,
        "family": each.family,
        "images": each.images,
        "corruptions": each.corruptions or None,
        "command": each.command,
        "effect": _numbers(shown) if shown else None,
        "effects": [_numbers(part) for part in each.finding.effects] if each.finding else [],
    }


def _numbers(effect: Effect) -> dict[str, Any]:
    known = {name: getattr(effect, name) for name in ("value", "low", "high")}
    return {
        "of": effect.label,
        "unit": effect.unit,
        **{name: number if math.isfinite(number) else None for name, number in known.items()},
        "p_for": effect.p_for,
        "p_against": effect.p_against,
        "networks": effect.networks,
        "seeds": effect.seeds,
        "detail": effect.detail,
        "per": effect.per or None,
    }


def effect_text(effect: Effect | None) -> str:
    """Write "-1.7 points per alpha (-2.2 to -1.3); 16.1 % at alpha = -2, 12.6 % at alpha = 0"."""
    if effect is None:
        return ""
    label = f"{effect.label}: " if effect.label else ""
    if math.isnan(effect.value):
        return f"{label}-"
    form = FORMS[effect.unit]
    form = form.replace(".1f", ".2f") if effect.per else form
    ends = form.removesuffix(" points").removesuffix(" %")
    text = label + form.format(effect.value) + (f" per {effect.per}" if effect.per else "")
    if not math.isnan(effect.low):
        text += f" ({ends.format(effect.low)} to {ends.format(effect.high)})"
    return f"{text}; {effect.detail}" if effect.detail else text


def sizes_text(each: Verdict) -> str:
    """Write the sample sizes of an effect: "15 networks, 3 seeds, 597 images, 15 corruptions"."""
    if each.effect is None:
        return ""
    counts = {
        "network": each.effect.networks,
        "seed": each.effect.seeds,
        "image": each.images,
        "corruption": each.corruptions,
    }
    return ", ".join(count_of(n, noun) for noun, n in counts.items() if n)


def power_text(each: Verdict) -> str:
    """Write the power at the published size: "power 0.43"."""
    return f"power {each.power:.2f}" if each.power is not None else ""


def marked(each: Verdict) -> str:
    """Write a verdict, with a star if the claim is about another network of this kind."""
    alike = each.standing == "kind" and each.verdict != NOT_TESTED
    return each.verdict + (ALIKE if alike else "")


def caption_text(found: Judgement) -> str:
    """Count the verdicts on claims about this kind of network, then those about other networks."""
    about = [each for each in found.verdicts if each.standing != "other"]
    others = [each for each in found.verdicts if each.standing == "other"]
    family = max(each.family for each in found.verdicts)
    parts = [_counts(about)] if about else []
    parts += (
        [f"of {count_of(len(others), 'claim')} about other networks {_counts(others)}"]
        if others
        else []
    )
    together = f"error {100 * LEVEL:g} % over {count_of(family, 'claim')} together (Holm)"
    parts += [together] if family else []
    alike = any(ALIKE in marked(each) for each in found.verdicts)
    parts += (
        [f"{ALIKE} another network of the claim's kind: {found.about.network}"] if alike else []
    )
    lost = found.about.diverged
    parts += [f"diverged in training: {', '.join(lost)}"] if lost else []
    return " ".join(["; ".join(parts) + ".", *(f"{each}." for each in found.about.findings)])


def _counts(verdicts: Sequence[Verdict]) -> str:
    """Count verdicts: "3 supported, 1 refuted, 2 inconclusive"."""
    counts = Counter(each.verdict for each in verdicts)
    words = [word for name in VERDICTS for word in (name, ELSEWHERE.get(name, name))]
    return ", ".join(f"{counts[word]} {word}" for word in dict.fromkeys(words) if counts[word])


def _by_command(found: Judgement) -> dict[str, list[Verdict]]:
    missing = [each for each in found.verdicts if each.verdict == NOT_TESTED]
    commands = dict.fromkeys(each.command for each in missing)
    return {name: [each for each in missing if each.command == name] for name in commands}
