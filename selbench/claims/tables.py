"""Verdicts in the formats that people and programs read."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from selbench.claims.claim import UNKNOWN
from selbench.claims.effects import PLAIN, POINTS, RHO, SHARE, Effect
from selbench.claims.judging import (
    INCONCLUSIVE,
    LEVEL,
    NOT_TESTED,
    REFUTED,
    SUPPORTED,
    About,
    Judgement,
    Verdict,
)
from selbench.leaderboard.text import markdown
from selbench.printable import printable
from selbench.study import count_of

FORMS = {RHO: "rho {:.2f}", POINTS: "{:+.1f} points", SHARE: "{:.1f} %", PLAIN: "{:+.3g}"}
ANOTHER = "*"  # marks verdicts on another network than the claim's


def to_table(found: Judgement) -> Group:
    """Render for a terminal of 80 columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in found.verdicts:
        if each.verdict != NOT_TESTED:
            table.add_row(Text(each.claim.id), Text(marked(each), style="bold"), _told(each))
    parts: list[Table | Text] = [
        Text(printable(found.about.study), style="italic"),
        table,
        Text(printable(caption_text(found)), style="dim"),
    ]
    for command, verdicts in _by_command(found).items():
        ids = ", ".join(each.claim.id for each in verdicts)
        reasons = "; ".join(dict.fromkeys(each.reason for each in verdicts))
        told = [f"not tested: {ids} ({reasons})", f"  {command}"]
        parts.append(Text("\n".join(["", *map(printable, told)])))
    return Group(*parts)


def _told(each: Verdict) -> Text:
    """Return the sentence, and below it what speaks for the verdict."""
    below = [effect_text(each.effect), sizes_text(each), each.reason]
    if each.claim.published != UNKNOWN:
        below.append(f"published: {each.claim.published}")
    return Text(each.claim.sentence).append(
        "\n" + printable("; ".join(filter(None, below))), style="dim"
    )


def to_markdown(judgements: Sequence[Judgement]) -> str:
    """Render as Markdown; names are text whatever is in them, and equal stores give equal bytes."""
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
    heads = ["id", "claim", "verdict", "effect (95 %)", "n", "published", "why, or what is missing"]
    lines = [heads, ["---"] * len(heads)]
    for each in found.verdicts:
        last = f"{each.reason}: {each.command}" if each.command else each.reason
        claim = f"{each.claim.sentence} ({each.claim.source}; {each.claim.sure})"
        words = [each.claim.id, claim, marked(each), effect_text(each.effect) or "-"]
        words += [sizes_text(each) or "-", each.claim.published, last or "-"]
        lines.append([markdown(word) for word in words])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
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
        "same_network": each.own,
        "reason": each.reason,
        "p": each.p,
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
    }


def effect_text(effect: Effect | None) -> str:
    """Write "rho -0.93 (-0.98 to -0.79), 16.1 % at alpha = -2, 12.6 % at alpha = 0"."""
    if effect is None:
        return ""
    label = f"{effect.label}: " if effect.label else ""
    if math.isnan(effect.value):
        return f"{label}-"
    form = FORMS[effect.unit]
    ends = form.replace("rho ", "").removesuffix(" points").removesuffix(" %")
    text = label + form.format(effect.value)
    if not math.isnan(effect.low):
        text += f" ({ends.format(effect.low)} to {ends.format(effect.high)})"
    return f"{text}; {effect.detail}" if effect.detail else text


def sizes_text(each: Verdict) -> str:
    """Write over how much an effect is: "15 networks, 3 seeds, 597 images, 15 corruptions"."""
    if each.effect is None:
        return ""
    counts = {
        "network": each.effect.networks,
        "seed": each.effect.seeds,
        "image": each.images,
        "corruption": each.corruptions,
    }
    return ", ".join(count_of(n, noun) for noun, n in counts.items() if n)


def marked(each: Verdict) -> str:
    """Write a verdict, with a star where the claim is of another network."""
    return each.verdict if each.own or each.verdict == NOT_TESTED else each.verdict + ANOTHER


def caption_text(found: Judgement) -> str:
    """Count the verdicts, and say what the star means."""
    counts = [
        f"{sum(each.verdict == verdict for each in found.verdicts)} {verdict}"
        for verdict in (SUPPORTED, REFUTED, INCONCLUSIVE, NOT_TESTED)
    ]
    family = max(each.family for each in found.verdicts)
    parts = [", ".join(counts)]
    together = f"error {100 * LEVEL:g} % over {count_of(family, 'claim')} together (Holm)"
    parts += [together] if family else []
    others = any(ANOTHER in marked(each) for each in found.verdicts)
    parts += [f"{ANOTHER} {_other(found.about)}"] if others else []
    lost = found.about.diverged
    parts += [f"diverged in training: {', '.join(lost)}"] if lost else []
    return " ".join(["; ".join(parts) + ".", *(f"{each}." for each in found.about.findings)])


def _other(about: About) -> str:
    return f"the claim is of another network: the same direction, asked of {about.network}"


def _by_command(found: Judgement) -> dict[str, list[Verdict]]:
    missing = [each for each in found.verdicts if each.verdict == NOT_TESTED]
    commands = dict.fromkeys(each.command for each in missing)
    return {name: [each for each in missing if each.command == name] for name in commands}
