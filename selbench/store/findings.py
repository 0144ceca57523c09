"""Findings of the probe: habits of a network, and which numbers they make meaningless."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter

from selbench.store.schema import Text, checked

GRADIENTS: Final = "attacks that follow gradients"  # numbers that a finding may make meaningless
ATTACKS: Final = "attacks"
NOTHING: Final = ""
RANDOM = "random"  # the code of outputs that differ from call to call
# Prefixes of the names of attacks that need no gradient of the network under attack.
GRADIENT_FREE = ("hopskipjump-", "noise-", "transfer-", "given-")
AVERAGED = "-eot"  # suffix of attacks on the mean of a random network's outputs
CHECKS = "masking"  # the condition that checks for masked gradients: no robust accuracy
DRAWS = 5  # of a network with random outputs
_DRAW = re.compile(r" \(draw \d+ of \d+\)$")


@dataclass(frozen=True)
class Finding:
    """A habit of a network that affects its results without being visible in them.

    Attributes:
        code: its kind, such as "no_gradients".
        sentence: what the network does, and what to do about it.
        spoils: the numbers that it makes meaningless: `ATTACKS`, `GRADIENTS` or `NOTHING`.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    code: Text
    sentence: Text
    spoils: Literal["attacks that follow gradients", "attacks", ""] = NOTHING


FINDINGS = TypeAdapter(tuple[Finding, ...])


def spoiling(findings: Iterable[Finding], attack: str) -> Finding | None:
    """Return the first finding that makes accuracy under an attack meaningless."""
    free = attack == CHECKS or attack.startswith(GRADIENT_FREE)
    for each in findings:
        if each.code == RANDOM and attack.endswith(AVERAGED):
            continue
        if each.spoils == ATTACKS and attack != CHECKS:
            return each
        if each.spoils == GRADIENTS and not free:
            return each
    return None


def to_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as values for JSON."""
    return [asdict(each) for each in findings]


def from_records(records: Any) -> tuple[Finding, ...]:
    """Return findings from values of JSON; raise ValueError for anything else."""
    return checked(FINDINGS.validate_python, records)


def findings_in(manifest: Mapping[str, Any]) -> dict[str, tuple[Finding, ...]]:
    """Return a manifest's findings, by the names of networks with findings."""
    known = manifest.get("findings", {})
    every = {
        name: from_records(known.get(facts["weights"], []))
        for name, facts in manifest["subjects"].items()
    }
    return {name: found for name, found in every.items() if found}


def draw_name(network: str, number: int) -> str:
    """Return the name of a draw, counted from 1, of a network with random outputs."""
    return f"{network} (draw {number} of {DRAWS})"


def whole_name(network: str) -> str:
    """Return the network's name from that of a draw; other names unchanged."""
    return _DRAW.sub("", network)


def finding_sentences(findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return a sentence for each finding, with the networks that have it; draws are one network."""
    names: dict[str, dict[str, None]] = {}
    for name, found in findings.items():
        for each in found:
            names.setdefault(f"{each.sentence}{_effect(each)}", {})[whole_name(name)] = None
    return [f"{_each_of([*who])} {sentence}" for sentence, who in names.items()]


def _each_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"each of {', '.join(others)} and {last}" if others else last


def _effect(finding: Finding) -> str:
    """Return a phrase on the numbers that a finding changes."""
    if finding.code == RANDOM:
        without = "under attacks no number without --eot: -"
        return f" (means over {DRAWS} draws, ± over draws and images; {without})"
    return f" (under {finding.spoils} no number: -)" if finding.spoils else ""
