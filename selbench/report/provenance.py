"""How the numbers of a report came about: runs, versions, data, networks, claims."""

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from selbench._kit.files import fingerprint
from selbench.report.evidence import Evidence
from selbench.store.findings import finding_sentences, findings_in
from selbench.store.missing import unfinished
from selbench.store.schema import Made
from selbench.tables.current import data_name


@dataclass(frozen=True)
class Run:
    """A command that put cells in the store.

    Attributes:
        command: its words, as they were given.
        device, versions, began: of that run.
        files: how many files of cells it wrote.
    """

    command: str
    device: str
    versions: str
    began: str
    files: int


@dataclass(frozen=True)
class NetworkFacts:
    """A network under test, the hash of its weights, and the kinds of what the probe found."""

    name: str
    weights: str
    training: str
    diverged: bool
    findings: str


@dataclass(frozen=True)
class Provenance:
    """What a reader needs to make the numbers again.

    Attributes:
        facts: one line each, by its name.
        runs: the commands whose results lie in the store, oldest first.
        networks: those under test.
        findings: what the probe found of them, in sentences.
        unfinished: why not all is there that the latest run was asked for; "" where it is.
    """

    facts: dict[str, str]
    runs: list[Run]
    networks: list[NetworkFacts]
    findings: list[str]
    unfinished: str


def provenance(evidence: Evidence) -> Provenance:
    """Read how a study's numbers came about."""
    manifest = evidence.manifest
    found = findings_in(manifest)
    networks = [
        NetworkFacts(
            name,
            facts["weights"],
            facts.get("training", "not recorded"),
            bool(facts.get("diverged")),
            ", ".join(each.code.replace("_", " ") for each in found.get(name, ()))
            or _none(manifest, facts),
        )
        for name, facts in sorted(manifest["subjects"].items())
    ]
    study = manifest.get("study", {})
    limit = evidence.judgement.about.limit
    facts = {
        "study": evidence.study,
        "results": str(evidence.store.folder),
        "data set": data_name(manifest),
        "checksum of the test images": manifest["data"],
        "test images": "all" if limit is None else f"{limit}, the first of a fixed random order",
        "model": str(study.get("model", {}).get("name", "not recorded")),
        "fingerprint of the training": manifest["training"],
        "format of the store": str(evidence.store.format),
        "latest run": str(manifest.get("began", "not recorded")),
        "hash of the claims": claims_hash(evidence),
        "hash of the study": fingerprint(study),
    }
    why = "".join(unfinished([evidence.store])).removeprefix(f"{evidence.store.folder}: ")
    return Provenance(facts, _runs(evidence), networks, finding_sentences(found), why)


def _none(manifest: dict[str, Any], facts: dict[str, Any]) -> str:
    """Say that nothing was found, or that nobody looked."""
    looked = facts["weights"] in manifest.get("findings", {})
    return "none" if looked else "not recorded"


def claims_hash(evidence: Evidence) -> str:
    """Return one hash of all claims; each verdict has that of its own."""
    return fingerprint({each.claim.id: each.claim.hash for each in evidence.judgement.verdicts})


def _runs(evidence: Evidence) -> list[Run]:
    """Return who wrote the files of cells; those without a record are counted too."""
    made: Counter[tuple[str, str, str, str]] = Counter()
    for each, files in evidence.store.written():
        made[_written(each)] += files
    runs = [Run(*words, count) for words, count in made.items()]
    return sorted(runs, key=lambda run: (run.began, run.command))


def _written(made: Made) -> tuple[str, str, str, str]:
    command = shlex.join(["selbench", *made.get("command", ["(not recorded)"])])
    pairs = sorted(made.get("versions", {}).items())
    versions = ", ".join(f"{name} {what}" for name, what in pairs)
    unknown = "not recorded"
    device, began = (str(made.get(name, unknown)) for name in ("device", "began"))
    return command, device, versions or unknown, began
