"""What the probe finds of a network before anything is measured, and which numbers that spoils."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter

from selbench.store.schema import Text, checked

GRADIENTS: Final = "attacks that follow gradients"  # what a finding may spoil
ATTACKS: Final = "attacks"
NOTHING: Final = ""
RANDOM = "random"  # the code of outputs that differ from call to call
# How the names of attacks begin that need no gradient of the network under attack.
GRADIENT_FREE = ("hopskipjump-", "noise-", "transfer-", "given-")
CHECKS = "masking"  # the condition that checks for masked gradients: no robust accuracy
DRAWS = 5  # of a network whose outputs are random
_DRAW = re.compile(r" \(draw \d+ of \d+\)$")


@dataclass(frozen=True)
class Finding:
    """A habit of a network that its numbers do not show.

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
        if each.spoils == ATTACKS and attack != CHECKS:
            return each
        if each.spoils == GRADIENTS and not free:
            return each
    return None


def to_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as JSON has them."""
    return [asdict(each) for each in findings]


def from_records(records: Any) -> tuple[Finding, ...]:
    """Return findings that JSON had; raises ValueError where it had none."""
    return checked(FINDINGS.validate_python, records)


def findings_in(manifest: Mapping[str, Any]) -> dict[str, tuple[Finding, ...]]:
    """Return a manifest's findings, by the names of the networks that have some."""
    known = manifest.get("findings", {})
    every = {
        name: from_records(known.get(facts["weights"], []))
        for name, facts in manifest["subjects"].items()
    }
    return {name: found for name, found in every.items() if found}


def draw_name(network: str, number: int) -> str:
    """Name one of the draws of a network whose outputs are random, from 1."""
    return f"{network} (draw {number} of {DRAWS})"


def whole_name(network: str) -> str:
    """Return the name of the network that a draw is of, or the name itself."""
    return _DRAW.sub("", network)


def finding_sentences(findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Say of every network what was found, each thing once for all its draws."""
    return list(
        dict.fromkeys(
            f"{whole_name(name)} {each.sentence}{_effect(each)}"
            for name, found in findings.items()
            for each in found
        )
    )


def _effect(finding: Finding) -> str:
    """Say which numbers a finding changes."""
    if finding.code == RANDOM:
        return f" (means over {DRAWS} draws, ± over draws and images; under attacks no number: -)"
    return f" (under {finding.spoils} no number: -)" if finding.spoils else ""
